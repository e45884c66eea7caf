// SPDX-License-Identifier: GPL-3.0-or-later

package execx

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleVariable makes the test binary play a part instead of testing.
const roleVariable = "EXECX_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "replace":
		// What cli.Main does: it must not change what the program inherits.
		signal.Notify(make(chan os.Signal, 1), os.Interrupt, unix.SIGTERM)
		err := Replace("/nonexistent", []string{"x"}, nil)
		fmt.Fprintln(os.Stderr, err)
		err = Replace("/bin/grep", []string{"grep", "-E", "^(SigIgn|Max open files)", "/proc/self/status", "/proc/self/limits"}, nil)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(StatusNotFound)
	default:
		os.Exit(m.Run())
	}
}

// TestReplaceKeepsIgnoredSignals is acceptance 20: what the caller ignores is
// ignored in the program, nothing else is, and the soft limit of open files is
// the caller's.
func TestReplaceKeepsIgnoredSignals(t *testing.T) {
	for _, names := range []string{
		"", "QUIT PIPE TERM", "PIPE", "HUP INT QUIT PIPE ALRM TERM USR1 USR2 URG WINCH TSTP TTIN TTOU CHLD CONT",
		"RTMIN+5 SYS XCPU PROF VTALRM IO PWR ABRT",
	} {
		t.Run(names, func(t *testing.T) {
			want := uint64(0)
			script := "ulimit -Sn 300; "
			for _, name := range strings.Fields(names) {
				script += "trap '' " + name + "; "
				want |= 1 << (number(name) - 1)
			}
			cmd := exec.Command("/bin/bash", "-c", script+`exec "$0"`, "/proc/self/exe")
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Args[len(cmd.Args)-1] = self
			cmd.Env = []string{roleVariable + "=replace"}
			var complaint strings.Builder
			cmd.Stderr = &complaint
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s%s", err, out, complaint.String())
			}
			// The C library's own two signals are ignored in what posix_spawn(3)
			// starts, as make(1) does.
			const ofLibrary = 1<<(32-1) | 1<<(33-1)
			got, err := strconv.ParseUint(field(t, string(out), "SigIgn:"), 16, 64)
			if err != nil || got&^ofLibrary != want {
				t.Errorf("ignored %016x, want %016x (%v)", got, want, err)
			}
			if !strings.Contains(string(out), "Max open files            300 ") {
				t.Errorf("limits: %s", out)
			}
			if complaint.String() != "execute /nonexistent: no such file or directory\n" {
				t.Errorf("complaint %q", complaint.String())
			}
		})
	}
}

func number(name string) syscall.Signal {
	const rtmin = 34 // of the C library, which bash counts from
	if n, ok := strings.CutPrefix(name, "RTMIN+"); ok {
		i, _ := strconv.Atoi(n)
		return syscall.Signal(rtmin + i)
	}
	return unix.SignalNum("SIG" + name)
}

// field is the last word of the line in which word occurs.
func field(t *testing.T, text, word string) string {
	t.Helper()
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if _, rest, ok := strings.Cut(s.Text(), word); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no %s in %q", word, text)
	return ""
}

// TestInheritedIgnoredIsNotWhatIsIgnoredNow: ignoring a signal oneself is not
// inherited.
func TestInheritedIgnoredIsNotWhatIsIgnoredNow(t *testing.T) {
	restore := ignore([]syscall.Signal{unix.SIGUSR2})
	defer restore()
	for _, sig := range InheritedIgnored() {
		if sig == unix.SIGUSR2 {
			t.Error("USR2 counts as inherited")
		}
	}
}
