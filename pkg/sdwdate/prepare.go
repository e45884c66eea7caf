// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// preScript decides whether the network is ready, where it is installed.
const (
	preScript      = "/usr/libexec/helper-scripts/onion-time-pre-script"
	preScriptLimit = 60 * time.Second
	preScriptMax   = 64 << 10
)

// Results of a preparation.
const (
	prepared    = 0
	prepareUser = 1 // wait, and show an error: the user must do something
	prepareWait = 2
)

// preparer tells whether the time can be fetched.
type preparer func(ctx context.Context) (code int, text string)

// scriptReady reports whether the script is to be run. Our own program under its
// name does what this process does itself, and cannot repair the clock: it is no
// reason to run one.
func scriptReady(root fsx.Root, mode string) bool {
	if mode == "native" || mode == "auto" && ownScript(root) {
		return false
	}
	fi, err := os.Stat(root.Path(preScript))
	return mode == "script" || err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0
}

// runScript runs the script. One that hangs counts as one that says to wait
// (D28).
func runScript(root fsx.Root, env cli.Env) preparer {
	return func(ctx context.Context) (int, string) {
		ctx, cancel := context.WithTimeout(ctx, preScriptLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, root.Path(preScript))
		cmd.Env = append(execx.CleanEnv(env.Environ, "HOME", "USER", "LOGNAME"), "TZ=UTC", "LC_TIME=C")
		cmd.Dir = "/"
		stdout, stderr := &bounded{most: preScriptMax}, &bounded{most: preScriptMax}
		cmd.Stdout, cmd.Stderr = stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
		cmd.WaitDelay = childDrain
		err := startPowerless(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		text := stderr.data.String() + "\n" + stdout.data.String()
		var exit *exec.ExitError
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return prepareWait, fmt.Sprintf("%s\n%s did not end within %v.", text, preScript, preScriptLimit)
		case err == nil:
			return prepared, text
		case errors.As(err, &exit):
			return exit.ExitCode(), text
		default:
			return notKilled, fmt.Sprintf("%s: %v", preScript, err)
		}
	}
}

// waiting is how long to wait for the next try: 1 s after news, then longer.
func waiting(repeated int) time.Duration {
	const most = 10 * time.Second
	return min(most, time.Duration(repeated+1)*time.Second)
}

// prepare waits until the network is ready. It returns an error only when the
// context ends.
func (d *daemon) prepare(ctx context.Context) error {
	last, repeated := "", 0
	for i := 1; ; i = i%iterationsMax + 1 {
		wait := waiting(repeated)
		d.notify("WATCHDOG=1")
		d.notify(fmt.Sprintf("STATUS=Running sdwdate preparation loop. preparation_sleep_seconds: %d iteration: %d / %d", int(wait.Seconds()), i, iterationsMax))
		code, text := d.preparation()(ctx)
		if err := ctx.Err(); err != nil {
			return err
		}
		if code == prepared {
			d.log.infof("PREPARATION:\n%s\nPREPARATION RESULT: SUCCESS.", text)
			return nil
		}
		if text == last {
			repeated++
		} else {
			last, repeated = text, 0
			d.notPrepared(code, text)
		}
		if _, err := d.wait(ctx, waiting(repeated)); err != nil {
			return err
		}
	}
}

// notPrepared logs and shows what a preparation said that differs from before.
func (d *daemon) notPrepared(code int, text string) {
	d.log.infof("PREPARATION: running onion-time-pre-script...\n%s", text)
	icon := iconError
	switch code {
	case prepareUser:
		d.log.errorf("PREPARATION RESULT: onion-time-pre-script detected a known permanent (until the user fixes it) error status. Consider running systemcheck for more information.")
	case prepareWait:
		icon = iconBusy
		d.log.infof("PREPARATION RESULT: onion-time-pre-script recommended to wait. Consider running systemcheck for more information.")
	default:
		d.log.errorf("PREPARATION RESULT: onion-time-pre-script detected a unknown permanent (until the user fixes it) error status. Consider running systemcheck for more information.")
	}
	d.show(icon, msgNotPrepared)
}

// preparation is the script where it is to be run, or our own check.
func (d *daemon) preparation() preparer {
	if d.ready != nil {
		return d.ready
	}
	if scriptReady(d.root, d.conf.Preparation) {
		return runScript(d.root, d.env)
	}
	return d.native
}
