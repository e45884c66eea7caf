// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"io"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// bootName is the generator's name for systemd.
const bootName = "anon-ws-disable-stacked-tor"

// optIn is the file that has the units made at boot.
const optIn = "/etc/anon-ws-disable-stacked-tor.d/generate-at-boot"

func optedIn(root fsx.Root) bool { return root.Exists(optIn) }

// generateAtBoot is systemd's generator, see systemd.generator(7): it writes
// the units into the first directory of its arguments. systemd waits for it, so
// it takes its time from nobody: it asks no service, and gives up early. What
// is shipped then works as ever.
func generateAtBoot(ctx context.Context, env cli.Env, root fsx.Root) error {
	const enough = 5 * time.Second
	if !optedIn(root) {
		return nil
	}
	if len(env.Args) < 2 || env.Args[1] == "" || env.Args[1][0] != '/' {
		return cli.Usagef("the directory for the units is missing: this is a systemd.generator(7)")
	}
	ctx, cancel := context.WithTimeout(ctx, enough)
	defer cancel()
	env.Stderr = prefixed{env.Name() + ": ", env.Stderr}
	noAnswer := func(fsx.Root) func(string) (string, bool) {
		return func(string) (string, bool) { return "", false }
	}
	g := &generator{env: env, root: root, when: atBoot, units: env.Args[1], qubesdb: noAnswer}
	return g.run(ctx)
}

// prefixed tells lines of one program from others in the kernel's log.
type prefixed struct {
	prefix string
	to     io.Writer
}

// Write writes what is one or more whole lines.
func (p prefixed) Write(text []byte) (int, error) {
	if _, err := io.WriteString(p.to, p.prefix+string(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}
