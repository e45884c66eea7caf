// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// Policies for programs that torsocks cannot hold, as in uwt_unsupported.
const (
	policyIsolate = "isolate"
	policyWarn    = "warn"
	policyRefuse  = "refuse"
)

// unreachable looks at everything that will run when the program is executed
// and says why the preloaded library would not hold it; empty if it would.
// What cannot be examined cannot be vouched for.
func unreachable(program, pathList string, lib elfx.File) (file, why string) {
	chain, err := elfx.Chain(program, pathList)
	for _, f := range chain {
		if why := f.Unreached(lib); why != "" && (f.Kind != elfx.Other || f.Path != program) {
			return f.Path, why
		}
	}
	switch {
	case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP), errors.Is(err, elfx.ErrNotRegular):
		return "", "" // it runs, isolated, or the kernel refuses to execute it
	}
	return program, err.Error()
}

// unreached acts on programs that torsocks cannot hold. handled is false where
// the program is to run as usual.
func (w *wrapper) unreached(ctx context.Context, lib string, args []string) (handled bool, err error) {
	program := w.program()
	file, why := unreachable(program, w.set.Vars["PATH"], preloadable(lib))
	if why == "" {
		return false, nil
	}
	chosen, key := w.set.unsupported(w.parent)
	w.questioned(chosen, key)
	policy := effective(chosen, key != "", func() string {
		cannot := canIsolate(ctx)
		if cannot != "" {
			why += "; isolation cannot be had: " + cannot
		}
		return cannot
	})
	w.trace("torsocks cannot hold %q (%s: %s): %s", program, file, why, policy)
	if policy == policyIsolate {
		argv := append([]string{isolatorPath, "--isolate", "--argv0=" + w.zeroarg, "--", program}, args...)
		return true, w.replace(isolatorPath, argv, w.environ())
	}
	hint := fmt.Sprintf("set uwt_unsupported[\"%s\"]=isolate, warn or refuse in /etc/uwt.d/50_user.conf, or uwt_unsupported in the environment; see uwt.d(5)", w.parent)
	if policy == policyWarn {
		w.env.Warnf("'%s' ignores LD_PRELOAD (%s: %s): it runs without stream isolation", program, file, why)
		w.env.Hintf("%s", hint)
		w.warned = program
		return false, nil
	}
	return true, &cli.Exit{Code: execx.StatusNotExecutable, Err: cli.WithHint(
		fmt.Errorf("'%s' ignores LD_PRELOAD (%s: %s); refusing to run it unisolated", program, file, why), "%s", hint)}
}

// unsupported is what is set for programs that torsocks cannot hold: for this
// one, else for all. The key is empty where nothing is set.
func (s settings) unsupported(program string) (policy, key string) {
	if policy, key = s.element(arrayUnsupported, program); policy != "" {
		return policy, key
	}
	if policy = s.Arrays[arrayUnsupported]["0"]; policy != "" {
		return policy, "0"
	}
	return "", ""
}

// questioned complains about what is no policy.
func (w *wrapper) questioned(policy, key string) {
	switch policy {
	case "", policyIsolate, policyWarn, policyRefuse:
		return
	}
	at := w.set.Origins[arrayUnsupported+"["+key+"]"]
	w.env.Warnf("%s: uwt_unsupported is %q: not one of isolate, warn, refuse; refuse counts", at, policy)
}

// effective is what is done. Where nobody has chosen, isolation is tried, and
// where it cannot be had, the program may run only on a machine that has no
// way out but Tor. Whoever chose isolation gets it or nothing.
func effective(policy string, chosen bool, cannot func() string) string {
	switch {
	case policy == policyWarn:
		return policyWarn
	case chosen && policy != policyIsolate:
		return policyRefuse
	case cannot() == "":
		return policyIsolate
	case !chosen && whonixRole(fsx.Host):
		return policyWarn
	}
	return policyRefuse
}

// preloadable is the library as a file to compare programs with. Where it
// cannot be read this machine's own dynamic programs stand for it.
func preloadable(lib string) elfx.File {
	for _, p := range []string{lib, libraryPath(fsx.Host), "/bin/sh"} {
		if f, err := elfx.Examine(p); err == nil && f.Kind == elfx.ELF {
			return f
		}
	}
	return elfx.File{}
}

// canIsolate asks the isolator whether it works here; empty says that it does.
func canIsolate(ctx context.Context) string {
	var out bytes.Buffer
	err := execx.Cmd{Path: isolatorPath, Args: []string{"--check"}, Stdout: &out, Stderr: &out}.Run(ctx)
	if err == nil {
		return ""
	}
	if said, _, _ := strings.Cut(strings.TrimSpace(out.String()), "\n"); said != "" {
		return strings.TrimPrefix(said, "uwt: error: ")
	}
	return err.Error()
}
