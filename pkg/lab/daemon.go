// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"whonix-networking/pkg/execx"
)

// daemon is a program that goes on running on a machine.
type daemon struct {
	cmd    *exec.Cmd
	output string        // path of what it prints
	ended  chan struct{} // closed when err says how it ended
	err    error
}

// start starts a program of the machine, by its path there.
func (m *machine) start(argv ...string) (*daemon, error) {
	output, err := os.Create(m.root + ".output")
	if err != nil {
		return nil, err
	}
	defer output.Close()
	d := &daemon{output: output.Name(), ended: make(chan struct{})}
	err = m.namespace.Do(func() error {
		if err := m.mount(); err != nil {
			return err
		}
		d.cmd = &exec.Cmd{
			Path: argv[0], Args: argv, Dir: "/", Env: execx.CleanEnv(nil), Stdout: output, Stderr: output,
			SysProcAttr: &syscall.SysProcAttr{Chroot: m.root},
		}
		return d.cmd.Start()
	})
	if err != nil {
		return nil, fmt.Errorf("start %s on the %s: %w", argv[0], m.namespace.Name, err)
	}
	go func() {
		defer close(d.ended)
		d.err = d.cmd.Wait()
	}()
	return d, nil
}

func (d *daemon) signal(s os.Signal) error { return d.cmd.Process.Signal(s) }

// said is what it has printed so far.
func (d *daemon) said() string {
	if d == nil {
		return ""
	}
	text, _ := os.ReadFile(d.output)
	return string(text)
}

// stop ends it and waits for its end.
func (d *daemon) stop() {
	_ = d.cmd.Process.Kill()
	<-d.ended
}
