// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// Where the settings and the flag for IPv6 are kept.
const (
	runDir          = "/run/helper-scripts"
	environmentFile = runDir + "/settings_environment_file"
	ipv6Flag        = runDir + "/ipv6-is-enabled"
	ipv6Sysctl      = "/proc/sys/net/ipv6/conf/all/disable_ipv6"
)

const settingsHelp = `usage: %[1]s
%[2]s See settings-echo(1).
`

// asked answers --help. Other arguments were ignored for ever, and are.
func asked(env cli.Env, text string) bool {
	if len(env.Args) > 1 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
		fmt.Fprintf(env.Stdout, settingsHelp, env.Name(), text)
		return true
	}
	return false
}

// SettingsEcho is the program settings-echo, documented as settings_echo.
func SettingsEcho(_ context.Context, env cli.Env) error {
	if asked(env, "Prints where the Gateway is, as assignments.") {
		return nil
	}
	_, err := fmt.Fprint(env.Stdout, settings(fsx.Host, env, warner(env.Stderr)))
	return err
}

// SettingsFile is the program settings-environment-file-update: it keeps what
// settings-echo prints in a file, for units to read.
func SettingsFile(_ context.Context, env cli.Env) error {
	if asked(env, "Writes where the Gateway is to "+environmentFile+".") {
		return nil
	}
	return writeSettings(fsx.Host, settings(fsx.Host, env, warner(env.Stderr)))
}

func writeSettings(root fsx.Root, g Gateway) error {
	const dirMode, fileMode = 0o775, 0o644
	if err := root.MkdirAll(runDir, dirMode); err != nil {
		return err
	}
	return root.WriteAtomic(environmentFile, []byte(g.String()), fileMode)
}

// DetectIPv6 is the program detect-ipv6-enabled-in-kernel: a flag file says
// whether the kernel has IPv6 switched on.
func DetectIPv6(_ context.Context, env cli.Env) error {
	if asked(env, "Creates "+ipv6Flag+" if the kernel has IPv6.") {
		return nil
	}
	return detectIPv6(fsx.Host, env)
}

func detectIPv6(root fsx.Root, env cli.Env) error {
	const sizeMax, dirMode, fileMode = 64, 0o775, 0o644
	data, err := root.ReadFile(ipv6Sysctl, sizeMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(env.Stdout, "INFO: '%s' does not exist, assuming IPv6 is disabled, ok.\n", ipv6Sysctl)
		return root.Remove(ipv6Flag)
	case err != nil:
		fmt.Fprintf(env.Stderr, "ERROR: Unable to read '%s'!\n", ipv6Sysctl)
		return &cli.Exit{Code: cli.CodeFailed}
	}
	value := strings.TrimSpace(string(data))
	if value == "1" {
		fmt.Fprintf(env.Stdout, "INFO: '%s' exists and contains value '1', therefore IPv6 is disabled, ok.\n", ipv6Sysctl)
		return root.Remove(ipv6Flag)
	}
	fmt.Fprintf(env.Stdout, "INFO: '%s' exists and does not contain value '1', therefore IPv6 is enabled, ok.\n", ipv6Sysctl)
	err = root.MkdirAll(runDir, dirMode)
	if err == nil {
		err = root.Touch(ipv6Flag, fileMode)
	}
	if err != nil {
		fmt.Fprintf(env.Stderr, "ERROR: Unable to create '%s'!\n", ipv6Flag)
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}
