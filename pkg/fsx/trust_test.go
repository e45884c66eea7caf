// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"testing"
)

// TestTrusted: who can change a file can do so by any directory on the way.
func TestTrusted(t *testing.T) {
	r := Root(t.TempDir())
	const open, sticky = 0o777, fs.ModeSticky | 0o777
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{
		{"/good/dir", 0o755}, {"/open/dir", 0o755}, {"/open", open}, {"/sticky/dir", 0o755}, {"/sticky", sticky}, {"/group/dir", 0o755}, {"/group", 0o775},
	} {
		if err := errors.Join(os.MkdirAll(r.Path(d.path), 0o755), os.Chmod(r.Path(d.path), d.mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"good", "open", "sticky", "group"} {
		if err := os.WriteFile(r.Path(dir+"/dir/file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"/good/link": "dir/file", "/good/up": "../good/./dir/../dir/file", "/good/out": r.Path("/open/dir/file"), "/open/in": r.Path("/good/dir/file"),
		"/good/via": r.Path("/open/in"), "/open/gooddir": r.Path("/good/dir"), "/good/loop": "loop", "/good/nowhere": "/no/where",
	} {
		if err := os.Symlink(target, r.Path(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(r.Path("/group"), 0, 7), os.WriteFile(r.Path("/good/theirs"), nil, 0o644), os.Chown(r.Path("/good/theirs"), 7, 0)); err != nil {
		t.Fatal(err)
	}
	for path, who := range map[string]string{
		"/good/dir/file": "", "/good/link": "", "/good/up": "", "/sticky/dir/file": "", "/good/dir": "", "/": "",
		"/open/dir/file": "/open", "/good/out": "/open", "/open/in": "/open", "/good/via": "/open", "/open/gooddir/file": "/open",
		"/group/dir/file": "/group", "/good/theirs": "/good/theirs",
	} {
		err := r.Trusted(path)
		var w *Writable
		errors.As(err, &w)
		if (err == nil) != (who == "") || w != nil && w.Path != who {
			t.Errorf("%s: %v, want %q", path, err, who)
		}
	}
	for path, want := range map[string]error{"/good/loop": syscall.ELOOP, "/good/nowhere": fs.ErrNotExist, "/good/none": fs.ErrNotExist} {
		if err := r.Trusted(path); !errors.Is(err, want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := Host.Trusted("/bin/sh"); err != nil {
		t.Error(err)
	}
}
