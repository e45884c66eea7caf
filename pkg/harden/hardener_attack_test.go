// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// attacker owns a directory of the machine's, and keeps putting other things in
// the place of what the hardener is about to change.
type attacker struct {
	*machine
	dir     string
	victim  string
	inVault string
}

func newAttacker(m *machine) *attacker {
	m.Helper()
	a := &attacker{m, "/opt/t", "/etc/victim", "/etc/vault/f"}
	m.file(a.victim, 0o4755)
	m.must(os.Link(m.root.Path(a.victim), m.root.Path("/etc/other-name")))
	m.file(a.inVault, 0o4711)
	m.mkdir(a.dir)
	m.must(os.Chown(m.root.Path(a.dir), 1000, 1000))
	return a
}

// swap does one round: each thing in turn takes the name at once.
func (a *attacker) swap(round int) error {
	name, spare := a.root.Path(a.dir+"/f"), a.root.Path(a.dir+"/spare")
	var err error
	switch round % 5 {
	case 0:
		err = os.Symlink("/etc/victim", spare) // as the machine sees it
	case 1:
		err = os.Symlink(a.root.Path(a.victim), spare) // as this system does
	case 2:
		err = os.Link(a.root.Path(a.victim), spare)
	case 3:
		err = unix.Mkfifo(spare, 0o4777)
	default:
		if err = os.WriteFile(spare, []byte("x"), 0o755); err == nil {
			err = unix.Chmod(spare, 0o6755)
		}
	}
	if err == nil {
		err = os.Rename(spare, name)
	}
	if err != nil {
		return err
	}
	// Only two things take turns here: a second name of the victim, and a file
	// that is to be stripped.
	g := a.root.Path(a.dir + "/g")
	if round%2 == 0 {
		err = os.Link(a.root.Path(a.victim), spare)
	} else if err = os.WriteFile(spare, []byte("x"), 0o755); err == nil {
		err = unix.Chmod(spare, 0o4755)
	}
	if err == nil {
		err = os.Rename(spare, g)
	}
	if err != nil {
		return err
	}
	// A directory and a link to the vault change places.
	d, link := a.root.Path(a.dir+"/d"), a.root.Path(a.dir+"/link")
	return unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE)
}

// TestAttack: whatever the attacker does while the hardener runs, nothing
// outside of his directory changes, nothing gets more rights, and what he leaves
// is stripped in the end.
func TestAttack(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	a := newAttacker(m)
	m.file(a.dir+"/d/f", 0o4755)
	m.link("../../etc/vault", a.dir+"/link")
	m.must(os.Lchown(m.root.Path(a.dir+"/link"), 1000, 1000))
	m.write(userRules, "/opt nosuid\n/opt/t/f 0777 user user\n/opt/t/d/f 0777 user user\n")

	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Add(1)
	rounds, failed := 0, error(nil)
	go func() {
		defer wait.Done()
		for ; failed == nil; rounds++ {
			select {
			case <-stop:
				return
			default:
				failed = a.swap(rounds)
			}
		}
	}()
	var before [2]string
	for i, path := range []string{a.victim, a.inVault} {
		before[i] = fmt.Sprintf("%o", m.mode(path))
	}
	for range 60 {
		m.hardener("enable")
		m.hardener("disable", disableAll)
	}
	close(stop)
	wait.Wait()
	if failed != nil || rounds == 0 {
		t.Fatalf("the attacker did not get far: %d rounds, %v", rounds, failed)
	}
	for i, path := range []string{a.victim, a.inVault} {
		var st unix.Stat_t
		m.must(unix.Lstat(m.root.Path(path), &st))
		if got := fmt.Sprintf("%o", st.Mode&modeBits); got != before[i] || st.Uid != 0 || st.Gid != 0 {
			t.Errorf("%s: mode %s, owner %d:%d; was %s, 0:0", path, got, st.Uid, st.Gid, before[i])
		}
	}
	t.Logf("%d rounds", rounds)
	m.must(os.RemoveAll(m.root.Path(a.dir + "/f")))
	m.file(a.dir+"/f", 0o4755)
	m.hardener("enable")
	if mode := m.mode(a.dir + "/f"); mode&privilegeBits != 0 {
		t.Errorf("left setuid: %o", mode)
	}
}
