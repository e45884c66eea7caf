// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPinFollowsNothing(t *testing.T) {
	t.Parallel()
	root := Root(t.TempDir())
	must(t, os.MkdirAll(root.Path("/a/b"), 0o755))
	must(t, os.WriteFile(root.Path("/a/b/file"), nil, 0o600))
	must(t, os.Symlink("a", root.Path("/link")))
	must(t, os.Symlink("b/file", root.Path("/a/last")))

	p, err := root.Pin("/a/b/file")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	must(t, os.Rename(root.Path("/a/b/file"), root.Path("/a/b/moved")))
	must(t, os.WriteFile(root.Path("/a/b/file"), nil, 0o600))
	must(t, p.Chmod(0o4711))
	must(t, p.Chown(7, 8))
	must(t, p.Refresh())
	if p.Info.Mode&0o7777 != 0o711 || p.Info.Uid != 7 || p.Info.Gid != 8 {
		t.Errorf("the pinned file is %o %d:%d", p.Info.Mode&0o7777, p.Info.Uid, p.Info.Gid)
	}
	if fi, err := os.Stat(root.Path("/a/b/file")); err != nil || fi.Mode() != 0o600 {
		t.Errorf("what took its name was changed: %v %v", fi.Mode(), err)
	}

	if _, err := root.Pin("/link/b/moved"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("through a link: %v", err)
	}
	last, err := root.Pin("/a/last")
	if err != nil || !last.IsLink() {
		t.Fatalf("a link itself: %v", err)
	}
	defer last.Close()
	if err := last.Chmod(0o777); !errors.Is(err, unix.ELOOP) {
		t.Errorf("chmod of a link: %v", err)
	}
	for _, name := range []string{"", ".", "..", "b/moved"} {
		if _, err := last.At(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("At(%q): %v", name, err)
		}
	}
}

// TestOpenStepwise: the way without openat2 gives the same answers.
func TestOpenStepwise(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.MkdirAll(dir+"/a/b", 0o755))
	must(t, os.WriteFile(dir+"/a/b/file", nil, 0o600))
	must(t, os.Symlink("a", dir+"/link"))
	must(t, os.Symlink("b", dir+"/a/last"))
	top, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	must(t, err)
	defer unix.Close(top)
	for _, name := range []string{".", "a", "a/b", "a/b/file", "a/last", "a/last/file", "link/b", "missing", "a/missing/x", "../a", "a/../../x"} {
		fd, err := openBeneath(top, name, unix.O_PATH|unix.O_NOFOLLOW)
		step, errStep := openStepwise(top, name, unix.O_PATH|unix.O_NOFOLLOW)
		if err != errStep {
			t.Errorf("%s: openat2 says %v, step by step %v", name, err, errStep)
		}
		if err == nil {
			unix.Close(fd)
		}
		if errStep == nil {
			unix.Close(step)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	root := Root(t.TempDir())
	for _, dir := range []string{"/usr/bin", "/home/u", "/open"} {
		must(t, os.MkdirAll(root.Path(dir), 0o755))
	}
	must(t, os.WriteFile(root.Path("/usr/bin/x"), nil, 0o755))
	for _, link := range [][2]string{{"usr/bin", "/bin"}, {"/bin/x", "/usr/bin/y"}, {"../../usr/bin/x", "/home/u/x"}, {"../usr", "/open/usr"}, {"loop", "/loop"}, {"x", "/usr/bin/his"}} {
		must(t, os.Symlink(link[0], root.Path(link[1])))
	}
	must(t, os.Chown(root.Path("/home/u"), 1000, 1000))
	must(t, os.Lchown(root.Path("/usr/bin/his"), 1000, 1000))
	must(t, os.Chmod(root.Path("/open"), 0o777))
	for p, want := range map[string]string{
		"/bin/x": "/usr/bin/x", "/usr/bin/y": "/usr/bin/x", "/bin": "/usr/bin", "/": "/", "/usr/bin//x": "/usr/bin/x",
		"/home/u/x": "", "/open/usr/bin": "", "/loop": "", "/none": "", "/usr/bin/his": "",
	} {
		got, err := root.Canonical(p)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v; want %q", p, got, err, want)
		}
	}
	if _, err := root.Canonical("/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestAttribute(t *testing.T) {
	t.Parallel()
	root := Root(t.TempDir())
	must(t, os.WriteFile(root.Path("/f"), nil, 0o600))
	p, err := root.Pin("/f")
	must(t, err)
	defer p.Close()
	const name = "trusted.whonix"
	for _, want := range [][]byte{nil, []byte("value"), nil} {
		must(t, p.SetAttribute(name, want))
		if got, err := p.Attribute(name); err != nil || string(got) != string(want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	f, err := p.Open(os.O_RDWR)
	must(t, err)
	defer f.Close()
	if filepath.Base(f.Name()) != "f" {
		t.Errorf("opened %s", f.Name())
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
