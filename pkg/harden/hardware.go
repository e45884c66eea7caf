// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"whonix-networking/pkg/cli"
)

const hardwareUsage = `usage: hide-hardware-info [--help | --version]

Takes access to /sys, /proc/cpuinfo, /proc/bus and /proc/scsi from users who are
not in the groups sysfs and cpuinfo. Settings are in
/etc/hide-hardware-info.d/*.conf.
`

// Bits that are taken away.
const (
	forOthers = 0o007
	forGroup  = 0o070
	readEnter = 0o005
)

// hardwareSettings are the switches of the configuration.
type hardwareSettings struct {
	sysfsWhitelist, cpuinfoWhitelist, sysfs, selinux bool
}

// HideHardwareInfo is the program hide-hardware-info, and by another name the
// generator of drop-ins for it.
func HideHardwareInfo(ctx context.Context, env cli.Env) error {
	return hideHardwareInfo(ctx, env, host())
}

func hideHardwareInfo(_ context.Context, env cli.Env, on system) error {
	if env.Name() == generatorName {
		return generate(env, on)
	}
	if done, err := noArguments(env, "hide-hardware-info", hardwareUsage); done || err != nil {
		return err
	}
	s, wrong := hardwareConfig(on)
	if len(wrong) > 0 { // nothing is changed
		for _, c := range wrong {
			fmt.Fprintf(env.Stderr, "ERROR: %s: %s\n", c.at, c.text)
		}
		return &cli.Exit{Code: cli.CodeFailed}
	}
	h := &hardware{on: on, env: env, names: newAccounts(on.root)}
	fmt.Fprintf(env.Stdout, "%s: INFO: START\n", env.Args[0])
	h.hide(s)
	fmt.Fprintf(env.Stdout, "%s: INFO: END\n", env.Args[0])
	if h.failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// hardwareConfig reads the settings: /usr/local/etc first, so that /etc wins.
// They are data, and no shell sees them (D-8).
func hardwareConfig(on system) (s hardwareSettings, wrong []complaint) {
	s = hardwareSettings{sysfsWhitelist: true, cpuinfoWhitelist: true, sysfs: true}
	for _, dir := range []string{"/usr/local/etc/hide-hardware-info.d", "/etc/hide-hardware-info.d"} {
		files, err := on.root.ConfFiles(dir, ".conf")
		if err != nil {
			wrong = append(wrong, complaint{origin{file: dir}, err.Error()})
		}
		for _, file := range files {
			err := on.root.Trusted(file)
			var data []byte
			if err == nil {
				data, err = on.root.ReadFile(file, textMax)
			}
			if err != nil {
				wrong = append(wrong, complaint{origin{file: file}, err.Error()})
				continue
			}
			wrong = append(wrong, s.parse(file, data)...)
		}
	}
	return s, wrong
}

// parse reads lines of the form key=0 or key=1, with quotes and blanks.
func (s *hardwareSettings) parse(file string, data []byte) (wrong []complaint) {
	keys := map[string]*bool{"sysfs_whitelist": &s.sysfsWhitelist, "cpuinfo_whitelist": &s.cpuinfoWhitelist, "sysfs": &s.sysfs, "selinux": &s.selinux}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		text, _, _ := strings.Cut(string(line), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		key, value, _ := strings.Cut(text, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if len(value) == 3 && value[0] == value[2] && (value[0] == '"' || value[0] == '\'') {
			value = value[1:2]
		}
		target, known := keys[key]
		if !known || value != "0" && value != "1" {
			wrong = append(wrong, complaint{origin{file, number}, fmt.Sprintf("%q is no setting; there are sysfs_whitelist, cpuinfo_whitelist, sysfs and selinux, each =0 or =1", printable(text))})
			continue
		}
		*target = value == "1"
	}
	return wrong
}

// hardware is one run.
type hardware struct {
	on     system
	env    cli.Env
	names  *accounts
	failed bool
}

func (h *hardware) hide(s hardwareSettings) {
	h.group("/proc/cpuinfo", "cpuinfo", s.cpuinfoWhitelist)
	h.change("normal", "/proc/bus", forGroup|forOthers, 0, "")
	if h.on.root.Exists("/proc/scsi") {
		h.change("normal", "/proc/scsi", forGroup|forOthers, 0, "")
	}
	if !s.sysfs {
		return
	}
	h.group("/sys", "sysfs", s.sysfsWhitelist)
	bits, group := uint32(forOthers), "sysfs"
	if !s.sysfsWhitelist {
		bits, group = forGroup|forOthers, ""
	}
	if _, ok := h.names.gid("sysfs"); !ok {
		group = ""
	}
	for _, dir := range append(h.directories("/sys"), h.directories("/sys/fs")...) {
		h.try("normal", dir, bits, 0, group)
	}
	// polkit looks at /sys/fs/cgroup.
	for _, dir := range []string{"/sys", "/sys/fs"} {
		h.change("normal", dir, 0, readEnter, "")
	}
	if !h.on.root.Exists("/sys/fs/selinux") {
		return
	}
	fmt.Fprint(h.env.Stdout, "INFO: SELinux detected because folder /sys/fs/selinux exists. See also:\nhttps://www.kicksecure.com/wiki/Security-misc#selinux\n")
	if s.selinux {
		h.change("normal", "/sys/fs/selinux", 0, readEnter, "")
		fmt.Fprintln(h.env.Stdout, "INFO: SELinux mode enabled: its tools can look at /sys/fs/selinux.")
	} else {
		fmt.Fprintln(h.env.Stdout, "INFO: SELinux detected, but SELinux mode is not enabled. Tools of SELinux may fail; see selinux=1.")
	}
}

// group leaves a path to a group, or to root alone.
func (h *hardware) group(target, group string, whitelist bool) {
	if !whitelist {
		fmt.Fprintf(h.env.Stdout, "INFO: The %s whitelist is not enabled. Some things may not work properly. Full %s hardening...\n", group, group)
		h.change("normal", target, forGroup|forOthers, 0, "")
		return
	}
	if _, ok := h.names.gid(group); !ok { // its whole name: D-8
		fmt.Fprintf(h.env.Stdout, "ERROR: The %s group does not exist, the %s whitelist was not created.\n", group, group)
		return
	}
	h.change("whitelist", target, forOthers, 0, group)
}

// directories lists those in a directory, and no links to others. Files are
// attributes of devices, which nobody is to get (D-8).
func (h *hardware) directories(dir string) []string {
	list, err := os.ReadDir(h.on.root.Path(dir))
	if err != nil {
		fmt.Fprintf(h.env.Stdout, "ERROR: %s could not be found.\n", dir)
		return nil
	}
	var out []string
	for _, e := range list {
		if e.IsDir() {
			out = append(out, path.Join(dir, e.Name()))
		}
	}
	return out
}

// change is try for what must not fail.
func (h *hardware) change(kind, target string, clear, set uint32, group string) {
	switch err := h.try(kind, target, clear, set, group); {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(h.env.Stdout, "ERROR: %s could not be found.\n", target)
	case err != nil:
		h.failed = true
		fmt.Fprintf(h.env.Stderr, "ERROR: %v\n", err)
	}
}

// try takes bits from and gives bits to one object, and hands it to a group.
func (h *hardware) try(kind, target string, clear, set uint32, group string) error {
	p, err := h.on.root.Pin(target)
	if err != nil {
		return err
	}
	defer p.Close()
	say := func(format string, args ...any) {
		fmt.Fprintf(h.env.Stdout, "INFO: %-19s: %s %s\n", kind+" executing", fmt.Sprintf(format, args...), target)
	}
	mode := p.Info.Mode&modeBits&^clear | set
	if set != 0 {
		say("chmod o+rx")
	} else if clear&forGroup != 0 {
		say("chmod og-rwx")
	} else {
		say("chmod o-rwx")
	}
	if err := p.Chmod(mode); err != nil {
		return err
	}
	if gid, ok := h.names.gid(group); ok && group != "" {
		say("chgrp %s", group)
		return p.Chown(-1, gid)
	}
	return nil
}
