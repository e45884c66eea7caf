// SPDX-License-Identifier: GPL-3.0-or-later

package execx

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
)

func shell(script string) Cmd { return Cmd{Path: "/bin/sh", Args: []string{"-c", script}} }

func TestStatuses(t *testing.T) {
	for _, c := range []struct {
		cmd    Cmd
		status int
	}{
		{shell("exit 0"), 0}, {shell("exit 3"), 3}, {shell("kill -9 $$"), 137}, {shell("kill -15 $$"), 143},
		{Cmd{Path: "/nothing/here"}, 127}, {Cmd{Path: "/etc/passwd"}, 126},
	} {
		if got := Status(c.cmd.Run(context.Background())); got != c.status {
			t.Errorf("%v: status %d, want %d", c.cmd.Args, got, c.status)
		}
	}
	err := shell("kill -9 $$").Run(context.Background())
	if err == nil || err.Error() != "/bin/sh: ended by signal 9 (SIGKILL)" {
		t.Errorf("%v", err)
	}
}

// TestCleanEnvironment: a child sees nothing of ours by default.
func TestCleanEnvironment(t *testing.T) {
	t.Setenv("SECRET", "x")
	var out bytes.Buffer
	c := shell("env | sort")
	c.Stdout = &out
	if err := c.Run(context.Background()); err != nil || bytes.Contains(out.Bytes(), []byte("SECRET")) || !bytes.Contains(out.Bytes(), []byte("PATH="+SearchPath)) {
		t.Errorf("%v: %s", err, out.String())
	}
	got := CleanEnv([]string{"A=1", "B=2", "PATH=/evil"}, "B")
	if !slices.Equal(got, []string{"PATH=" + SearchPath, "LC_ALL=C.UTF-8", "B=2"}) {
		t.Errorf("%v", got)
	}
}

// TestCancel: the end of the context ends the child, also one that ignores the
// polite signal.
func TestCancel(t *testing.T) {
	for script, status := range map[string]int{"echo; exec sleep 60": 143, "trap '' TERM; echo; while :; do :; done": 137} {
		ctx, cancel := context.WithCancel(context.Background())
		c := shell(script)
		c.Stdout = cancelOnWrite(cancel)
		start := time.Now()
		err := c.Run(ctx)
		cancel()
		if Status(err) != status || time.Since(start) > 10*time.Second {
			t.Errorf("%s: %v after %v, want status %d", script, err, time.Since(start), status)
		}
	}
}

// cancelOnWrite cancels when the child says that it is ready.
type cancelOnWrite func()

func (c cancelOnWrite) Write(p []byte) (int, error) {
	c()
	return len(p), nil
}

// TestFind looks in trusted places below the root only.
func TestFind(t *testing.T) {
	root := fsx.Root(t.TempDir())
	t.Setenv("PATH", root.Path("/evil"))
	for _, dir := range []string{"/evil", "/usr/bin", "/usr/sbin"} {
		if err := os.MkdirAll(root.Path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for p, mode := range map[string]os.FileMode{"/evil/a": 0o755, "/usr/bin/b": 0o644, "/usr/bin/c": 0o755, "/usr/sbin/c": 0o755} {
		if err := os.WriteFile(root.Path(p), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "none"} {
		if p, err := Find(root, name); !errors.Is(err, ErrNotFound) || Status(err) != 127 {
			t.Errorf("%s: %s, %v", name, p, err)
		}
	}
	if p, err := Find(root, "c"); err != nil || p != root.Path("/usr/sbin/c") {
		t.Errorf("%s, %v", p, err)
	}
}
