// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// Files by which others see that the firewall is not loaded.
const (
	failedDir       = "/run/anon-firewall"
	failedFile      = failedDir + "/failed.status"
	failedDirQubes  = "/run/qubes-service"
	failedFileQubes = failedDirQubes + "/whonix-firewall-failed"
)

const firewallProgram = "/usr/bin/whonix_firewall"

// loadTimeout bounds the child: a fragment that never ends must end in
// lockdown, and before the service manager gives up on the unit.
const loadTimeout = 75 * time.Second

// enabler is the service entry with its ways to the system.
type enabler struct {
	*shutter
	policy func(nft.Chain) (string, error)
}

const enableUsage = `usage: enable-firewall [--early]
Load the firewall; if that fails, shut the network.
     --early     shut the network unless a firewall is there already
 -h, --help      show this text
     --version   show the version
`

// Enable is the program enable-firewall.
func Enable(ctx context.Context, env cli.Env) error {
	e := &enabler{shutter: newShutter(fsx.Host), policy: nft.ChainPolicy}
	return e.run(ctx, env)
}

func (e *enabler) run(ctx context.Context, env cli.Env) error {
	switch args := env.Args[1:]; {
	case len(args) == 0:
		return e.enable(ctx, env)
	case len(args) == 1 && args[0] == "--early":
		return e.early(ctx, env)
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(env.Stdout, enableUsage)
		return err
	default:
		return cli.WithHint(cli.Usagef("unknown argument %q", args[len(args)-1]), "%s --help", env.Name())
	}
}

// early shuts the network before anything is configured, so that no packet
// passes between the start of the network and the firewall. A firewall that is
// loaded stays: an upgrade must not cut the network.
func (e *enabler) early(ctx context.Context, env cli.Env) error {
	if policy, err := e.policy(output); err == nil && policy == dropPolicy {
		return nil
	}
	return e.shut(ctx, env)
}

// enable loads the firewall. Every failure ends with the network shut, the
// status files there and exit code 1.
func (e *enabler) enable(ctx context.Context, env cli.Env) error {
	if _, ok := env.Lookup("nftables_cmd"); ok {
		env.Warnf("environment: nftables_cmd is ignored")
	}
	err := e.load(ctx, env)
	if err == nil {
		return errors.Join(e.root.Remove(failedFile), e.root.Remove(failedFileQubes)) // D17
	}
	// The network is shut also when this process has been told to end.
	ctx = context.WithoutCancel(ctx)
	env.Errorf("%v", err)
	for _, f := range [][2]string{{failedDir, failedFile}, {failedDirQubes, failedFileQubes}} {
		if err := errors.Join(e.root.MkdirAll(f[0], 0o755), e.root.Touch(f[1], 0o644)); err != nil {
			env.Warnf("%v", err)
		}
	}
	if err := e.shut(ctx, env); err != nil {
		return &cli.Exit{Code: cli.CodeFailed, Err: err}
	}
	env.Hintf("the network is shut; mend the cause, then run: systemctl restart whonix-firewall")
	return &cli.Exit{Code: cli.CodeFailed}
}

// load runs whonix_firewall as a process of its own, so that whatever becomes
// of it this one goes on, and believes it only when the kernel has the chains
// and the record of what was loaded is new (D4).
func (e *enabler) load(ctx context.Context, env cli.Env) error {
	if !e.hasRole() {
		return errors.New("this machine has no role: none of the packages anon-gw-base-files, anon-ws-base-files and libvirt-dist is installed")
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	before := e.loadedID()
	child := execx.Cmd{
		Path:   e.root.Path(firewallProgram),
		Env:    env.Environ, // settings may come by it; whonix_firewall sorts it out
		Stdout: env.Stdout,
		Stderr: env.Stderr,
	}
	if err := child.Run(ctx); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fmt.Errorf("%s did not end in %v", firewallProgram, loadTimeout)
		}
		return err
	}
	if e.loadedID() == before {
		return fmt.Errorf("%s ended with success but has loaded nothing", firewallProgram)
	}
	for _, c := range []nft.Chain{input, forward, output} {
		if policy, err := e.policy(c); err != nil || policy != dropPolicy {
			return fmt.Errorf("%s ended with success, but chain %s does not drop by default", firewallProgram, c)
		}
	}
	return nil
}

func (e *enabler) hasRole() bool {
	for _, marker := range []string{whonix.GatewayMarker, whonix.WorkstationMarker, whonix.HostMarker, whonix.HostMarker2020} {
		if e.root.Exists(marker) {
			return true
		}
	}
	return false
}

// loadedID tells one record of a loaded script from the next: each is a new
// file.
func (e *enabler) loadedID() string {
	var st unix.Stat_t
	if err := unix.Stat(e.root.Path(loadedFile), &st); err != nil {
		return ""
	}
	return fmt.Sprint(st.Ino, st.Mtim.Nano())
}
