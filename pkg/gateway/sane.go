// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"fmt"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// replaceIPs writes this machine's addresses over the shipped ones, in Qubes.
const replaceIPs = "/usr/lib/qubes-whonix/replace-ips"

// waited says that the first call of this boot has waited for the network.
const waited = runDir + "/initial-wait-at-boot"

const saneHelp = `usage: %s
Makes everything right that must be right before Tor starts. See
tor-config-sane(8).
`

// Sane is the program tor-config-sane, and by its other names one of its steps.
func Sane(ctx context.Context, env cli.Env) error {
	switch env.Name() {
	case "generate-tor-service-defaults-torrc-anondist":
		return Listeners(ctx, env)
	case "tor-wait-for-network":
		return Wait(ctx, env)
	case "torrc-d-cleaner":
		return Clean(ctx, env)
	}
	if done, err := plain(env, saneHelp); done {
		return err
	}
	w := &waiter{root: fsx.Host, env: env, bindable: bindable, device: internalDevice}
	return (&sane{root: fsx.Host, env: env, wait: w.run, list: &listenerList{fsx.Host, env, bindable}}).run(ctx)
}

// sane are the steps before each start of Tor.
type sane struct {
	root fsx.Root
	env  cli.Env
	wait func(context.Context)
	list *listenerList
}

// run tries all steps, whatever fails (defect 7).
func (s *sane) run(ctx context.Context) error {
	machine := whonix.Detect(s.root)
	failed := false
	step := func(name string, err error) {
		if err != nil {
			failed = true
			fmt.Fprintf(s.env.Stderr, "%s: ERROR: %s: %v\n", s.env.Name(), name, err)
		}
	}
	env := s.env
	env.Environ = nil // nothing from there chooses Tor's directory here
	for _, err := range newRepairer(s.root, env).run() {
		step("repair-torrc", err)
	}
	if !machine.Template && !s.root.Exists(waited) {
		s.wait(ctx)
		step(waited, s.noteWait())
	}
	// Before the list: whether Tor can have an address is asked of the address
	// that this machine has now, and not of the last boot's or the shipped one.
	if machine.Qubes && !machine.Template {
		step(replaceIPs, execx.Cmd{
			Path: s.root.Path(replaceIPs), Env: execx.CleanEnv(nil), Stdout: s.env.Stdout, Stderr: s.env.Stderr,
		}.Run(ctx))
	}
	step("generate-tor-service-defaults-torrc-anondist", s.list.run())
	if failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// noteWait lets later calls of this boot not wait again.
func (s *sane) noteWait() error {
	const dirMode = 0o775
	if err := s.root.MkdirAll(runDir, dirMode); err != nil {
		return err
	}
	return s.root.Touch(waited, fileMode)
}
