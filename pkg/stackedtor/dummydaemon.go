// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// inDaemon is the variable by which a daemon knows that it is one. Who sets it
// without being its parent keeps the program in the foreground.
const inDaemon = "DUMMY_TOR_DAEMON"

// readyFD is the daemon's end of the pipe on which its parent waits.
const readyFD = 3

// daemon does what RunAsDaemon 1 asks for: it starts the same once more, by the
// program's own path, and waits until all listeners are open. It returns true
// in the parent, which is done then. A service manager that is to be notified
// knows the process it has started; there it stays.
func (d *dummy) daemon() (parent bool, err error) {
	if _, notified := d.env.Lookup("NOTIFY_SOCKET"); notified || !d.config.Bool("RunAsDaemon") {
		return false, nil
	}
	if _, child := d.env.Lookup(inDaemon); child {
		return false, d.detached()
	}
	program, err := os.Executable()
	if err != nil {
		return false, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	cmd := exec.Command(program)
	cmd.Args = d.env.Args
	cmd.Env = append(slices.Clone(d.env.Environ), inDaemon+"=1")
	cmd.Stdout, cmd.Stderr = d.env.Stdout, d.env.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if d.fromStdin != nil {
		again, err := fsx.Memory("torrc", d.fromStdin)
		if err != nil {
			return false, errors.Join(err, w.Close())
		}
		defer again.Close()
		cmd.Stdin = again
	}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return false, fmt.Errorf("RunAsDaemon: %w", err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1)); err == nil {
		return true, cmd.Process.Release()
	}
	err = cmd.Wait()
	var ended *exec.ExitError
	if errors.As(err, &ended) && ended.ExitCode() > 0 {
		return true, &cli.Exit{Code: ended.ExitCode()} // it has said why
	}
	return true, &cli.Exit{Code: cli.CodeFailed, Err: errors.New("RunAsDaemon: the daemon ended before it was ready")}
}

// detached has the daemon let go of what its parent's caller gave it, once it
// is ready.
func (d *dummy) detached() error {
	var st unix.Stat_t
	if err := unix.Fstat(readyFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return nil // somebody has set the variable
	}
	unix.CloseOnExec(readyFD)
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	d.detach = func() {
		defer null.Close()
		for fd := range readyFD {
			if err := unix.Dup3(int(null.Fd()), fd, 0); err != nil {
				return
			}
		}
		_, _ = unix.Write(readyFD, []byte{1}) // the parent may have been killed
		unix.Close(readyFD)
	}
	return nil
}
