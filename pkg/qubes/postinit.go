// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"fmt"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const postinitHelp = `usage: qubes-whonix-postinit
Makes a machine in Qubes, once it has started, what dom0 wants it to be. See
qubes-whonix-postinit(8).
`

// Service flags: the first two are set from dom0, the others tell drop-ins of
// 2020 what this machine is.
const (
	flagTorEnable   = "/run/qubes-service/whonix-tor-enable"
	flagTorDisable  = "/run/qubes-service/whonix-tor-disable"
	flagGateway     = "/run/qubes-service/whonix-gateway"
	flagWorkstation = "/run/qubes-service/whonix-workstation"
	appVMMarker     = "/run/qubes/this-is-appvm"
)

// What the flags make of Tor's configuration: the last line counts.
const (
	torEnableFile  = torrcDir + "/49_tor_enable.conf"
	torDisableFile = torrcDir + "/51_tor_disable.conf"
	torEnable      = "DisableNetwork 0\n"
	torDisable     = "DisableNetwork 1\n"
)

// Postinit is the program qubes-whonix-postinit.
func Postinit(ctx context.Context, env cli.Env) error {
	if done, err := alone(env, postinitHelp); done {
		return err
	}
	if err := asRoot(); err != nil {
		return err
	}
	return postinit(ctx, fsx.Host, env)
}

// postinit does nothing outside Qubes and in templates. A Gateway's addresses
// are not replaced here but before Tor is started.
func postinit(ctx context.Context, root fsx.Root, env cli.Env) error {
	m := whonix.Detect(root)
	if !m.Qubes || m.Template || m.Role != whonix.Gateway && m.Role != whonix.Workstation {
		return nil
	}
	links := repairLinks(root, env) // before addresses are written into what they lead to
	var flagged, own error
	if m.Role == whonix.Gateway {
		if m.NetVM {
			flagged = flag(root, flagGateway)
		}
		own = switchTor(root, env)
	} else {
		if root.Exists(appVMMarker) {
			flagged = flag(root, flagWorkstation)
		}
		own = replaceIPs(ctx, root, env)
	}
	return errors.Join(links, flagged, own)
}

// flag sets a service flag, if it is not set.
func flag(root fsx.Root, path string) error {
	if root.Exists(path) {
		return nil
	}
	if err := root.MkdirAll("/run/qubes-service", 0o755); err != nil {
		return err
	}
	return root.Touch(path, 0o644)
}

// switchTor switches Tor's network on or off, if dom0 says so; where it says
// both, on counts, as ever. The new line is there before the old one goes.
func switchTor(root fsx.Root, env cli.Env) error {
	put, text, drop := torEnableFile, torEnable, torDisableFile
	switch {
	case root.Exists(flagTorEnable):
	case root.Exists(flagTorDisable):
		put, text, drop = torDisableFile, torDisable, torEnableFile
	default:
		return nil
	}
	if old, err := root.ReadFile(put, savedMax); err != nil || string(old) != text {
		if err := root.MkdirAll(torrcDir, 0o755); err != nil {
			return err
		}
		if err := root.WriteAtomic(put, []byte(text), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(env.Stdout, "INFO: %s says: %s", put, text)
	}
	return root.Remove(drop)
}
