// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// binaries is the directory of the programs under test and of the probe, built
// once by TestMain.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "uwt-test-")
	if err == nil {
		binaries = dir
		err = build(dir)
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	} else {
		code = m.Run()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func build(dir string) error {
	const module = "whonix-networking/cmd/"
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", dir, module+"uwtwrapper", module+"uwtexec", module+"time-privacy", module+"uwt-settings-show", module+"uwtctl", module+"bindp-launcher", module+"uwt")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	cmd = exec.Command("go", "build", "-o", dir+"/fetch", "./testdata/fetch")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if out, err := exec.Command("cc", "-o", dir+"/probe", "testdata/probe.c").CombinedOutput(); err != nil {
		return fmt.Errorf("cc: %w: %s", err, out)
	}
	return nil
}

// machine is a tree with the wrappers installed, which lies over the real /usr
// and /etc while something runs in it.
type machine struct {
	t    testing.TB
	tree string
}

// newMachine has the shipped configuration and the probe as /usr/bin/rawdog.
func newMachine(t testing.TB) *machine {
	t.Helper()
	if test, ok := t.(*testing.T); ok {
		test.Parallel()
	}
	m := &machine{t: t, tree: t.TempDir()}
	if err := os.Chmod(m.tree, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"uwtwrapper", "uwtexec"} {
		m.copy(binaries+"/"+name, "/usr/libexec/uwt/"+name)
	}
	m.copy(binaries+"/time-privacy", "/usr/bin/time-privacy")
	m.link("../libexec/uwt/uwtwrapper", "/usr/lib/uwtwrapper")
	for _, name := range []string{"30_uwt_default.conf", "30_timeprivacy_default.conf"} {
		m.copy("../../etc/uwt.d/"+name, "/etc/uwt.d/"+name)
	}
	for _, dir := range []string{"/run", "/rw", "/root"} {
		m.mkdir(dir)
	}
	m.wrap("/usr/bin/rawdog")
	m.copy(binaries+"/probe", "/usr/bin/rawdog"+originalSuffix)
	return m
}

func (m *machine) path(p string) string { return filepath.Join(m.tree, p) }

func (m *machine) mkdir(p string) {
	m.t.Helper()
	if err := os.MkdirAll(m.path(p), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) write(p, text string, mode os.FileMode) {
	m.t.Helper()
	m.mkdir(filepath.Dir(p))
	if err := os.WriteFile(m.path(p), []byte(text), mode); err != nil {
		m.t.Fatal(err)
	}
	if err := os.Chmod(m.path(p), mode); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) copy(from, to string) {
	m.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		m.t.Fatal(err)
	}
	m.write(to, string(data), 0o755)
}

func (m *machine) link(target, p string) {
	m.t.Helper()
	m.mkdir(filepath.Dir(p))
	if err := os.Symlink(target, m.path(p)); err != nil {
		m.t.Fatal(err)
	}
}

// wrap puts a wrapper in the place of a program.
func (m *machine) wrap(p string) {
	m.t.Helper()
	m.link(filepath.Base(p)+wrapperSuffix, p)
	m.link(wrapperPath, p+wrapperSuffix)
}

// user adds the file 50_user.conf.
func (m *machine) user(text string) *machine {
	m.t.Helper()
	m.write("/etc/uwt.d/50_user.conf", text, 0o644)
	return m
}

// seen is how something that ran in a machine ended.
type seen struct {
	t              testing.TB
	status         int
	stdout, stderr string
}

// mounts lays the tree over the real directories, in a mount namespace of its
// own, and gives what may write there a place in memory.
const mounts = `
set -e
tree=$1; shift
for d in usr etc; do
	mount -t overlay -o lowerdir="$tree/$d:/$d" overlay "/$d"
done
mount --bind "$tree/run" /run
mount --bind "$tree/root" /root
if [ -d /rw ]; then mount --bind "$tree/rw" /rw; fi
exec "$@"
`

// command is a shell's command line that runs in the machine.
func (m *machine) command(script string, env ...string) *exec.Cmd {
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "/bin/bash", "-c", mounts, "bash", m.tree, "/bin/bash", "-c", script)
	cmd.Dir = "/" // the tests' own may be out of sight there
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root"}, env...)
	return cmd
}

// run runs a shell's command line in the machine.
func (m *machine) run(script string, env ...string) *seen {
	m.t.Helper()
	return m.finish(m.command(script, env...))
}

// direct runs a program in the machine with variables that no shell on the
// way is to see.
func (m *machine) direct(env []string, argv ...string) *seen {
	m.t.Helper()
	cmd := m.command("")
	cmd.Args = append(append(cmd.Args[:len(cmd.Args)-3], "/usr/bin/env"), append(env, argv...)...)
	return m.finish(cmd)
}

func (m *machine) finish(cmd *exec.Cmd) *seen {
	m.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		m.t.Fatal(err)
	}
	return &seen{m.t, cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// items are what the probe told of one kind.
func (s *seen) items(kind string) []string {
	var out []string
	for item := range strings.SplitSeq(s.stdout, "\x00") {
		if v, ok := strings.CutPrefix(item, kind+"="); ok {
			out = append(out, v)
		}
	}
	return out
}

func (s *seen) item(kind string) string { return strings.Join(s.items(kind), "|") }

// env is a variable of the probe's environment.
func (s *seen) env(name string) string {
	for _, kv := range s.items("env") {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			return v
		}
	}
	return ""
}

func (s *seen) isolated() bool { return strings.Contains(s.env("LD_PRELOAD"), "libtorsocks") }

// want checks the status and, if the program ran, that nothing was said.
func (s *seen) want(status int) *seen {
	s.t.Helper()
	if s.status != status {
		s.t.Errorf("status %d, want %d; stdout %.3000q, stderr %q", s.status, status, s.stdout, s.stderr)
	}
	return s
}

func (s *seen) quiet() *seen {
	s.t.Helper()
	if s.stderr != "" {
		s.t.Errorf("stderr %q", s.stderr)
	}
	return s
}

func (s *seen) says(texts ...string) *seen {
	s.t.Helper()
	for _, text := range texts {
		if !strings.Contains(s.stderr, text) {
			s.t.Errorf("stderr %q lacks %q", s.stderr, text)
		}
	}
	return s
}

// notRun checks that the program did not run, and that nothing else was
// printed on its standard output.
func (s *seen) notRun() *seen {
	s.t.Helper()
	if s.stdout != "" {
		s.t.Errorf("stdout %.3000q", s.stdout)
	}
	return s
}

func (s *seen) wantIsolated(want bool) *seen {
	s.t.Helper()
	if s.isolated() != want {
		s.t.Errorf("isolated %v, want %v: LD_PRELOAD %q, stderr %q", s.isolated(), want, s.env("LD_PRELOAD"), s.stderr)
	}
	return s
}

func (s *seen) wantArgs(want ...string) *seen {
	s.t.Helper()
	if got := s.items("arg"); !slices.Equal(got, want) {
		s.t.Errorf("arguments %.500q, want %q; stderr %q", got, want, s.stderr)
	}
	return s
}
