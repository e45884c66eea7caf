// SPDX-License-Identifier: GPL-3.0-or-later

//go:build vmtest

package basesys

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// The tests of this file change the kernel. They run in the virtual machine of
// scripts/vmtest, under Debian's kernel, in which the repository's files that the
// scenario names are below /.

const systemdSysctl = "/lib/systemd/systemd-sysctl"

func install(t *testing.T, from, to string) {
	t.Helper()
	files, err := filepath.Glob(from + "/*.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: nothing: %v", from, err)
	}
	for _, f := range files {
		put(t, to+"/"+filepath.Base(f), get(t, f), 0o644)
	}
}

// TestVM1Sysctl: after what boot does every key of the table that this kernel has
// is as it is wanted.
func TestVM1Sysctl(t *testing.T) {
	install(t, "/systemd/sysctl.d", "/usr/lib/sysctl.d")
	must(t, systemdSysctl)
	all, err := settings()
	if err != nil {
		t.Fatal(err)
	}
	var ours []setting
	for _, s := range all {
		if s.kind == kindSysctl && !strings.Contains(s.file, "aslr-mmap") && !strings.Contains(s.file, "panic-on-oops") {
			ours = append(ours, s)
		}
	}
	inForce := 0
	for _, f := range inspect(context.Background(), fsx.Host, ours) {
		switch f.state {
		case stateOK:
			inForce++
			if !strings.HasPrefix(f.source, "/usr/lib/sysctl.d/") {
				t.Errorf("%s: set by %q", f.name, f.source)
			}
		case stateDiffers:
			t.Errorf("%s is %q, want %q", f.name, f.actual, f.wanted)
		}
	}
	if inForce < 45 {
		t.Errorf("only %d keys in force", inForce)
	}
	// And an administrator's file counts more (defect D-13).
	put(t, "/etc/sysctl.d/99-admin.conf", "kernel.kptr_restrict = 1\n", 0o644)
	must(t, systemdSysctl)
	for _, f := range inspect(context.Background(), fsx.Host, []setting{{kind: kindSysctl, name: "kernel.kptr_restrict", wanted: "2", pkg: "security-misc"}}) {
		if f.state != stateDiffers || f.actual != "1" || f.source != "/etc/sysctl.d/99-admin.conf:1" {
			t.Errorf("%+v", f)
		}
	}
	if err := os.Remove("/etc/sysctl.d/99-admin.conf"); err != nil {
		t.Fatal(err)
	}
	must(t, systemdSysctl)
}

// TestVM2Ptrace: not even root looks into a process, and no longer can this be
// changed.
func TestVM2Ptrace(t *testing.T) {
	child := exec.Command("/bin/busybox", "sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	if err := unix.PtraceAttach(child.Process.Pid); !errors.Is(err, unix.EPERM) {
		t.Errorf("attached: %v", err)
	}
	if err := os.WriteFile("/proc/sys/kernel/yama/ptrace_scope", []byte("0"), 0); err == nil {
		t.Error("ptrace_scope can be changed")
	}
}

// TestVM3Modules: what would load without our files does not load with them.
func TestVM3Modules(t *testing.T) {
	install(t, "/etc/modprobe.d", "/etc/modprobe.d")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	tree := "/lib/modules/" + strings.TrimSpace(string(release))
	var dep strings.Builder
	modules := map[string]string{"minix": "filesys", "msr": "cpumsr", "n_hdlc": "network"}
	err = filepath.WalkDir("/build", func(p string, e fs.DirEntry, err error) error {
		if name, _, ok := strings.Cut(filepath.Base(p), ".ko"); err == nil && ok && modules[name] != "" {
			put(t, tree+"/"+filepath.Base(p), get(t, p), 0o644)
			dep.WriteString(filepath.Base(p) + ":\n")
		}
		return err
	})
	if err != nil || strings.Count(dep.String(), "\n") != len(modules) {
		t.Fatalf("%v: %s", err, dep.String())
	}
	put(t, tree+"/modules.dep", dep.String(), 0o644)
	if err := os.MkdirAll("/etc/empty", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, class := range modules {
		program := "/usr/bin/disabled-" + class + "-by-security-misc"
		if err := os.MkdirAll("/usr/bin", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/bin/disabled-by-security-miscamd64", program); err != nil {
			t.Fatal(err)
		}
		loaded := func() bool { return readModuleConfig(fsx.Host).loaded[name] }
		out, err := exec.Command("modprobe", name).CombinedOutput()
		if err == nil || loaded() || !strings.Contains(string(out), "kernel module is disabled by package security-misc-shared by default") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		// An administrator's file lets the class in, without which this test would
		// prove nothing.
		put(t, enableDir+"/"+class, "", 0o644)
		if out, err := exec.Command("modprobe", name).CombinedOutput(); err != nil || !loaded() {
			t.Errorf("%s is not allowed: %v: %s", name, err, out)
		}
		if err := os.Remove(enableDir + "/" + class); err != nil {
			t.Fatal(err)
		}
		must(t, "modprobe", "-r", name)
	}
}

// TestVM4Check prints the table, as the program does, in time.
func TestVM4Check(t *testing.T) {
	var out bytes.Buffer
	env := cli.Env{Args: []string{"security-misc-check"}, Stdout: &out, Stderr: &out, Now: time.Now}
	err := check(context.Background(), fsx.Host, env)
	t.Logf("%v\n%s", err, out.String())
	for _, want := range []string{"ok       sysctl    kernel.yama.ptrace_scope", "ok       module    msr ", "/etc/modprobe.d/30_security-misc_documented.conf:"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q", want)
		}
	}
}
