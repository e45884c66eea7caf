// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// program is who holds the other end of a connection within this machine.
type program struct {
	pid   int // one of them, if several processes hold it
	label string
	user  string
}

// errUnknown says that no one answer can be given.
var errUnknown = errors.New("cannot identify client")

// identifier finds programs by what the kernel tells below /proc.
type identifier struct {
	proc  string
	net   string                        // with the lists of sockets
	label func(pid int) (string, error) // AppArmor profile or executable
}

func newIdentifier(proc string) identifier {
	return identifier{proc: proc, net: filepath.Join(proc, "net"), label: func(pid int) (string, error) { return labelOf(proc, pid) }}
}

// identify finds who holds the socket at the client's end. The connection is
// looked up by both ends, never by the client's address alone, which any other
// socket can have too (defect 23). All processes that hold it must be alike, and
// be so before and after they were looked at: a pid may have got a new owner.
func (id identifier) identify(client, server netip.AddrPort) (program, error) {
	inode, err := id.inode(client, server)
	if err != nil {
		return program{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	first, err := id.holders(inode)
	if err != nil {
		return program{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	again, err := id.holders(inode)
	if err != nil || first != again {
		return program{}, fmt.Errorf("%w: it changed while it was looked at", errUnknown)
	}
	if u, err := user.LookupId(first.user); err == nil {
		first.user = u.Username
	}
	return first, nil
}

// inode is the number of the established TCP socket between two ends.
func (id identifier) inode(local, remote netip.AddrPort) (uint64, error) {
	var found []uint64
	for name, wide := range map[string]bool{"tcp": false, "tcp6": true} {
		data, err := os.ReadFile(filepath.Join(id.net, name))
		if errors.Is(err, fs.ErrNotExist) && wide {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, err
		}
		want := kernelAddress(local, wide) + " " + kernelAddress(remote, wide) + " 01"
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			const inodeField = 9
			if len(f) <= inodeField || f[1]+" "+f[2]+" "+f[3] != want {
				continue
			}
			n, err := strconv.ParseUint(f[inodeField], 10, 64)
			if err != nil || n == 0 {
				return 0, fmt.Errorf("the kernel's list of sockets: %q", f[inodeField])
			}
			found = append(found, n)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("%d sockets for %s", len(found), local)
	}
	return found[0], nil
}

// kernelAddress is an end of a connection as /proc/net/tcp writes it, or
// /proc/net/tcp6, which has IPv4 addresses mapped: words of 32 bits in the
// machine's byte order.
func kernelAddress(a netip.AddrPort, wide bool) string {
	var b []byte
	switch addr := a.Addr().Unmap(); {
	case wide:
		all := addr.As16()
		b = all[:]
	case addr.Is4():
		four := addr.As4()
		b = four[:]
	default:
		return ""
	}
	var out strings.Builder
	for ; len(b) > 0; b = b[4:] {
		fmt.Fprintf(&out, "%08X", binary.NativeEndian.Uint32(b))
	}
	return fmt.Sprintf("%s:%04X", out.String(), a.Port())
}

// holders looks at all processes that hold a socket, which must be alike; user
// is a number. A process that cannot be looked at might be one.
func (id identifier) holders(inode uint64) (program, error) {
	entries, err := os.ReadDir(id.proc)
	if err != nil {
		return program{}, err
	}
	want := "socket:[" + strconv.FormatUint(inode, 10) + "]"
	var found *program
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		holds, err := id.holds(pid, want)
		if err != nil {
			return program{}, err
		}
		if !holds {
			continue
		}
		p, err := id.look(pid)
		switch {
		case err != nil:
			return program{}, err
		case found == nil:
			found = &p
		case found.label != p.label || found.user != p.user:
			return program{}, fmt.Errorf("the processes %d and %d, which are not alike, share it", found.pid, pid)
		}
	}
	if found == nil {
		return program{}, errors.New("no process holds it")
	}
	return *found, nil
}

// holds tells whether a process has a descriptor that leads to a socket. One
// that has just ended has none.
func (id identifier) holds(pid int, want string) (bool, error) {
	dir := filepath.Join(id.proc, strconv.Itoa(pid), "fd")
	ended := func(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }
	entries, err := os.ReadDir(dir)
	if err != nil && !ended(err) {
		return false, err
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil && !ended(err) {
			return false, err
		}
		if to == want {
			return true, nil
		}
	}
	return false, nil
}

// look reads a process's label and owner; the label before and after the owner.
func (id identifier) look(pid int) (program, error) {
	label, err := id.label(pid)
	if err != nil {
		return program{}, err
	}
	fi, err := os.Stat(filepath.Join(id.proc, strconv.Itoa(pid)))
	if err != nil {
		return program{}, err
	}
	again, err := id.label(pid)
	if err != nil || label != again {
		return program{}, fmt.Errorf("process %d changed while it was looked at", pid)
	}
	return program{pid: pid, label: label, user: strconv.FormatUint(uint64(fi.Sys().(*syscall.Stat_t).Uid), 10)}, nil
}

// labelOf is the AppArmor profile that confines a process, else its executable.
// A kernel without AppArmor refuses to tell (defect 24).
func labelOf(proc string, pid int) (string, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	current, err := os.ReadFile(filepath.Join(dir, "attr", "current"))
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if name, ok := confined(string(current)); ok {
		return name, nil
	}
	return os.Readlink(filepath.Join(dir, "exe"))
}

// confined reads the attribute.
func confined(text string) (profile string, ok bool) {
	text = strings.TrimSpace(strings.TrimRight(text, "\x00"))
	for _, mode := range []string{" (enforce)", " (complain)"} {
		if name, ok := strings.CutSuffix(text, mode); ok && name != "" {
			return name, true
		}
	}
	return "", false
}
