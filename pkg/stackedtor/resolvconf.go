// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// Files of name resolution.
const (
	resolvConf         = "/etc/resolv.conf"
	resolvConfGateway  = "/etc/resolv.conf.whonix"
	resolvConfReplaced = "/etc/resolv.conf.replaced"
)

const repairHelp = `usage: resolv-conf-repair
Makes /etc/resolv.conf lead to the Gateway's DNS again. See
resolv-conf-repair(8).
`

// RepairResolvConf is the program resolv-conf-repair.
func RepairResolvConf(_ context.Context, env cli.Env) error {
	if len(env.Args) > 1 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
		fmt.Fprint(env.Stdout, repairHelp)
		return nil
	}
	if len(env.Args) > 1 {
		return cli.Usagef("%q: this program takes no arguments", env.Args[1])
	}
	return repairResolvConf(fsx.Host, env)
}

// repairResolvConf puts the link back that some client of DHCP or resolvconf
// has replaced (defect 45). What was there is kept.
func repairResolvConf(root fsx.Root, env cli.Env) error {
	host, gateway, kept := root.Path(resolvConf), root.Path(resolvConfGateway), root.Path(resolvConfReplaced)
	if !root.IsFile(resolvConfGateway) {
		return cli.WithHint(fmt.Errorf("%s is missing: %s is left as it is", resolvConfGateway, resolvConf), "install the package whonix-ws-network-conf again")
	}
	old, err := os.Lstat(host)
	what := "missing"
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if now, err := os.Stat(host); err == nil {
			if want, err := os.Stat(gateway); err == nil && os.SameFile(now, want) {
				return nil
			}
		}
		what = "a file of its own"
		if old.Mode()&fs.ModeSymlink != 0 {
			to, _ := os.Readlink(host)
			what = "a link to " + to
		}
		if err := root.Remove(resolvConfReplaced); err != nil {
			return err
		}
		// The name never vanishes: resolvers would ask 127.0.0.1.
		if err := unix.Linkat(unix.AT_FDCWD, host, unix.AT_FDCWD, kept, 0); err != nil {
			return fmt.Errorf("keep %s as %s: %w", resolvConf, resolvConfReplaced, err)
		}
	}
	temporary := host + ".new"
	if err := root.Remove(resolvConf + ".new"); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Base(resolvConfGateway), temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, host); err != nil {
		_ = os.Remove(temporary)
		return err
	}
	fmt.Fprintf(env.Stdout, "WARNING: %s was %s: it leads to the Gateway's DNS again\n", resolvConf, what)
	return nil
}
