// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"

	"whonix-networking/pkg/execx"
)

// streams are a child's.
type streams struct {
	name     string // that it is called by
	in       io.Reader
	out, err io.Writer
}

// ownTimeout bounds what is done as an account.
const ownTimeout = 10 * time.Minute

// asAccount runs this program again, as an account: with its ids and no others,
// so that whatever the account has put into its home can lead to nothing that it
// could not reach itself.
func asAccount(ctx context.Context, a account, s streams, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, ownTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Args[0] = s.name
	cmd.Dir = "/"
	cmd.Env = execx.CleanEnv(nil)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: []uint32{}},
		Setsid:     true, // no terminal of root's to push characters into
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("as %s: %w", a.name, err)
	}
	return nil
}
