// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newRoot(t *testing.T) Root { return Root(t.TempDir()) }

func put(t *testing.T, r Root, p, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(r.Path(p)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Path(p), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPaths(t *testing.T) {
	for _, c := range []struct{ root, logical, host string }{
		{"/", "/etc/x", "/etc/x"}, {"/tmp/r", "/etc/x", "/tmp/r/etc/x"}, {"/tmp/r/", "/x", "/tmp/r/x"},
	} {
		if got := Root(c.root).Path(c.logical); got != c.host {
			t.Errorf("%s: Path(%s) = %s", c.root, c.logical, got)
		}
		if got := Root(c.root).Logical(c.host); got != c.logical {
			t.Errorf("%s: Logical(%s) = %s", c.root, c.host, got)
		}
	}
	if got := Root("/tmp/r").Logical("/tmp/rest/x"); got != "/tmp/rest/x" {
		t.Errorf("a path outside became %s", got)
	}
}

func TestReadFile(t *testing.T) {
	r := newRoot(t)
	put(t, r, "/f", "12345")
	if b, err := r.ReadFile("/f", 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := r.ReadFile("/f", 4); !errors.Is(err, ErrTooLarge) || strings.Contains(err.Error(), string(r)) {
		t.Errorf("too large: %v", err)
	}
	if err := unix.Mkfifo(r.Path("/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/fifo", "/", "/missing"} {
		if _, err := r.ReadFile(p, 9); err == nil || strings.Contains(err.Error(), string(r)) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

func TestConfFiles(t *testing.T) {
	r := newRoot(t)
	for _, name := range []string{"b.conf", "a.conf", "B.conf", "10.conf", "9.conf", ".hidden.conf", "x.conf~", "conf"} {
		put(t, r, "/d/"+name, "")
	}
	if err := errors.Join(os.Mkdir(r.Path("/d/dir.conf"), 0o755), os.Symlink("/nothing", r.Path("/d/link.conf"))); err != nil {
		t.Fatal(err)
	}
	got, err := r.ConfFiles("/d", ".conf")
	want := []string{"/d/10.conf", "/d/9.conf", "/d/B.conf", "/d/a.conf", "/d/b.conf", "/d/dir.conf", "/d/link.conf"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := r.ConfFiles("/missing", ".conf"); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// TestWriteAtomic: content and mode whatever the umask, a link replaced and not
// followed, nothing left behind by a failure.
func TestWriteAtomic(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	r := newRoot(t)
	put(t, r, "/target", "old")
	if err := os.Symlink(r.Path("/target"), r.Path("/f")); err != nil {
		t.Fatal(err)
	}
	if err := r.WriteAtomic("/f", []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(r.Path("/f"))
	if err != nil || fi.Mode() != 0o644 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if b, _ := os.ReadFile(r.Path("/target")); string(b) != "old" {
		t.Error("a link was followed")
	}
	if err := os.Mkdir(r.Path("/full"), 0o755); err != nil {
		t.Fatal(err)
	}
	put(t, r, "/full/x/y", "")
	if err := r.WriteAtomic("/full/x", []byte("new"), 0o644); err == nil {
		t.Error("a directory was replaced")
	}
	if entries, _ := os.ReadDir(r.Path("/full")); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if err := r.WriteAtomic("/missing/f", nil, 0o644); err == nil || strings.Contains(err.Error(), string(r)) {
		t.Errorf("missing directory: %v", err)
	}
}

// TestWriteAtomicAs: the file belongs to whom it should.
func TestWriteAtomicAs(t *testing.T) {
	const uid, gid, mode = 7, 8, 0o640
	r := newRoot(t)
	if err := r.WriteAtomicAs("/f", []byte("new"), mode, uid, gid); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(r.Path("/f"), &st); err != nil || st.Uid != uid || st.Gid != gid || st.Mode&0o777 != mode {
		t.Errorf("%d %d %o %v", st.Uid, st.Gid, st.Mode, err)
	}
}

func TestMkdirAllAndRemove(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	r := newRoot(t)
	if err := r.MkdirAll("/a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/a", "/a/b"} {
		if fi, _ := os.Stat(r.Path(p)); fi.Mode().Perm() != 0o755 {
			t.Errorf("%s: mode %v", p, fi.Mode())
		}
	}
	put(t, r, "/a/f", "")
	if err := r.MkdirAll("/a/f/c", 0o755); err == nil {
		t.Error("a file became a directory")
	}
	if err := errors.Join(r.Remove("/a/f"), r.Remove("/a/f"), r.MkdirAll("/a/b", 0o755)); err != nil {
		t.Error(err)
	}
}

func TestTouch(t *testing.T) {
	r := newRoot(t)
	put(t, r, "/victim", "text")
	if err := os.Symlink(r.Path("/victim"), r.Path("/link")); err != nil {
		t.Fatal(err)
	}
	if err := r.Touch("/link", 0o644); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a link: %v", err)
	}
	if err := r.Touch("/f", 0o644); err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1, 0)
	if err := os.Chtimes(r.Path("/f"), past, past); err != nil {
		t.Fatal(err)
	}
	if err := r.Touch("/f", 0o644); err != nil {
		t.Fatal(err)
	}
	if fi, _ := os.Stat(r.Path("/f")); fi.ModTime().Equal(past) || fi.Mode() != 0o644 {
		t.Errorf("%v %v", fi.ModTime(), fi.Mode())
	}
}

// TestLock: one at a time, and waiting ends with the context.
func TestLock(t *testing.T) {
	r := newRoot(t)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			unlock, err := r.Lock(context.Background(), "/lock")
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if !mu.TryLock() {
				t.Error("two hold the lock")
				return
			}
			mu.Unlock()
		}()
	}
	wg.Wait()
	unlock, err := r.Lock(context.Background(), "/lock")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Lock(ctx, "/lock"); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "lock /lock: held by another run") {
		t.Errorf("%v", err)
	}
	unlock()
	if fi, err := os.Stat(r.Path("/lock")); err != nil || fi.Mode() != fs.FileMode(0o600) {
		t.Errorf("%v %v", fi, err)
	}
}
