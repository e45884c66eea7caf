// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/netlab"
)

// Addresses of the tests' namespaces, all on lo.
const (
	addrA     = "192.0.2.1"
	addrB     = "192.0.2.2"
	addrA6    = "2001:db8::a"
	elsewhere = "203.0.113.7" // on no interface
)

// patience is how long anything in a test may take.
const patience = time.Minute

// newNetwork is a namespace with the addresses.
func newNetwork(t testing.TB) *netlab.Namespace {
	t.Helper()
	n, err := netlab.New("bindp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	lo := netlab.Port{Namespace: n, Interface: "lo"}
	if err := lo.Address(addrA+"/32", addrB+"/32", addrA6+"/128"); err != nil {
		t.Fatal(err)
	}
	return n
}

// run is one run of a program.
type run struct {
	name  string   // the test binary's part; empty: the launcher
	env   []string // besides nothing
	args  []string
	stdin io.Reader
	user  *syscall.Credential // nil: the test's own
	path  string              // of the test binary; empty: where it is
}

// ended is how a run ended.
type ended struct {
	out, err string
	code     int // -1: by a signal
	pid      int
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// command is the run as a command that is not started yet.
func (r run) command(ctx context.Context, t testing.TB) *exec.Cmd {
	t.Helper()
	name := r.name
	if name == "" {
		name = launcherName
	}
	cmd := exec.CommandContext(ctx, self(t))
	cmd.Args = append([]string{name}, r.args...)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "GORACE=atexit_sleep_ms=0"}, r.env...)
	cmd.Stdin = r.stdin
	if r.path != "" {
		cmd.Path = r.path
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: r.user}
	return cmd
}

// in runs in the namespace, to the end.
func (r run) in(t testing.TB, n *netlab.Namespace) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := r.command(ctx, t)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := n.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ended{out: out.String(), err: complaint.String(), code: cmd.ProcessState.ExitCode(), pid: cmd.ProcessState.Pid()}
}

// probing is the launcher's arguments for a probe with steps.
func probing(t testing.TB, mode Mode, steps ...string) []string {
	t.Helper()
	return append([]string{"--mode=" + string(mode), "--argv0=" + probeName, "--", self(t)}, steps...)
}

// expect compares what a probe under the launcher printed.
func expect(t *testing.T, n *netlab.Namespace, mode Mode, env []string, steps []string, want ...string) {
	t.Helper()
	got := run{env: env, args: probing(t, mode, steps...)}.in(t, n)
	if got.out != strings.Join(want, "\n")+"\n" || got.err != "" || got.code != 0 {
		t.Errorf("mode %s, %v, %v:\nprinted %q, want %q\ncode %d, complaint %q", mode, env, steps, got.out, want, got.code, got.err)
	}
}

// filterModes are the modes with a filter.
func filterModes() []Mode { return []Mode{ModeAddress, ModeValue} }
