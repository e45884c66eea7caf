// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func ownerOf(t *testing.T, path string) (uid, gid uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Uid, st.Gid
}

func parse(t *testing.T, line string) *Socat {
	t.Helper()
	s, err := ParseSocat(strings.Fields(line))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestUnixListener: mode and owner are as said, the directory is made, and the
// socket goes with its listener.
func TestUnixListener(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "s")
	l, err := parse(t, "UNIX-LISTEN:"+path+",mode=0640,user=12,group=34,backlog=3 TCP:h:1").Listener()
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(path)
	if err != nil || fi.Mode() != os.ModeSocket|0o640 {
		t.Errorf("%v %v", fi, err)
	}
	if uid, gid := ownerOf(t, path); uid != 12 || gid != 34 {
		t.Errorf("%d:%d", uid, gid)
	}
	if fi, err := os.Stat(filepath.Dir(path)); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("%v %v", fi, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

// TestUnixListenerReplaced: a file that somebody has put in the socket's place
// is not removed.
func TestUnixListenerReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := parse(t, "UNIX-LISTEN:"+path+" TCP:h:1").Listener()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("another's"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if data, err := os.ReadFile(path); string(data) != "another's" || err != nil {
		t.Errorf("%q %v", data, err)
	}
}

// TestOwnPlanted: what stands at the path of a socket that was just made, and
// is a link or a file, keeps its mode, and so does what a link leads to.
func TestOwnPlanted(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	if err := os.WriteFile(victim, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	s := parse(t, "UNIX-LISTEN:"+link+",mode=777,user=12 TCP:h:1")
	for _, path := range []string{link, victim} {
		if _, err := s.own(path); err == nil || !strings.Contains(err.Error(), "not the socket any more") {
			t.Errorf("%s: %v", path, err)
		}
	}
	fi, err := os.Stat(victim)
	if uid, _ := ownerOf(t, victim); err != nil || fi.Mode().Perm() != 0o600 || uid != 0 {
		t.Errorf("the victim is %v of %d: %v", fi.Mode(), uid, err)
	}
}

// TestUnlinkEarly removes a file and a link, not what it leads to, and no
// directory.
func TestUnlinkEarly(t *testing.T) {
	dir := t.TempDir()
	victim, link, empty := filepath.Join(dir, "victim"), filepath.Join(dir, "link"), filepath.Join(dir, "empty")
	if err := os.WriteFile(victim, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := parse(t, "UNIX-LISTEN:"+link+",unlink-early,unlink-close=0 TCP:h:1").Listener()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if fi, err := os.Lstat(link); err != nil || fi.Mode().Type() != os.ModeSocket {
		t.Errorf("with unlink-close=0: %v %v", fi, err)
	}
	if data, err := os.ReadFile(victim); string(data) != "kept" || err != nil {
		t.Errorf("%q %v", data, err)
	}
	if _, err := parse(t, "UNIX-LISTEN:"+empty+",unlink-early TCP:h:1").Listener(); err == nil {
		t.Error("a directory has been removed")
	}
}

// TestExisting: neither a file nor a live socket is touched, a dead one is
// replaced (defect 22).
func TestExisting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s := parse(t, "UNIX-LISTEN:"+path+" TCP:h:1")
	live, err := s.Listener()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Listener(); err == nil || !strings.Contains(err.Error(), "somebody listens there") {
		t.Errorf("a live one: %v", err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	unix.Close(live.fd) // as after SIGKILL
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err := s.Listener()
	if err != nil {
		t.Fatalf("a dead one: %v", err)
	}
	l.Close()
	for _, make := range []func() error{func() error { return os.WriteFile(path, nil, 0o600) }, func() error { return os.Mkdir(path, 0o700) },
		func() error { return os.Symlink("/nowhere", path) }} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Listener(); err == nil || !strings.HasSuffix(err.Error(), " exists") {
			t.Errorf("%v", err)
		}
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// TestAgain: a port on which connections have just been can be had again
// (defect 21).
func TestAgain(t *testing.T) {
	s := parse(t, "TCP-LISTEN:1,bind=127.0.0.1,backlog=7 TCP:h:1")
	s.Listen.Address = "127.0.0.1:0"
	l, err := s.Listener()
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, "tcp", l.Addr().String())
	served, _, err := l.accept(false)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(served) // first, so that its end of the connection stays in TIME_WAIT
	c.Close()
	s.Listen.Address = l.Addr().String()
	l.Close()
	if l, err = s.Listener(); err != nil {
		t.Fatal(err)
	}
	l.Close()
}
