// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/sd"
	"whonix-networking/pkg/torrc"
)

// Where the redirections' control socket and the public cookie are.
const (
	controlTarget = "/run/tor/control"
	cookieTarget  = "/run/tor/control.authcookie"
)

// withoutEnviron is an environment that says nothing: what a program gives its
// Tor must not tell where the Gateway is.
func withoutEnviron(env cli.Env) cli.Env {
	env.Environ = nil
	return env
}

// emulate does what a Tor with this configuration would seem to do.
func (d *dummy) emulate(ctx context.Context) error {
	sources, err := d.sources()
	if err != nil {
		return d.failed(err)
	}
	d.config = torrc.Merge(sources...)
	p, problems := d.plan()
	if len(problems) > 0 {
		return d.failed(problems...)
	}
	if daemon, err := d.daemon(); daemon || err != nil {
		d.log.close()
		return err
	}
	defer d.log.close()
	defer d.leave()
	signals := d.signals()
	defer signal.Stop(signals)
	d.prepare(p)
	if d.engine, err = relay.NewEngine(); err != nil {
		return d.failed(err)
	}
	defer d.engine.Close()
	if err := d.listen(ctx, p); err != nil {
		return d.failed(err)
	}
	d.files()
	d.ready()
	ctx, cancel := context.WithCancel(ctx)
	var working sync.WaitGroup
	for _, job := range []func(context.Context){d.serve, d.bootstrap, d.tell} {
		working.Add(1)
		go func() {
			defer working.Done()
			job(ctx)
		}()
	}
	d.wait(ctx, signals, p.owner)
	d.leave() // what names the listeners goes before them
	cancel()
	working.Wait()
	return nil
}

// idle is how the system's own call is served: by doing nothing, for ever.
func (d *dummy) idle(ctx context.Context) error {
	d.config = torrc.Merge()
	if sources, err := d.sources(); err == nil { // a bad one is nothing that would matter
		d.config = torrc.Merge(sources...)
	}
	if daemon, err := d.daemon(); daemon || err != nil {
		d.log.close()
		return err
	}
	d.config = nil // no log is opened, also not at a reload
	defer d.log.close()
	signals := d.signals()
	defer signal.Stop(signals)
	d.ready()
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.tell(ctx)
	}()
	d.wait(ctx, signals, 0)
	cancel()
	<-done
	return nil
}

// signals takes all that must not end the program, and the two that do. A write
// to a pipe that nobody reads is none of them as soon as SIGPIPE is taken.
func (d *dummy) signals() chan os.Signal {
	const room = 8
	c := make(chan os.Signal, room)
	signal.Notify(c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE)
	return c
}

// ready tells everybody who waits for it.
func (d *dummy) ready() {
	if err := sd.Notify(d.env, sd.Ready); err != nil {
		d.log.say(torrc.Warn, "%v", err)
	}
	if d.detach != nil {
		d.detach()
	}
}

// tell tells the service manager that the program works, until it ends.
func (d *dummy) tell(ctx context.Context) { tell(ctx, d.env, ctx.Done(), func() {}) }

// wait returns when the program is to end: after a signal that says so, or with
// the process that it belongs to.
func (d *dummy) wait(ctx context.Context, signals <-chan os.Signal, owner int) {
	ctx, cancel := context.WithCancel(ctx)
	gone := make(chan struct{})
	var watching sync.WaitGroup
	if owner != 0 {
		watching.Add(1)
		go func() {
			defer watching.Done()
			if ended(ctx, owner) {
				close(gone)
			}
		}()
	}
	defer watching.Wait()
	defer cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case <-gone:
			d.log.say(torrc.Notice, "Monitored process %d is maybe dead; exiting", owner)
			return
		case s := <-signals:
			switch s {
			case unix.SIGTERM, unix.SIGINT:
				d.log.say(torrc.Notice, "Catching signal %s, exiting cleanly.", name(s))
				return
			case unix.SIGHUP:
				d.reload()
			}
		}
	}
}

func name(s os.Signal) string {
	if n, ok := s.(unix.Signal); ok {
		return strings.TrimPrefix(unix.SignalName(n), "SIG")
	}
	return s.String()
}

// ended waits for the end of a process; false if ctx ends before.
func ended(ctx context.Context, pid int) bool {
	fd, err := unix.PidfdOpen(pid, unix.O_NONBLOCK)
	if errors.Is(err, unix.ESRCH) {
		return true
	}
	if err != nil {
		return polled(ctx, pid)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return ctx.Err() == nil && polled(ctx, pid)
	}
	over := false
	err = raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		over = err == nil && n > 0
		return over
	})
	if err != nil && ctx.Err() == nil {
		return polled(ctx, pid)
	}
	return over
}

// polled is for kernels and sandboxes without process descriptors.
func polled(ctx context.Context, pid int) bool {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := unix.Kill(pid, 0); errors.Is(err, unix.ESRCH) {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
}

// prepare makes the data directory and opens the logs, which may lie in it.
// What fails is logged; a Tor would end, a program that waits for this one is
// better off if it goes on.
func (d *dummy) prepare(p plan) {
	const private = 0o700
	var problems []error
	if dir := d.config.Value("DataDirectory"); dir != "" {
		if err := makeDir(d.file(dir), private); err != nil {
			problems = append(problems, err)
		}
	}
	problems = append(problems, d.openLogs(p.logs)...)
	for _, err := range problems {
		d.log.say(torrc.Warn, "%v", err)
	}
}

// openLogs opens the logs, and the one in which Bisq 2 looks for the control
// port where its configuration names none.
func (d *dummy) openLogs(logs []torrc.Log) (problems []error) {
	toFile := false
	for _, l := range logs {
		toFile = toFile || l.To == torrc.ToFile
	}
	if len(logs) > 0 {
		problems = d.log.open(logs)
	} else {
		d.log.byDefault(d.args.Quiet)
	}
	home, _ := d.env.Lookup("HOME")
	if !toFile && filepath.IsAbs(home) && strings.Contains(strings.ToLower(d.args.Torrc), "bisq") {
		if err := d.log.also(filepath.Join(home, ".local/share/Bisq2/tor/debug.log"), "Control listener"); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

// reload opens the logs again, by what the configuration says now. A bad one
// changes nothing.
func (d *dummy) reload() {
	d.log.say(torrc.Notice, "Received reload signal (hup). Reloading config and resetting internal state.")
	if d.config == nil || d.args.Torrc == fromStdin {
		return
	}
	sources, err := d.sources()
	if err != nil {
		d.log.say(torrc.Warn, "%v", err)
		return
	}
	again := &dummy{env: d.env, args: d.args, log: d.log, config: torrc.Merge(sources...)}
	p, problems := again.plan()
	if len(problems) == 0 {
		problems = d.openLogs(p.logs)
	}
	for _, err := range problems {
		d.log.say(torrc.Warn, "%v", err)
	}
}

// files puts in place what tells where the listeners are.
func (d *dummy) files() {
	const pidMode, portMode = 0o644, 0o600
	var problems []error
	if err := d.cookie(); err != nil {
		problems = append(problems, err)
	}
	if path := d.config.Value("ControlPortWriteToFile"); path != "" {
		problems = append(problems, d.put(d.file(path), d.controlPorts(), portMode, func(is []byte) bool {
			return len(is) == 0 || bytes.HasPrefix(is, []byte("PORT=")) || bytes.HasPrefix(is, []byte("UNIX_PORT="))
		}))
	}
	if path := d.config.Value("PidFile"); path != "" {
		problems = append(problems, d.put(d.file(path), []byte(strconv.Itoa(os.Getpid())+"\n"), pidMode, func(is []byte) bool {
			return len(bytes.Trim(is, "0123456789 \n")) == 0
		}))
	}
	for _, err := range problems {
		if err != nil {
			d.log.say(torrc.Warn, "%v", err)
		}
	}
}

// controlPorts is the content of the file that ControlPortWriteToFile names.
func (d *dummy) controlPorts() []byte {
	var b bytes.Buffer
	for _, l := range d.listeners {
		switch {
		case l.key != controlKey:
		case l.Path != "":
			fmt.Fprintf(&b, "UNIX_PORT=%s\n", l.Path)
		default:
			fmt.Fprintf(&b, "PORT=%s\n", l.address)
		}
	}
	for _, path := range d.sockets {
		fmt.Fprintf(&b, "UNIX_PORT=%s\n", path)
	}
	return b.Bytes()
}

// cookie puts the public cookie where the configuration wants one: a link to
// the system's, or a file where that cannot be read.
func (d *dummy) cookie() error {
	const mode = 0o600
	path := d.config.Value("CookieAuthFile")
	if dir := d.config.Value("DataDirectory"); path == "" && dir != "" && d.config.Bool("CookieAuthentication") {
		path = filepath.Join(dir, "control_auth_cookie")
	}
	if path == "" {
		return nil
	}
	content, err := hex.DecodeString(cookie)
	if err != nil {
		return err
	}
	ours := func(is []byte) bool { return len(is) == 0 || bytes.Equal(is, content) }
	if unix.Access(d.root.Path(cookieTarget), unix.R_OK) != nil {
		return d.put(d.file(path), content, mode, ours)
	}
	return d.link(d.file(path), cookieTarget, ours)
}

func (d *dummy) put(path string, content []byte, mode uint32, ours func([]byte) bool) error {
	return d.at(path, func(p *place) (func(), error) { return p.put(content, mode, ours) })
}

// link leads to something of the system's.
func (d *dummy) link(path, target string, ours func([]byte) bool) error {
	return d.at(path, func(p *place) (func(), error) { return p.link(d.root.Path(target), ours) })
}

// at makes something that is taken away at the end.
func (d *dummy) at(path string, put func(*place) (func(), error)) error {
	p, err := openPlace(path, false)
	if err != nil {
		return err
	}
	undo, err := put(p)
	if err != nil {
		p.close()
		return err
	}
	d.undo = append(d.undo, undo, p.close)
	return nil
}

// leave takes away what this run has put in place, as far as it is still that.
func (d *dummy) leave() {
	for _, undo := range d.undo {
		undo()
	}
	d.undo = nil
}

// alone reports an address that only this machine can reach.
func alone(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
