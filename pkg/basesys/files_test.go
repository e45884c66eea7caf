// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

const top = "../.."

// TestMain lets the test binary be the child that runs as an account.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == taskRead || os.Args[1] == taskWrite || os.Args[1] == skelIntoFlag) {
		os.Exit(child())
	}
	code := m.Run()
	for _, dir := range []string{programs.dir, pamBase.dir} {
		if dir != "" {
			_ = os.RemoveAll(dir)
		}
	}
	os.Exit(code)
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// shipped installs the files and links of packages below a new directory, without
// their programs.
func shipped(t *testing.T, packages ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, pkg := range packages {
		for line := range strings.Lines(get(t, top+"/scripts/packages/"+pkg+"/files")) {
			f := strings.Fields(line)
			switch {
			case len(f) >= 3 && f[0] == "file":
				mode := os.FileMode(0o644)
				if len(f) == 4 {
					mode = map[string]os.FileMode{"0755": 0o755, "0440": 0o440}[f[3]]
				}
				source := f[1]
				if !filepath.IsAbs(source) {
					source = top + "/" + source
				}
				put(t, root+f[2], get(t, source), mode)
			case len(f) == 3 && f[0] == "link":
				if err := os.MkdirAll(filepath.Dir(root+f[2]), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(f[1], root+f[2]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return root
}

// built builds a program once and returns its path.
func built(t testing.TB, name string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "basesys-programs-")
		if err != nil {
			t.Fatal(err)
		}
		programs.dir = dir
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(programs.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./cmd/"+name)
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// programs are the built ones.
var programs struct {
	sync.Mutex
	dir string
}

// space runs a script in a mount namespace of its own, where each pair of bound
// is a directory or file in the place of another.
func space(t *testing.T, network bool, bound [][2]string, script string, args ...string) (string, error) {
	t.Helper()
	var b strings.Builder
	b.WriteString("set -e\n")
	for _, m := range bound {
		b.WriteString("mount --bind " + quote(m[0]) + " " + quote(m[1]) + "\n")
	}
	b.WriteString("set +e\n" + script)
	command := []string{"--mount", "--propagation", "private"}
	if network {
		command = append(command, "--net")
	}
	cmd := exec.Command("unshare", append(append(command, "bash", "-c", b.String(), "bash"), args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive"}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
