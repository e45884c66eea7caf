// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/cli"
)

const oopsUsage = `usage: panic-on-oops [enable | disable]
       panic-on-oops --help | --version

enable makes the kernel stop at the first oops and the first warning; disable
puts back what was before. Without an argument: enable. Fragments of the
administrator's in /etc/panic-on-oops_pre.d/*.conf are run before.
`

// oopsState holds what was before enable, in the form of sysctl.conf(5).
const (
	oopsStateDir = "/run/security-misc"
	oopsState    = oopsStateDir + "/panic-on-oops"
)

// oopsKey is a value of the kernel's; usual is its own default, which a
// limit of 0 is not: that means no limit (defect D-23).
type oopsKey struct {
	name         string
	panic, usual int
}

// PanicOnOops is the program panic-on-oops.
func PanicOnOops(ctx context.Context, env cli.Env) error { return panicOnOops(ctx, env, host()) }

func panicOnOops(ctx context.Context, env cli.Env, on system) error {
	args, done, err := usage(env, "panic-on-oops", oopsUsage, nil)
	if err != nil {
		return cli.Usagef("%v", err)
	}
	if done {
		return nil
	}
	if skip, err := hooks(ctx, env, on, "panic-on-oops"); skip || err != nil {
		return err
	}
	action := "enable"
	if len(args) > 0 {
		action = strings.Join(args, " ")
	}
	switch action {
	case "enable":
		return oopsEnable(env, on)
	case "disable":
		return oopsDisable(env, on)
	}
	fmt.Fprintf(env.Stdout, "ERROR: Unrecognized action '%s'!\n", printable(action))
	return &cli.Exit{Code: cli.CodeFailed}
}

// oopsKeys are those that this kernel has: limits since Linux 6.2, before that
// a switch.
func oopsKeys(on system) []oopsKey {
	keys := []oopsKey{{"kernel.oops_limit", 1, 10000}, {"kernel.warn_limit", 1, 0}}
	if !on.root.Exists(sysctlPath(keys[0].name)) {
		keys[0] = oopsKey{"kernel.panic_on_oops", 1, 0}
	}
	return slices.DeleteFunc(keys, func(k oopsKey) bool { return !on.root.Exists(sysctlPath(k.name)) })
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

func oopsEnable(env cli.Env, on system) error {
	keys := oopsKeys(on)
	if len(keys) == 0 {
		return errors.New("the kernel has neither kernel.oops_limit nor kernel.panic_on_oops; is /proc mounted?")
	}
	if !on.root.Exists(oopsState) { // a second enable does not take its own for what was before
		var text strings.Builder
		for _, k := range keys {
			data, err := on.root.ReadFile(sysctlPath(k.name), textMax)
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "%s = %s\n", k.name, strings.TrimSpace(string(data)))
		}
		if err := on.root.MkdirAll(oopsStateDir, dirMode); err != nil {
			return err
		}
		if err := on.root.WriteAtomic(oopsState, []byte(text.String()), fileMode); err != nil {
			return err
		}
	}
	var failures []error
	for _, k := range keys {
		failures = append(failures, setSysctl(env, on, k.name, k.panic))
	}
	return errors.Join(failures...)
}

func oopsDisable(env cli.Env, on system) error {
	data, err := on.root.ReadFile(oopsState, textMax)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before := map[string]int{}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		if n, err := strconv.Atoi(value); err == nil {
			before[key] = n
		}
	}
	var failures []error
	for _, k := range oopsKeys(on) {
		value, known := before[k.name]
		if !known {
			value = k.usual
		}
		failures = append(failures, setSysctl(env, on, k.name, value))
	}
	if err := errors.Join(failures...); err != nil {
		return err
	}
	return on.root.Remove(oopsState)
}

func setSysctl(env cli.Env, on system, name string, value int) error {
	f, err := os.OpenFile(on.root.Path(sysctlPath(name)), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%d\n", value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(env.Stdout, "%s = %d\n", name, value)
	return nil
}
