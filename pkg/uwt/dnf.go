// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/execx"
)

// Waiting for Tor: by leaprun where privleap allows it, else directly.
const (
	waitAction = "try-wait-for-tor-service-running"
	waitPath   = "/usr/libexec/helper-scripts/" + waitAction
)

// dnf gives dnf Tor as its proxy, unless the user has chosen one: what it
// downloads with does not work with torsocks. Its own children stay wrapped
// (U22).
func (w *wrapper) dnf(ctx context.Context, args []string) ([]string, error) {
	if err := w.waitForTor(ctx); err != nil {
		return nil, err
	}
	if setsProxy(args) {
		return args, nil
	}
	if err := torAnswers(ctx, torAddress); err != nil {
		return args, w.withoutTor(err, codeFailed)
	}
	password, err := isolationPassword("dnf-wrapper_")
	if err != nil {
		return nil, err
	}
	return append([]string{
		"--setopt=proxy=socks5h://" + torAddress + "/",
		"--setopt=proxy_username=" + isolationUser,
		"--setopt=proxy_password=" + password,
	}, args...), nil
}

// setsProxy reports a proxy in dnf's arguments, in one word or in two.
func setsProxy(args []string) bool {
	previous := ""
	for _, arg := range args {
		setting, ok := strings.CutPrefix(arg, "--setopt=")
		if !ok && previous == "--setopt" {
			setting = arg
		}
		switch name, _, _ := strings.Cut(setting, "="); name {
		case "proxy", "proxy_username", "proxy_password":
			return true
		}
		previous = arg
	}
	return false
}

// waitForTor waits until Tor runs, or failed to, if what can tell is here
// (U21). Its failure ends the wrapper as it does the original.
func (w *wrapper) waitForTor(ctx context.Context) error {
	run := func(path string, args ...string) error {
		return execx.Cmd{Path: path, Args: args, Env: w.environ(), Stdout: w.env.Stderr, Stderr: w.env.Stderr}.Run(ctx)
	}
	pathList := w.set.Vars["PATH"]
	if leaprun := elfx.LookPath("leaprun", pathList); leaprun != "" {
		check := execx.Cmd{Path: leaprun, Args: []string{"--check", waitAction}, Env: w.environ()}
		if check.Run(ctx) == nil {
			return waited(run(leaprun, waitAction))
		}
	}
	if unix.Access(waitPath, unix.X_OK) != nil {
		w.trace("%s is not here: not waiting for Tor", waitPath)
		return nil
	}
	return waited(run(waitPath))
}

func waited(err error) error {
	var status *execx.StatusError
	if errors.As(err, &status) {
		return &cli.Exit{Code: status.Status, Err: err}
	}
	return err
}
