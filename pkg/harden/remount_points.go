// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mountFlags are the options that are added to a mount.
type mountFlags uint

const (
	nosuid mountFlags = 1 << iota
	nodev
	noexec
)

// flagName is a flag's name, and its values for mount_setattr(2), mount(2) and
// statfs(2).
type flagName struct {
	flag    mountFlags
	name    string
	attr    uint64
	ms      uintptr
	visible int64
}

func flagNames() []flagName {
	return []flagName{
		{nosuid, "nosuid", unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID, unix.ST_NOSUID},
		{nodev, "nodev", unix.MOUNT_ATTR_NODEV, unix.MS_NODEV, unix.ST_NODEV},
		{noexec, "noexec", unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC, unix.ST_NOEXEC},
	}
}

// String is as in fstab(5): nosuid,nodev.
func (f mountFlags) String() string {
	var out []string
	for _, n := range flagNames() {
		if f&n.flag != 0 {
			out = append(out, n.name)
		}
	}
	return strings.Join(out, ",")
}

// parseFlags is the reverse of String.
func parseFlags(text string) (f mountFlags, ok bool) {
	for word := range strings.SplitSeq(text, ",") {
		i := slices.IndexFunc(flagNames(), func(n flagName) bool { return n.name == word })
		if i < 0 {
			return 0, false
		}
		f |= flagNames()[i].flag
	}
	return f, true
}

// mountPoint is a directory and what is wanted of it.
type mountPoint struct {
	path  string
	flags mountFlags
}

// Levels of noexec.
const (
	levelNone   = 0 // do nothing
	levelLow    = 1
	levelMedium = 2 // noexec almost everywhere
	levelHigh   = 3 // and for homes
)

// pointsOf are the mount points of a level, parents before children: a bind of
// /var after /var/tmp would cover what was done there (defect D-21). Scripts of
// packages run in /var, and programs in /opt, /etc and /usr.
func pointsOf(level int, newRoot string) []mountPoint {
	most, home := nosuid|nodev, nosuid|nodev
	if level >= levelMedium {
		most |= noexec
	}
	if level >= levelHigh {
		home |= noexec
	}
	points := []mountPoint{
		{"/boot", nosuid | nodev | noexec}, {"/boot/efi", nosuid | nodev | noexec},
		{"/tmp", most}, {"/var", nosuid | nodev}, {"/var/tmp", most}, {"/var/log", nosuid | nodev | noexec},
		{"/usr", nodev}, {"/home", home}, {"/root", home}, {"/srv", most}, {"/media", most}, {"/mnt", most},
		{"/opt", nosuid | nodev}, {"/etc", nosuid | nodev},
	}
	for i := range points {
		points[i].path = path.Join("/", newRoot, points[i].path)
	}
	return append([]mountPoint{{"/run", most}, {"/dev", nosuid | noexec}, {"/dev/shm", most}}, points...)
}

// points2020 are those of 2020, when no level is given anywhere.
func points2020(noExec bool) []mountPoint {
	flags := nosuid | nodev
	if noExec {
		flags |= noexec
	}
	return []mountPoint{{"/home", flags}, {"/run", flags}, {"/dev/shm", flags}, {"/tmp", flags}}
}

// parseLevel reads a level.
func parseLevel(text, where string) (int, error) {
	if len(text) != 1 || text[0] < '0' || text[0] > '3' {
		return 0, fmt.Errorf("%s: %q is no level: use 0, 1, 2 or 3", where, printable(text))
	}
	return int(text[0] - '0'), nil
}

// lastParameter is the last value of a kernel parameter.
func lastParameter(cmdline, name string) (value string, ok bool) {
	for word := range strings.FieldsSeq(cmdline) {
		if v, is := strings.CutPrefix(word, name+"="); is {
			value, ok = v, true
		}
	}
	return value, ok
}

// mountInfo is a line of /proc/PID/mountinfo, as far as fstab(5) has it too;
// names are escaped alike in both.
type mountInfo struct{ source, point, kind, options string }

// parseMountInfo reads the table. The last line of a mount point is what is seen
// there.
func parseMountInfo(text string) map[string]mountInfo {
	mounts := map[string]mountInfo{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		dash := slices.Index(f, "-")
		if dash < 6 || len(f) < dash+4 {
			continue
		}
		mounts[f[4]] = mountInfo{f[dash+2], f[4], f[dash+1], f[5]}
	}
	return mounts
}

// fstab is the line that would make the options last.
func (p mountPoint) fstab(name string, mount *mountInfo) string {
	if mount == nil {
		return fmt.Sprintf("%s %s none bind,%s 0 0", name, name, p.flags)
	}
	options := strings.Split(mount.options, ",")
	for _, n := range flagNames() {
		if p.flags&n.flag != 0 && !slices.Contains(options, n.name) {
			options = append(options, n.name)
		}
	}
	return fmt.Sprintf("%s %s %s %s 0 0", mount.source, name, mount.kind, strings.Join(options, ","))
}
