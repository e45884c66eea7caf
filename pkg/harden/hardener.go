// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
)

const hardenerUsage = `usage: permission-hardener enable [--dry-run] [--json]
       permission-hardener disable FILE|all
       permission-hardener explain FILE
       permission-hardener print-policy [--json]
       permission-hardener print-state [--json]
       permission-hardener print-policy-applied-state [--json]
       permission-hardener print-diagnostics
       permission-hardener --help | --version

Enforces owner, group and mode of files, takes setuid, setgid and file
capabilities from programs, remembers what was, and restores it. The rules are
in /etc/permission-hardener.d/*.conf.

Examples:
  permission-hardener enable
  permission-hardener disable all
  permission-hardener disable /usr/bin/newgrp
`

// hardenerLock keeps two runs apart.
const hardenerLock = "/run/permission-hardener.lock"

// hardenerWait is how long a run waits for another one.
const hardenerWait = time.Minute

// PermissionHardener is the program permission-hardener. By its names of 2020
// it needs no argument.
func PermissionHardener(ctx context.Context, env cli.Env) error {
	return permissionHardener(ctx, env, host())
}

// hardenerCommand is a command line.
type hardenerCommand struct {
	action string
	file   string
	json   bool
	dry    bool
}

func permissionHardener(ctx context.Context, env cli.Env, on system) error {
	const name = "permission-hardener"
	var c hardenerCommand
	options := pflag.NewFlagSet("", pflag.ContinueOnError)
	options.BoolVar(&c.json, "json", false, "")
	options.BoolVar(&c.dry, "dry-run", false, "")
	output := env
	output.Stdout = env.Stderr // the usage, as ever
	for _, a := range env.Args {
		if a == "--version" {
			output = env
		}
	}
	args, done, err := usage(output, name, hardenerUsage, options)
	if err == nil && done {
		return nil
	}
	if err == nil {
		err = c.parse(env.Name(), args)
	}
	h := &hardener{system: on, names: newAccounts(on.root)}
	h.notice = func(f string, a ...any) { fmt.Fprintf(env.Stderr, name+" [NOTICE]: "+f+"\n", a...) }
	h.problem = func(f string, a ...any) { fmt.Fprintf(env.Stderr, name+" [ERROR]: "+f+"\n", a...) }
	if err != nil {
		h.problem("%v", err)
		fmt.Fprint(env.Stderr, hardenerUsage)
		return &cli.Exit{Code: cli.CodeFailed}
	}
	if !h.privileged {
		h.problem("Not running as root, aborting.")
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return h.run(ctx, env, c)
}

// parse reads the arguments after the options.
func (c *hardenerCommand) parse(called string, args []string) error {
	if len(args) == 0 {
		switch called {
		case "permission-hardening":
			args = []string{"enable"}
		case "permission-hardening-undo":
			args = []string{"disable", disableAll}
		default:
			return errors.New("no action given")
		}
	}
	c.action = args[0]
	rest := args[1:]
	switch c.action {
	case "disable", "explain":
		if len(rest) != 1 || rest[0] == "" {
			return fmt.Errorf("%s needs one file", c.action)
		}
		c.file, rest = rest[0], nil
	case "enable", "print-policy", "print-state", "print-policy-applied-state", "print-diagnostics":
	default:
		return fmt.Errorf("unknown action: '%s'", printable(c.action))
	}
	if len(rest) > 0 {
		return fmt.Errorf("%s takes no argument: '%s'", c.action, printable(rest[0]))
	}
	if c.dry && c.action != "enable" {
		return errors.New("--dry-run is an option of enable")
	}
	if c.json && (c.action == "disable" || c.action == "explain" || c.action == "print-diagnostics" || c.action == "enable" && !c.dry) {
		return errors.New("--json is an option of print-policy, print-state, print-policy-applied-state and enable --dry-run")
	}
	return nil
}

func (h *hardener) run(ctx context.Context, env cli.Env, c hardenerCommand) error {
	if c.action == "enable" && !c.dry || c.action == "disable" {
		waiting, cancel := context.WithTimeout(ctx, hardenerWait)
		defer cancel()
		unlock, err := h.root.Lock(waiting, hardenerLock)
		if err != nil {
			h.problem("%v", err)
			return &cli.Exit{Code: cli.CodeFailed}
		}
		defer unlock()
	}
	m, err := readMemory(h.root)
	if err != nil { // nothing may be forgotten: nothing is done
		h.fail(codeFailed, "%v", err)
		return h.end()
	}
	switch {
	case c.action == "disable":
		h.disable(ctx, c.file, m)
	case c.action == "enable" && !c.dry:
		h.enable(ctx, m)
	default:
		h.print(env.Stdout, c, m)
	}
	return h.end()
}

func (h *hardener) end() error {
	if h.code == 0 {
		return nil
	}
	h.problem("Exiting with non-zero exit code: '%d'", h.code)
	return &cli.Exit{Code: h.code}
}

// decide reads the configuration and the machine, and says what enable would do
// and remember. Complaints are reported.
func (h *hardener) decide(m *memory) (p *plan, pol *policy, f *facts, after *memory) {
	rules, wrong := readRules(h.root)
	pol, more := newPolicy(h.root, rules)
	for _, c := range append(wrong, more...) {
		h.fail(codeConfig, "%s: %s", c.at, c.text)
	}
	if len(wrong) > 0 {
		h.problem("The files that these lines are in are left out; everything else is in force.")
	}
	found, failures := scan(h.root, pol.tops())
	for _, err := range failures {
		h.fail(codeFailed, "not searched for setuid: %v", err)
	}
	f, err := h.facts(found)
	if err != nil {
		h.fail(codeFailed, "%v", err)
		return nil, pol, nil, nil
	}
	after = m.clone()
	p = enablePlan(pol, after, f)
	for _, failure := range p.failures {
		h.fail(failure.code, "%s", failure.text)
	}
	return p, pol, f, after
}

func (h *hardener) enable(ctx context.Context, m *memory) {
	p, _, _, after := h.decide(m)
	if p == nil {
		return
	}
	h.commit(ctx, p, m, after)
	if len(p.steps) > 0 {
		h.notice("To compare what was with what is: diff %s %s", existingDir+overrideFile, appliedDir+overrideFile)
	}
}

func (h *hardener) disable(ctx context.Context, which string, m *memory) {
	if which != disableAll {
		if canonical, err := h.root.Canonical(which); err == nil && which[0] == '/' {
			if _, recorded := m.existing.of[which]; !recorded {
				which = canonical
			}
		}
	}
	f, err := h.facts(nil)
	if err != nil {
		h.fail(codeFailed, "%v", err)
		return
	}
	after := m.clone()
	p, known := disablePlan(which, after, f)
	if !known && which != disableAll {
		h.notice("'%s' is not hardened, and is left unchanged. The full path is needed, as in: permission-hardener disable /usr/bin/newgrp", printable(which))
		return
	}
	for _, failure := range p.failures {
		h.fail(failure.code, "%s", failure.text)
	}
	h.commit(ctx, p, m, after)
}

// commit does what was planned. What has to be known to undo it is on disk
// before the first file is touched.
func (h *hardener) commit(ctx context.Context, p *plan, before, after *memory) {
	pending := after.with(before)
	if err := pending.write(h.root); err != nil {
		h.fail(codeFailed, "nothing was changed: %v", err)
		return
	}
	for _, path := range h.apply(ctx, p) {
		after.undo(path, before)
	}
	after.follows(pending)
	if err := after.write(h.root); err != nil {
		h.fail(codeFailed, "%v", err)
	}
}
