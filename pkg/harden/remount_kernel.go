// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// mountTable is that of this thread's namespace; see proc(5).
const mountTable = "/proc/thread-self/mountinfo"

// remounter changes mounts.
type remounter struct {
	on  system
	say func(format string, args ...any)
	old bool // without the calls of Linux 5.12; in tests
}

// remountTarget is a directory, held.
type remountTarget struct {
	fd      int
	name    string // without links
	mounted bool   // it is the root of a mount
	flags   mountFlags
	visible int64 // all flags, as statfs(2) gives them
}

// Close lets it go.
func (t *remountTarget) Close() { unix.Close(t.fd) }

// open holds a directory and asks the kernel about it.
func (r *remounter) open(point string) (*remountTarget, error) {
	name, err := r.on.root.Canonical(point)
	if err != nil {
		return nil, err
	}
	// What is held is the mount on top, which is what is seen there.
	fd, err := unix.Open(r.on.root.Path(name), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	t := &remountTarget{fd: fd, name: name}
	var st unix.Statx_t
	var fs unix.Statfs_t
	err = errors.Join(unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_BASIC_STATS, &st), unix.Fstatfs(fd, &fs))
	if err == nil && st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		err = errors.New("the kernel does not tell what is a mount point (Linux 5.8 does)")
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	t.mounted = st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
	t.visible = int64(fs.Flags)
	for _, n := range flagNames() {
		if t.visible&n.visible != 0 {
			t.flags |= n.flag
		}
	}
	return t, nil
}

// attributes are flags as mount_setattr(2) takes them.
func attributes(f mountFlags) (out uint64) {
	for _, n := range flagNames() {
		if f&n.flag != 0 {
			out |= n.attr
		}
	}
	return out
}

// remount adds flags to a mount, and changes neither its other options nor its
// propagation.
func (r *remounter) remount(t *remountTarget, add mountFlags) error {
	return r.setAttributes(t, add, 0)
}

// clear takes flags from a mount.
func (r *remounter) clear(t *remountTarget, flags mountFlags) error {
	return r.setAttributes(t, 0, flags)
}

func (r *remounter) setAttributes(t *remountTarget, add, remove mountFlags) error {
	err := error(unix.ENOSYS)
	if !r.old {
		err = unix.MountSetattr(t.fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attributes(add), Attr_clr: attributes(remove)})
	}
	if err != unix.ENOSYS {
		return wrap("mount_setattr", err)
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND)
	for _, k := range kept() {
		if t.visible&k.visible != 0 {
			flags |= k.ms
		}
	}
	for _, n := range flagNames() {
		if (t.flags|add)&^remove&n.flag != 0 {
			flags |= n.ms
		}
	}
	return wrap("mount", unix.Mount("", fmt.Sprintf("/proc/self/fd/%d", t.fd), "", flags, ""))
}

// stNoSymFollow is ST_NOSYMFOLLOW of <linux/statfs.h>.
const stNoSymFollow = 0x2000

// kept are the other options of a mount, which MS_REMOUNT would clear.
func kept() []flagName {
	return []flagName{
		{ms: unix.MS_RDONLY, visible: unix.ST_RDONLY}, {ms: unix.MS_NOATIME, visible: unix.ST_NOATIME},
		{ms: unix.MS_NODIRATIME, visible: unix.ST_NODIRATIME}, {ms: unix.MS_RELATIME, visible: unix.ST_RELATIME},
		{ms: unix.MS_NOSYMFOLLOW, visible: stNoSymFollow},
	}
}

// bind puts a directory over itself, with flags, and with everything that is
// mounted below it, which keeps its own. The flags are there before the mount
// is.
func (r *remounter) bind(t *remountTarget, flags mountFlags) error {
	tree, err := -1, error(unix.ENOSYS)
	if !r.old {
		tree, err = unix.OpenTree(t.fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	}
	if err == unix.ENOSYS {
		return r.bindOld(t, flags)
	}
	if err != nil {
		return wrap("open_tree", err)
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: attributes(flags)}); err != nil {
		return wrap("mount_setattr", err)
	}
	return wrap("move_mount", unix.MoveMount(tree, "", t.fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// bindOld is bind before Linux 5.12.
func (r *remounter) bindOld(t *remountTarget, flags mountFlags) error {
	itself := fmt.Sprintf("/proc/self/fd/%d", t.fd)
	if err := unix.Mount(itself, itself, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return wrap("mount", err)
	}
	top, err := r.open(t.name)
	if err != nil {
		return err
	}
	defer top.Close()
	return r.setAttributes(top, flags, 0)
}

func wrap(call string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", call, err)
}
