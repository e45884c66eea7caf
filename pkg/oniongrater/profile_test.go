// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// tools is a root with examples, and a systemctl that writes down how it was
// called.
type tools struct {
	t    *testing.T
	root fsx.Root
	uid  int
}

const goodProfile = "- hosts: ['*']\n  commands: {GETINFO: ['version']}\n"

func newTools(t *testing.T, examples ...string) *tools {
	t.Helper()
	root := fsx.Root(t.TempDir())
	for _, e := range examples {
		write(t, root, exampleProfiles+"/"+e, goodProfile)
	}
	write(t, root, "/usr/bin/systemctl", "#!/bin/sh\necho \"$*\" >> "+root.Path("/called")+"\nexit $(cat "+root.Path("/status")+" 2>/dev/null || echo 0)\n")
	if err := os.Chmod(root.Path("/usr/bin/systemctl"), 0o755); err != nil {
		t.Fatal(err)
	}
	return &tools{t: t, root: root}
}

// run calls the program and holds output, exit code and the restarts against
// what is wanted.
func (x *tools) run(code int, want, calls string, args ...string) {
	x.t.Helper()
	if err := os.RemoveAll(x.root.Path("/called")); err != nil {
		x.t.Fatal(err)
	}
	var out, stderr bytes.Buffer
	env := cli.Env{Args: args, Stdout: &out, Stderr: &stderr}
	p := &profileRun{root: x.root, out: &out, stderr: &stderr, name: env.Name(), uid: x.uid}
	p.restart = func(ctx context.Context) error {
		path, err := execx.Find(x.root, "systemctl")
		if err != nil {
			return err
		}
		return execx.Cmd{Path: path, Args: restartArgs(), Stdout: &out, Stderr: &stderr}.Run(ctx)
	}
	if got := cli.Code(p.run(x.t.Context(), env)); got != code {
		x.t.Errorf("%v: exit code %d, want %d", args, got, code)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		x.t.Errorf("%v:\n%s%s", args, diff, stderr.String())
	}
	called, err := os.ReadFile(x.root.Path("/called"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.t.Fatal(err)
	}
	if string(called) != calls {
		x.t.Errorf("%v: systemctl was called with %q, want %q", args, called, calls)
	}
}

// used lists the folder of local profiles, links with where they lead.
func (x *tools) used() string {
	entries, err := os.ReadDir(x.root.Path(localProfiles))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		x.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if to, err := os.Readlink(filepath.Join(x.root.Path(localProfiles), name)); err == nil {
			name += " -> " + to
		}
		out = append(out, name)
	}
	return strings.Join(out, "\n")
}

const (
	restarted = "--no-block --no-pager restart onion-grater\n"
	notRoot   = "ERROR: This must be run as root (sudo)!\nINFO: You can start NAME by entering...\n      sudo NAME\n"
	none      = "OK: None removed. (Maybe already removed?)\nOK.\n"
	local     = "/usr/local/etc/onion-grater-merger.d/"
	examples  = "/usr/share/doc/onion-grater-merger/examples/"
)

// TestAcceptance24_AddRemove: output, links and restarts of the tools; names
// that lead elsewhere change nothing.
func TestAcceptance24_AddRemove(t *testing.T) {
	x := newTools(t, "40_onionshare.yml", "50_onionshare.yml", "40_onion_authentication.yml")
	added := "OK: Added profile_file_source: '" + examples + "50_onionshare.yml'.\nOK.\n"
	x.run(0, added, restarted, "onion-grater-add", "onionshare")
	x.run(0, added, restarted, "onion-grater-add", "onionshare", "ignored")
	x.run(0, strings.ReplaceAll(added, "50_", "40_"), restarted, "onion-grater-add", "40_onionshare")
	x.run(0, strings.ReplaceAll(added, "50_onionshare", "40_onion_authentication"), restarted, "onion-grater-profile", "add", "authentication.yml")
	want := "40_onion_authentication.yml -> " + examples + "40_onion_authentication.yml\n" +
		"40_onionshare.yml -> " + examples + "40_onionshare.yml\n50_onionshare.yml -> " + examples + "50_onionshare.yml"
	if diff := cmp.Diff(want, x.used()); diff != "" {
		t.Error(diff)
	}
	x.run(0, "OK: Removed profile_file_target: '"+local+"40_onionshare.yml'.\nOK: Removed profile_file_target: '"+local+"50_onionshare.yml'.\n", restarted, "onion-grater-remove", "onionshare")
	x.run(0, none, "", "onion-grater-remove", "onionshare")
	x.run(1, "ERROR: profile_file_source '' does not exist!\n", "", "onion-grater-add", "nothing")
	write(t, x.root, "/etc/evil.yml", goodProfile)
	for _, name := range []string{"../../x", "../../../../etc/evil", "/etc/evil", "..", "a/b", ".x", "-x", "a..b", "a b", "*"} {
		for _, tool := range []string{"onion-grater-add", "onion-grater-remove"} {
			x.run(1, "ERROR: invalid profile name '"+name+"'\n", "", tool, name)
		}
	}
	x.run(1, "ERROR: invalid profile name 'a?b'\n", "", "onion-grater-add", "a\x1bb")
	if _, err := os.Stat(x.root.Path("/etc/evil.yml")); err != nil {
		t.Error(err)
	}
	for _, tool := range []string{"onion-grater-add", "onion-grater-remove"} {
		x.run(1, "ERROR: syntax: sudo "+tool+" profile-name\n", "", tool)
		x.run(0, "usage: "+tool+" profile-name\n", "", tool, "--help")
	}
	x.uid = 1000
	for _, tool := range []string{"onion-grater-add", "onion-grater-remove"} {
		x.run(1, strings.ReplaceAll(notRoot, "NAME", tool), "", tool, "onionshare")
	}
	x.run(2, "", "", "onion-grater-profile")
	x.run(2, "", "", "onion-grater-profile", "destroy")
}

// TestOwnFilesStay: a regular file is the user's, and is kept (defect 38).
func TestOwnFilesStay(t *testing.T) {
	x := newTools(t, "40_a.yml")
	kept := func(n string) string {
		return "INFO: " + local + "40_a.yml was no link but a file; it is kept as " + local + "40_a.yml.bak" + n + ".\n"
	}
	write(t, x.root, local+"40_a.yml", "first")
	x.run(0, kept("")+"OK: Added profile_file_source: '"+examples+"40_a.yml'.\nOK.\n", restarted, "onion-grater-add", "a")
	x.run(0, "OK: Removed profile_file_target: '"+local+"40_a.yml'.\n", restarted, "onion-grater-remove", "40_a")
	write(t, x.root, local+"40_a.yml", "second")
	x.run(0, kept(".2")+"OK: Removed profile_file_target: '"+local+"40_a.yml'.\n", restarted, "onion-grater-remove", "a")
	for name, text := range map[string]string{"40_a.yml.bak": "first", "40_a.yml.bak.2": "second"} {
		if data, err := os.ReadFile(x.root.Path(local + name)); err != nil || string(data) != text {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	if err := os.Mkdir(x.root.Path(local+"40_a.yml"), 0o755); err != nil {
		t.Fatal(err)
	}
	x.run(1, "ERROR: "+local+"40_a.yml is neither a file nor a link; move it away\n", "", "onion-grater-add", "a")
}

// TestDanglingAndBroken: a link whose example is gone can be removed, an
// example that cannot be used is not added, and a restart that fails is told.
func TestDanglingAndBroken(t *testing.T) {
	x := newTools(t, "40_a.yml")
	write(t, x.root, examples+"40_bad.yml", "- commands: {A: ['(?=x)']}\n")
	x.run(1, "ERROR: profile_file_source '"+examples+"40_bad.yml' is not added, because onion-grater could not use it\n", "", "onion-grater-add", "bad")
	if got := x.used(); got != "" {
		t.Errorf("%s was added", got)
	}
	for _, name := range []string{"40_gone", "gone"} {
		if err := os.MkdirAll(x.root.Path(local), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/nowhere", x.root.Path(local+"40_gone.yml")); err != nil {
			t.Fatal(err)
		}
		x.run(0, "OK: Removed profile_file_target: '"+local+"40_gone.yml'.\n", restarted, "onion-grater-remove", name)
	}
	write(t, x.root, "/status", "3")
	x.run(1, "ERROR: cannot restart onion-grater: "+x.root.Path("/usr/bin/systemctl")+": exit status 3; the profile is added\n", restarted, "onion-grater-add", "a")
	if got := x.used(); !strings.HasPrefix(got, "40_a.yml -> ") {
		t.Errorf("%q: the link is gone", got)
	}
}

// TestList: paths in order, or the files themselves between rules.
func TestList(t *testing.T) {
	x := newTools(t, "50_b.yml", "40_a.yml")
	write(t, x.root, systemProfiles+"/30_default.yml", "text\n")
	x.run(0, examples+"40_a.yml\n"+examples+"50_b.yml\n", "", "onion-grater-list", "--available")
	x.run(0, systemProfiles+"/30_default.yml\n", "", "onion-grater-list", "--used")
	rule, thin := strings.Repeat("=", 68)+"\n", strings.Repeat("-", 68)+"\n"
	file := systemProfiles + "/30_default.yml\n"
	x.run(0, rule+"BEGIN PROFILE: "+file+thin+"text\n"+thin+"END PROFILE: "+file+rule, "", "onion-grater-list", "--used", "--show")
	usage := "usage: onion-grater-list: --available|--used [--show]\n"
	x.run(0, usage, "", "onion-grater-list")
	x.run(0, usage, "", "onion-grater-list", "--wrong")
	x.run(0, usage, "", "onion-grater-list", "--help")
	empty := newTools(t)
	empty.run(0, "", "", "onion-grater-list", "--available")
	empty.run(0, "", "", "onion-grater-list", "--used", "--show")
}
