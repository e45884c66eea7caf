// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// floorWriter names the root in which this test, run once more, writes a floor.
const floorWriter = "TEST_FLOOR_WRITER"

// TestAcceptance22_KilledWriter: killed when the new floor is written but not yet
// in place, sdwdate leaves the old one as it was.
func TestAcceptance22_KilledWriter(t *testing.T) {
	if root := os.Getenv(floorWriter); root != "" {
		a := &applier{root: fsx.Root(root), state: "/var/lib/sdwdate", log: silent{}}
		if err := a.raiseFloor(1800000001); err != nil {
			t.Fatal(err)
		}
		return
	}
	root := fsx.Root(t.TempDir())
	run := func(strace ...string) (*exec.Cmd, string) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		argv := append(strace, self, "-test.run=^TestAcceptance22_KilledWriter$")
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Env = append(os.Environ(), floorWriter+"="+string(root))
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run() // judged by what it leaves
		return cmd, out.String()
	}
	write(t, root, floorFile, "1800000000")
	cmd, out := run("strace", "-f", "-e", "trace=rename,renameat,renameat2", "-e", "inject=rename,renameat,renameat2:error=EIO:signal=SIGKILL")
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != unix.SIGKILL || !strings.Contains(out, floorFile) {
		t.Fatalf("it was not killed while it renamed: %v\n%s", cmd.ProcessState, out)
	}
	if text, err := root.ReadFile(floorFile, 64); err != nil || string(text) != "1800000000" {
		t.Errorf("the old floor: %q, %v", text, err)
	}
	if b, notices, err := loadBounds(root); b.Floor != 1800000000 || len(notices) != 0 || err != nil {
		t.Errorf("%+v, %v, %v", b, notices, err)
	}
	if left, err := os.ReadDir(root.Path("/var/lib/sdwdate")); err != nil || len(left) != 2 {
		t.Errorf("it was killed before it wrote: %v, %v", left, err)
	}
	if cmd, out := run(); !cmd.ProcessState.Success() {
		t.Fatal(out)
	}
	if text, err := root.ReadFile(floorFile, 64); err != nil || string(text) != "1800000001" {
		t.Errorf("left alone it writes: %q, %v", text, err)
	}
}

// silent is a journal that nobody reads.
type silent struct{}

func (silent) infof(string, ...any)  {}
func (silent) warnf(string, ...any)  {}
func (silent) errorf(string, ...any) {}
