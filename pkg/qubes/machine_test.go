// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const top = "../.."

// machine is a root directory that stands for a machine in Qubes.
type machine struct {
	t              *testing.T
	root           fsx.Root
	stdout, stderr bytes.Buffer
}

// newMachine has a role, a QubesDB that knows nothing yet, and a systemctl that
// writes down what it is asked; Tor runs if /tor-runs exists.
func newMachine(t *testing.T, marker string) *machine {
	t.Helper()
	m := &machine{t: t, root: fsx.Root(t.TempDir())}
	m.write(marker, "")
	m.write(whonix.QubesMarker, "")
	m.program("/usr/bin/qubesdb-read", fmt.Sprintf("exec cat %q\"$1\"", m.root.Path("/qubesdb")))
	m.program("/usr/bin/systemctl", fmt.Sprintf("echo \"$*\" >>%q\ncase \"$*\" in *is-active*) test -e %q;; esac", m.root.Path("/systemctl.log"), m.root.Path("/tor-runs")))
	return m
}

func (m *machine) env() cli.Env {
	return cli.Env{Args: []string{"test"}, Stdin: strings.NewReader(""), Stdout: &m.stdout, Stderr: &m.stderr, Now: time.Now}
}

func (m *machine) write(path, text string) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.root.Path(path)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.root.Path(path), []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) program(path, script string) {
	m.t.Helper()
	m.write(path, "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(m.root.Path(path), 0o755); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) key(key, value string) { m.t.Helper(); m.write("/qubesdb"+key, value) }

// read is a file's text; of a missing one it is empty.
func (m *machine) read(path string) string {
	m.t.Helper()
	data, err := os.ReadFile(m.root.Path(path))
	if err != nil && !os.IsNotExist(err) {
		m.t.Fatal(err)
	}
	return string(data)
}

// state is all files with content, mode and time, but for the log of what was
// asked.
func (m *machine) state() string {
	m.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(string(m.root), func(p string, e fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(p, "systemctl.log") {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		data := []byte{}
		if fi.Mode().IsRegular() {
			if data, err = os.ReadFile(p); err != nil {
				return err
			}
		}
		modified := fi.ModTime().UnixNano()
		if fi.IsDir() {
			modified = 0
		}
		fmt.Fprintf(&all, "%s %v %d %q\n", p, fi.Mode(), modified, data)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return all.String()
}

// quiet is a logger that says nothing.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
