// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// codeNotRoot is the original's for root.
const codeNotRoot = 112

const hexchatHelp = `usage: %s
Ends HexChat, puts its configuration aside, and gives it its first one again. See
hexchat-reset(1).
  --version  print the version
`

// HexchatReset is the program hexchat-reset.
func HexchatReset(ctx context.Context, env cli.Env) error {
	return hexchatReset(ctx, fsx.Host, os.Geteuid(), env)
}

func hexchatReset(ctx context.Context, root fsx.Root, uid int, env cli.Env) error {
	if done, err := none(env, hexchatHelp); done {
		return err
	}
	if uid == 0 {
		return &cli.Exit{Code: codeNotRoot, Err: errors.New("not as root: it is about an account's own settings")}
	}
	home, _ := env.Lookup("HOME")
	if !filepath.IsAbs(home) {
		return errors.New("HOME is not set")
	}
	if err := endProcesses(ctx, root, "hexchat", uid); err != nil {
		return err
	}
	config := filepath.Join(home, ".config", "hexchat")
	aside := filepath.Join(home, "hexchat_"+env.Now().Format("2006-01-02-15:04:05"))
	err := unix.Renameat2(unix.AT_FDCWD, config, unix.AT_FDCWD, aside, unix.RENAME_NOREPLACE)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		aside = ""
	case err != nil:
		return fmt.Errorf("%s: %w", config, err)
	}
	skel, err := unix.Open(root.Path("/etc/skel/.config/hexchat"), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/etc/skel/.config/hexchat: %w", err)
	}
	defer unix.Close(skel)
	if err := os.MkdirAll(config, 0o700); err != nil {
		return err
	}
	into, err := unix.Open(config, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", config, err)
	}
	defer unix.Close(into)
	c := &copier{env: env}
	c.dir(skel, into, config)
	if c.failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	fmt.Fprintln(env.Stdout, "INFO: Done.")
	if aside != "" {
		fmt.Fprintf(env.Stdout, "INFO: The configuration until now is in %s. Delete it if you like.\n", aside)
	}
	fmt.Fprintln(env.Stdout, "INFO: Ask Tor for new circuits before you connect to IRC again!")
	return nil
}

// endTimeout is how long a program may take to end before it is killed.
const endTimeout = 5 * time.Second

// endProcesses ends an account's processes of a name, and waits until they are
// gone. Each is held by a descriptor, so that no other process takes its number's
// place.
func endProcesses(ctx context.Context, root fsx.Root, name string, uid int) error {
	found, _ := filepath.Glob(root.Path("/proc") + "/[0-9]*/comm")
	for _, comm := range found {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(comm)))
		if err != nil {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if err := endProcess(ctx, fd, comm, name, uid); err != nil {
			unix.Close(fd)
			return fmt.Errorf("%s: process %d: %w", name, pid, err)
		}
		unix.Close(fd)
	}
	return nil
}

func endProcess(ctx context.Context, fd int, comm, name string, uid int) error {
	data, err := os.ReadFile(comm)
	fi, err2 := os.Stat(filepath.Dir(comm))
	if err != nil || err2 != nil || strings.TrimSpace(string(data)) != name || fi.Sys().(*syscall.Stat_t).Uid != uint32(uid) {
		return nil
	}
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
			if errors.Is(err, unix.ESRCH) {
				return nil
			}
			return err
		}
		for end := time.Now().Add(endTimeout); time.Now().Before(end) && ctx.Err() == nil; {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
			if n > 0 {
				return nil
			}
			if err != nil && !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	return errors.New("does not end")
}
