// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/sd"
)

const proxydHelp = `usage: whonix-socket-proxyd [-c N] [--exit-idle-time=SPAN] HOST:PORT | SOCKET
Relays connections of the sockets that systemd passes. See
whonix-socket-proxyd(8).
`

// How connections are relayed.
const (
	proxydConnections = 256
	halfCloseLinger   = 60 * time.Second
	drainTime         = 5 * time.Second
)

// complaint is an error in systemd-socket-proxyd's own words.
type complaint string

func (c complaint) Error() string { return string(c) }

// proxyd is the command line.
type proxyd struct {
	max         int
	exitIdle    time.Duration
	destination string
}

// refuse is for a destination that is one of the sockets: whoever dials it finds
// that out, and the connection is closed. A program that ended instead would be
// started again for the connection that still waits, until systemd gives the
// socket up. It ends soon after the last one, because the destination may be
// another when it is started again.
func (p *proxyd) refuse() { p.exitIdle = time.Second }

// Proxyd is the program whonix-socket-proxyd: systemd-socket-proxyd(8) with its
// arguments and its words.
func Proxyd(ctx context.Context, env cli.Env) error {
	p, err := parseProxyd(env)
	if err != nil || p == nil {
		return err
	}
	complain := func(text string) error {
		fmt.Fprintln(env.Stderr, text)
		return &cli.Exit{Code: cli.CodeFailed}
	}
	listeners, err := passed(env)
	if err != nil {
		return complain(err.Error())
	}
	var own listening
	for _, l := range listeners {
		own = append(own, l.Addr())
	}
	if network, to := endpoint(p.destination); own.leadsBack(ctx, network, to) {
		fmt.Fprintln(env.Stderr, "ERROR: "+p.destination+" leads to the socket itself: connections are refused")
		p.refuse()
	}
	if err := p.settle(); err != nil {
		return err
	}
	return p.serve(ctx, env, listeners, own)
}

// parseProxyd returns nothing where the help was all that was wanted.
func parseProxyd(env cli.Env) (*proxyd, error) {
	flags := pflag.NewFlagSet("whonix-socket-proxyd", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	limit := flags.StringP("connections-max", "c", strconv.Itoa(proxydConnections), "how many connections at a time")
	idle := flags.String("exit-idle-time", "infinity", "how long to stay without connections")
	flags.Usage = func() {}
	err := flags.Parse(env.Args[1:])
	wrong := func(text string) (*proxyd, error) {
		fmt.Fprintln(env.Stderr, text)
		return nil, &cli.Exit{Code: cli.CodeFailed}
	}
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(env.Stdout, proxydHelp, flags.FlagUsages())
		return nil, nil
	}
	if err != nil {
		return wrong(err.Error())
	}
	p := &proxyd{}
	n, err := strconv.ParseUint(*limit, 10, 31)
	switch {
	case err != nil:
		return wrong("Failed to parse --connections-max= argument: " + *limit)
	case n < 1:
		return wrong("Connection limit is too low.")
	}
	p.max = int(n)
	if p.exitIdle, err = parseSpan(*idle); err != nil {
		return wrong("Failed to parse --exit-idle-time= argument: " + *idle)
	}
	switch {
	case flags.NArg() < 1:
		return wrong("Not enough parameters.")
	case flags.NArg() > 1:
		return wrong("Too many parameters.")
	}
	p.destination = flags.Arg(0)
	return p, nil
}

// passed are the listeners that the service manager has passed.
func passed(env cli.Env) ([]*relay.Listener, error) {
	files := sd.Listen(env)
	if len(files) == 0 {
		return nil, complaint("Didn't get any sockets passed in.")
	}
	var out []*relay.Listener
	for _, f := range files {
		l, err := listensOn(f)
		if err != nil {
			return nil, complaint("Passed in socket is not a stream socket.")
		}
		f.Close()
		out = append(out, l)
	}
	return out, nil
}

// listensOn is the listener of a descriptor. It is looked at by Control, as Fd
// would make it block, also for the service manager.
func listensOn(f *os.File) (*relay.Listener, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	kind, accepts := 0, 0
	if err := raw.Control(func(fd uintptr) {
		kind, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE)
		accepts, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	}); err != nil {
		return nil, err
	}
	if kind != unix.SOCK_STREAM || accepts != 1 {
		return nil, unix.ENOTSOCK
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return relay.TakeListener(l)
}

// splitDestination splits at the last colon, as systemd-socket-proxyd does; the
// port is 80 without one.
func splitDestination(text string) (host, port string) {
	const http = "80"
	if _, err := netip.ParseAddr(unbracketed(text)); err == nil && (strings.HasPrefix(text, "[") || !strings.Contains(text, ":")) {
		return unbracketed(text), http
	}
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, http
	}
	return unbracketed(text[:i]), text[i+1:]
}

// isPath reports a socket of the file system or of the abstract namespace.
func isPath(destination string) bool {
	return strings.HasPrefix(destination, "/") || strings.HasPrefix(destination, "@")
}

// endpoint is the destination as a dialler has it.
func endpoint(destination string) (network, address string) {
	if isPath(destination) {
		return "unix", destination
	}
	host, port := splitDestination(destination)
	return "tcp", net.JoinHostPort(host, port)
}

// settle gives up what serving does not need: privileges (defect 38), and the
// low limit of descriptors (defect 37). A socket of the file system may be for
// root only.
func (p *proxyd) settle() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err == nil && l.Cur < l.Max {
		l.Cur = l.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &l) // fewer connections then
	}
	if err := noNewPrivileges(); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	const nobody = 65534
	if os.Geteuid() != 0 || strings.HasPrefix(p.destination, "/") {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody))
}

// noNewPrivileges is for all threads; where there is C it cannot be, and new
// threads have what this one has.
func noNewPrivileges() error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0)
	if errno == unix.ENOTSUP {
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// dialer tries all addresses of the destination, in order.
func (p *proxyd) dialer(own listening) *relay.Dialer {
	network, to := endpoint(p.destination)
	d := relay.NewDialer(relay.Endpoint{Network: network, Address: to})
	d.Control, d.Explain = own.control, asProxyd
	return d
}

// asProxyd is a failure in the words of systemd-socket-proxyd, and of the C
// library.
func asProxyd(err error) error {
	var name *net.DNSError
	if errors.As(err, &name) {
		switch {
		case name.IsNotFound:
			return complaint("Failed to resolve host: Name or service not known")
		case name.Temporary():
			return complaint("Failed to resolve host: Temporary failure in name resolution")
		}
		return complaint("Failed to resolve host: " + name.Err)
	}
	text := err.Error()
	var errno syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(err, &errno):
		text = errno.Error()
	case errors.Is(err, errLoop):
		text = "it " + errLoop.Error()
	case errors.As(err, &op):
		text = op.Err.Error()
	}
	return complaint("Failed to connect to remote host: " + strings.ToUpper(text[:1]) + text[1:])
}

// serve relays until ctx ends, or nobody has been there for long enough.
func (p *proxyd) serve(ctx context.Context, env cli.Env, listeners []*relay.Listener, own listening) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	log := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(env.Stderr, text)
	}
	engine, err := relay.NewEngine()
	if err != nil {
		return err
	}
	defer engine.Close()
	s := &relay.Server{Relay: relay.Relay{Linger: halfCloseLinger}, Engine: engine, To: p.dialer(own), Max: p.max, Log: log}
	switch {
	case p.exitIdle > 0:
		s.ExitIdle = p.exitIdle
	case p.exitIdle == 0:
		s.ExitIdle = -1
	}
	if err := sd.Notify(env, sd.Ready); err != nil {
		log(err.Error())
	}
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Add(1)
	go func() {
		defer telling.Done()
		tell(ctx, env, ended, engine.Answers)
	}()
	s.Serve(ctx, drainTime, listeners...)
	close(ended)
	telling.Wait()
	return nil
}

// tell tells the service manager that the program works, which alive has to
// return for, and when it begins to end.
func tell(ctx context.Context, env cli.Env, ended <-chan struct{}, alive func()) {
	var tick <-chan time.Time
	if every := sd.Watchdog(env); every > 0 {
		t := time.NewTicker(every)
		defer t.Stop()
		tick = t.C
	}
	stopping := ctx.Done()
	for {
		select {
		case <-tick:
			alive()
			_ = sd.Notify(env, sd.Alive) // the next one may get through
		case <-stopping:
			_ = sd.Notify(env, sd.Stopping) // it may be gone
			stopping = nil
		case <-ended:
			if stopping != nil {
				_ = sd.Notify(env, sd.Stopping)
			}
			return
		}
	}
}
