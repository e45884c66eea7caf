// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"errors"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// Folders whose files tell programs of each other.
const (
	statusDir   = "/run/sdwdate"  // the account sdwdate owns it
	anondateDir = "/run/anondate" // of root's anondate-set
)

// Files in the former.
const (
	fileCertificate   = "tor_certificate_lifetime_set" // in both
	fileSdwdateRan    = "sdwdate_was_running.status"
	fileTorRan        = "tor_was_running.status"
	fileAnondateAsked = "request_anondate-set"
)

// folder is an open directory that others may write to: nothing in it is
// reached through a link (D30).
type folder struct {
	fd       int
	uid, gid int // owner of what root creates in it, -1 for nobody in particular
}

// openStatus opens the folder of the status files, and makes it where it is
// missing, for the daemon's account. Nothing that is in it changes its owner
// (D31).
func openStatus(root fsx.Root) (*folder, error) {
	if err := prepareStatus(root); err != nil {
		return nil, err
	}
	f, err := openFolder(root, statusDir)
	if err != nil {
		return nil, err
	}
	if uid, gid, ok := daemonAccount(root); ok && os.Geteuid() == 0 {
		f.uid, f.gid = uid, gid
		if err := unix.Fchown(f.fd, uid, gid); err != nil {
			f.close()
			return nil, &os.PathError{Op: "chown", Path: statusDir, Err: err}
		}
	}
	return f, nil
}

// prepareStatus makes the folder of the status files where it is missing.
func prepareStatus(root fsx.Root) error {
	const mode = 0o755
	if root.Exists(statusDir) {
		return nil
	}
	if err := root.MkdirAll(statusDir, mode); err != nil {
		return err
	}
	uid, gid, ok := daemonAccount(root)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(root.Path(statusDir), uid, gid)
}

func openFolder(root fsx.Root, path string) (*folder, error) {
	fd, err := unix.Open(root.Path(path), unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &folder{fd: fd, uid: -1, gid: -1}, nil
}

func (f *folder) close() { unix.Close(f.fd) }

// remove deletes an entry, a link itself; a missing one is no error.
func (f *folder) remove(name string) error {
	err := unix.Unlinkat(f.fd, name, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: name, Err: err}
	}
	return nil
}

// create puts an empty file in the place of whatever has the name.
func (f *folder) create(name string) error {
	if err := f.remove(name); err != nil {
		return err
	}
	fd, err := unix.Openat(f.fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, publicFile)
	if err != nil {
		return &os.PathError{Op: "create", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if err := unix.Fchmod(fd, publicFile); err != nil {
		return &os.PathError{Op: "chmod", Path: name, Err: err}
	}
	if f.uid < 0 {
		return nil
	}
	if err := unix.Fchown(fd, f.uid, f.gid); err != nil {
		return &os.PathError{Op: "chown", Path: name, Err: err}
	}
	return nil
}

// has reports whether a regular file of the name is there: what somebody else
// may have put there instead is none.
func (f *folder) has(name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(f.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// daemonAccount is the account sdwdate, if there is one.
func daemonAccount(root fsx.Root) (uid, gid int, ok bool) {
	const (
		name    = "sdwdate"
		sizeMax = 16 << 20
		fields  = 7 // passwd(5)
	)
	data, err := root.ReadFile("/etc/passwd", sizeMax)
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != fields || f[0] != name {
			continue
		}
		uid, uidErr := strconv.Atoi(f[2])
		gid, gidErr := strconv.Atoi(f[3])
		return uid, gid, uidErr == nil && gidErr == nil
	}
	return 0, 0, false
}
