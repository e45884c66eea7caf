// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// enableDir has a file for each class of modules that an administrator allows.
const enableDir = "/etc/security-misc/enable.d"

const (
	modprobePath = "/usr/sbin/modprobe"
	disableConf  = "/etc/modprobe.d/30_security-misc_disable.conf"
)

const disabledHelp = `usage: %s
Stands in the place of a kernel module that does not load. See
disabled-by-security-misc(8).
  --version  print the version
`

// disabledClasses are the classes of modules, and how they are called in
// messages.
func disabledClasses() map[string]string {
	return map[string]string{
		"bluetooth": "Bluetooth", "cdrom": "CD-ROM/DVD", "cpumsr": "CPU MSR", "filesys": "file system", "firewire": "FireWire (IEEE 1394)",
		"framebuffer": "framebuffer (fbdev)", "gps": "Global Positioning System (GPS)", "intelme": "Intel Management Engine (ME)",
		"intelpmt": "Intel Platform Monitoring Technology (PMT) Telemetry", "miscellaneous": "", "netfilesys": "network file system",
		"network": "network protocol", "thunderbolt": "Thunderbolt",
	}
}

// disabledClass is the class in the name of a program disabled-CLASS-by-security-misc;
// empty if it is none.
func disabledClass(command string) string {
	word, _, _ := strings.Cut(command, " ")
	class, ok := strings.CutPrefix(path.Base(word), "disabled-")
	class, ok2 := strings.CutSuffix(class, "-by-security-misc")
	if _, known := disabledClasses()[class]; !ok || !ok2 || !known {
		return ""
	}
	return class
}

// allowed reports whether an administrator has put the file of a class in place.
func allowed(root fsx.Root, class string) bool {
	file := enableDir + "/" + class
	return root.IsFile(file) && root.Trusted(file) == nil
}

// Disabled is the program disabled-by-security-misc, by the names
// disabled-CLASS-by-security-misc: what modprobe(8) runs instead of loading a
// module.
func Disabled(_ context.Context, env cli.Env) error { return disabled(fsx.Host, execx.Replace, env) }

func disabled(root fsx.Root, replace func(path string, argv, environ []string) error, env cli.Env) error {
	class := disabledClass(env.Args[0])
	if class == "" || slices.Contains(env.Args[1:], "--help") {
		if done, err := none(env, disabledHelp); done {
			return err
		}
		return cli.WithHint(cli.Usagef("called as %q", env.Name()), "it is called disabled-CLASS-by-security-misc")
	}
	// modprobe(8) says which module it was.
	name, _ := env.Lookup("MODPROBE_MODULE")
	if plainModule(name) && allowed(root, class) {
		argv := []string{modprobePath, "--ignore-install", name}
		err := replace(root.Path(modprobePath), argv, execx.CleanEnv(nil))
		return &cli.Exit{Code: execx.Status(err), Err: fmt.Errorf("%s: %w", modprobePath, err)}
	}
	kind := "kernel module"
	if text := disabledClasses()[class]; text != "" {
		kind = text + " " + kind
	}
	fmt.Fprintf(env.Stderr, "%s: ALERT: This %s is disabled by package security-misc-shared by default. See the configuration file %s for details. | args: %s\n",
		env.Args[0], kind, disableConf, printable(strings.Join(env.Args[1:], " ")))
	return &cli.Exit{Code: cli.CodeFailed}
}

// plainModule reports whether a name is a module's.
func plainModule(name string) bool {
	return name != "" && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}
