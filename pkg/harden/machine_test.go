// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// top is the repository.
const top = "../.."

// machine is a directory that stands for a whole system.
type machine struct {
	testing.TB
	system
}

func newMachine(t testing.TB) *machine {
	t.Helper()
	m := &machine{t, system{root: fsx.Root(t.TempDir()), privileged: true}}
	m.must(os.Chmod(m.root.Path("/"), 0o755)) // whatever the umask
	m.write("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/sh\nuser:x:1000:1000::/home/user:/bin/bash\n")
	m.write("/etc/group", "root:x:0:\nshadow:x:42:\nuser:x:1000:\nsysfs:x:900:\ncpuinfo:x:901:\nproc:x:902:\n")
	m.mkdir("/var/lib/dpkg")
	m.mkdir("/run")
	return m
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) mkdir(path string) {
	m.Helper()
	m.must(m.root.MkdirAll(path, 0o755))
}

// write makes a file of mode 0644.
func (m *machine) write(path, text string) {
	m.Helper()
	m.mkdir(filepath.Dir(path))
	m.must(os.WriteFile(m.root.Path(path), []byte(text), 0o600))
	m.must(os.Chmod(m.root.Path(path), 0o644))
}

// file makes a file with all twelve bits of a mode.
func (m *machine) file(path string, mode uint32) {
	m.Helper()
	m.write(path, "#!/bin/sh\n")
	m.must(unix.Chmod(m.root.Path(path), mode))
}

func (m *machine) chmod(path string, mode uint32) {
	m.Helper()
	m.must(unix.Chmod(m.root.Path(path), mode))
}

func (m *machine) link(target, path string) {
	m.Helper()
	m.mkdir(filepath.Dir(path))
	m.must(os.Symlink(target, m.root.Path(path)))
}

func (m *machine) read(path string) string {
	m.Helper()
	data, err := os.ReadFile(m.root.Path(path))
	m.must(err)
	return string(data)
}

func (m *machine) mode(path string) uint32 {
	m.Helper()
	var st unix.Stat_t
	m.must(unix.Lstat(m.root.Path(path), &st))
	return st.Mode & modeBits
}

// wantModes compares modes.
func (m *machine) wantModes(want map[string]uint32) {
	m.Helper()
	for path, mode := range want {
		if got := m.mode(path); got != mode {
			m.Errorf("%s has mode %o, want %o", path, got, mode)
		}
	}
}

// snapshot is everything below a directory: names, modes, owners and contents.
func (m *machine) snapshot(dir string) string {
	m.Helper()
	var b strings.Builder
	m.must(filepath.WalkDir(m.root.Path(dir), func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s %o %d:%d %v", p, st.Mode, st.Uid, st.Gid, st.Ctim)
		if e.Type().IsRegular() {
			data, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %q", data)
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

// result is how a program ended.
type result struct {
	code     int
	out, err string
}

type program func(context.Context, cli.Env, system) error

// run runs a program on the machine, called by args[0].
func (m *machine) run(p program, args ...string) result {
	m.Helper()
	return m.runEnv(p, nil, args...)
}

func (m *machine) runEnv(p program, environ []string, args ...string) result {
	m.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out, errOut bytes.Buffer
	env := cli.Env{Args: args, Environ: environ, Stdout: &out, Stderr: &errOut, Now: time.Now}
	code := cli.Run(ctx, env, func(ctx context.Context, env cli.Env) error { return p(ctx, env, m.system) })
	return result{code, out.String(), errOut.String()}
}

// want checks an exit code.
func (r result) want(t *machine, code int) result {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d\n%s%s", r.code, code, r.out, r.err)
	}
	return r
}

// says checks that a text was printed somewhere.
func (r result) says(t *machine, texts ...string) result {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(r.out+r.err, text) {
			t.Errorf("does not say %q:\n%s%s", text, r.out, r.err)
		}
	}
	return r
}
