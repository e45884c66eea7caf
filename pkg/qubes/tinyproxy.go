// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const tinyproxyHelp = `usage: tinyproxy-config-patch
Has the updates proxy send everything through Tor. See
tinyproxy-config-patch(8).
`

// The updates proxy's configuration, which is another package's and stays as it
// is (defect 41); the one that it is started with; and what that must have.
const (
	tinyproxyConf  = "/etc/tinyproxy/tinyproxy-updates.conf"
	tinyproxyRun   = "/run/qubes-updates-proxy/tinyproxy.conf"
	upstreamLine   = "Upstream socks5 127.0.0.1:" + whonix.AptGetPortText
	tinyproxyBegin = "## BEGIN: auto-generated configuration by /usr/lib/qubes-whonix/tinyproxy-config-patch"
	tinyproxyEnd   = "## END: auto-generated configuration by /usr/lib/qubes-whonix/tinyproxy-config-patch"
)

// PatchTinyproxy is the program tinyproxy-config-patch.
func PatchTinyproxy(_ context.Context, env cli.Env) error {
	if done, err := alone(env, tinyproxyHelp); done {
		return err
	}
	if err := asRoot(); err != nil {
		return err
	}
	return patchTinyproxy(fsx.Host)
}

// patchTinyproxy fails where the proxy could send anything past Tor: the unit
// does not start it then. A template is not to have one at all, and is not
// changed.
func patchTinyproxy(root fsx.Root) error {
	if whonix.Detect(root).Template {
		return errors.New("this is a template, which gets its updates from a Gateway and is no updates proxy: nothing was changed")
	}
	text, err := root.ReadFile(tinyproxyConf, sizeMax)
	if errors.Is(err, fs.ErrNotExist) {
		return cli.WithHint(fmt.Errorf("%s is missing", tinyproxyConf), "install the package of the updates proxy again")
	}
	if err != nil {
		return err
	}
	after, err := withUpstream(text)
	if err != nil {
		return cli.WithHint(err, "take it out, and let the updates proxy have Tor as its only upstream")
	}
	const dirMode, mode = 0o755, 0o644
	if old, err := root.ReadFile(tinyproxyRun, sizeMax); err == nil && bytes.Equal(old, after) {
		return nil
	}
	if err := root.MkdirAll(filepath.Dir(tinyproxyRun), dirMode); err != nil {
		return err
	}
	return root.WriteAtomic(tinyproxyRun, after, mode)
}

// withUpstream is a configuration with Tor as its one upstream. Ours is
// rewritten as a whole, so that half a block becomes a whole one. Any other
// directive of the kind is an error: beside ours it would stay in force (defect
// 41).
func withUpstream(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, 0) >= 0 {
		return text, fmt.Errorf("%s: there is a NUL in it", tinyproxyConf)
	}
	var out []byte
	number, present := 0, 0
	for line := range bytes.Lines(text) {
		number++
		words := strings.Fields(string(line))
		if len(words) == 0 || !isUpstream(words[0]) {
			out = append(out, line...)
			continue
		}
		if !strings.EqualFold(strings.Join(words, " "), upstreamLine) {
			return text, fmt.Errorf("%s:%d: another upstream: %s", tinyproxyConf, number, shown(strings.TrimSpace(string(line))))
		}
		if present++; present == 1 {
			out = append(out, line...)
		}
	}
	if present > 0 {
		return out, nil
	}
	if len(out) > 0 && out[len(out)-1] != '\n' {
		out = append(out, '\n')
	}
	return append(out, tinyproxyBegin+"\n"+upstreamLine+"\n"+tinyproxyEnd+"\n"...), nil
}

// isUpstream reports whether a directive decides where requests are sent on
// to. tinyproxy does not care for case; older ones know "No Upstream DOMAIN".
func isUpstream(word string) bool {
	switch strings.ToLower(word) {
	case "upstream", "no", "reversepath":
		return true
	}
	return false
}
