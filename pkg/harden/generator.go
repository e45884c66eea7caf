// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"whonix-networking/pkg/cli"
)

// generatorName is the name of hide-hardware-info by which systemd runs it
// before it reads units; see systemd.generator(7).
const generatorName = "security-misc-hardening"

// dropIn gives a service a group, while a unit of ours is enabled that would
// otherwise take from the service what it needs.
type dropIn struct {
	when, service, group string
}

func dropIns() []dropIn {
	return []dropIn{
		{"hide-hardware-info.service", "user@.service", "sysfs"},
		{"proc-hidepid.service", "systemd-logind.service", "proc"},
		{"proc-hidepid.service", "polkit.service", "proc"},
	}
}

// toggleDir has an empty file for each thing that the administrator wants, so
// that no file of a package has to be edited.
const toggleDir = "/etc/security-misc/enable.d"

// toggle is a file there, and the unit that it switches on.
type toggle struct{ name, unit, target string }

func toggles() []toggle {
	return []toggle{
		{"hardware", "hide-hardware-info.service", "sysinit.target"},
		{"hidepid", "proc-hidepid.service", "sysinit.target"},
		{"noexec", "remount-secure.service", "sysinit-post.target"},
		{"permission-hardener", "permission-hardener.service", "sysinit.target"},
	}
}

// unitDir is where the package's units are.
const unitDir = "/usr/lib/systemd/system"

// dropInName is the file's name in the folder of the service.
const dropInName = "40_security-misc.conf"

// generate switches units on that the administrator has a file for, and writes
// the drop-ins, to a generator's folder. A service with a group that does not
// exist would not start at all: then there is no drop-in, and
// proc-hidepid.service, which looks for its own, does not start either.
func generate(env cli.Env, on system) error {
	if len(env.Args) < 2 {
		return errors.New("usage: DIRECTORY, given by systemd")
	}
	names := newAccounts(on.root)
	var failures []error
	for _, t := range toggles() {
		if !on.root.Exists(toggleDir + "/" + t.name) {
			continue
		}
		wants := filepath.Join(env.Args[1], t.target+".wants")
		err := os.MkdirAll(wants, dirMode)
		if err == nil {
			err = os.Symlink(unitDir+"/"+t.unit, filepath.Join(wants, t.unit))
		}
		if !errors.Is(err, fs.ErrExist) {
			failures = append(failures, err)
		}
	}
	for _, d := range dropIns() {
		if _, ok := names.groups.id[d.group]; !ok || !enabled(on, d.when) {
			continue
		}
		dir := filepath.Join(env.Args[1], d.service+".d")
		text := fmt.Sprintf("# Made for %s.\n[Service]\nSupplementaryGroups=%s\n", d.when, d.group)
		err := os.MkdirAll(dir, dirMode)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, dropInName), []byte(text), fileMode)
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// enabled reports whether a unit of the early boot is.
func enabled(on system, unit string) bool {
	for _, t := range toggles() {
		if t.unit == unit && on.root.Exists(toggleDir+"/"+t.name) {
			return true
		}
	}
	for _, dir := range []string{"/etc/systemd/system", "/run/systemd/system", unitDir} {
		if _, err := os.Lstat(on.root.Path(dir + "/sysinit.target.wants/" + unit)); err == nil {
			return true
		}
	}
	return false
}
