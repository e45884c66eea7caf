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
	exitIdle    time.Duration // 0 is never
	destination string
}

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
	for _, l := range listeners {
		if leadsTo(p.destination, l.Addr()) {
			return complain("ERROR: " + p.destination + " leads to the socket itself")
		}
	}
	if err := p.settle(); err != nil {
		return err
	}
	return p.serve(ctx, env, listeners)
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

// parseSpan reads a span as in systemd.time(7); 0 is what never ends.
func parseSpan(text string) (time.Duration, error) {
	if text == "infinity" {
		return 0, nil
	}
	units := map[string]time.Duration{"": time.Second, "us": time.Microsecond, "usec": time.Microsecond, "ms": time.Millisecond, "msec": time.Millisecond,
		"s": time.Second, "sec": time.Second, "second": time.Second, "seconds": time.Second, "m": time.Minute, "min": time.Minute, "minute": time.Minute,
		"minutes": time.Minute, "h": time.Hour, "hr": time.Hour, "hour": time.Hour, "hours": time.Hour, "d": 24 * time.Hour, "day": 24 * time.Hour, "days": 24 * time.Hour}
	var total time.Duration
	rest := strings.TrimSpace(text)
	if rest == "" {
		return 0, errors.New("empty")
	}
	for rest != "" {
		end := strings.IndexFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
		if end < 0 {
			end = len(rest)
		}
		number, err := strconv.ParseFloat(rest[:end], 64)
		if err != nil {
			return 0, err
		}
		rest = strings.TrimLeft(rest[end:], " ")
		end = strings.IndexFunc(rest, func(r rune) bool { return r < 'a' || r > 'z' })
		if end < 0 {
			end = len(rest)
		}
		unit, ok := units[rest[:end]]
		if !ok {
			return 0, fmt.Errorf("unknown unit %q", rest[:end])
		}
		total += time.Duration(number * float64(unit))
		rest = strings.TrimLeft(rest[end:], " ")
	}
	const most = 100 * 365 * 24 * time.Hour
	if total < 0 || total > most {
		return 0, errors.New("too long")
	}
	return total, nil
}

// passed are the listeners that the service manager has passed.
func passed(env cli.Env) ([]net.Listener, error) {
	files := sd.Listen(env)
	if len(files) == 0 {
		return nil, complaint("Didn't get any sockets passed in.")
	}
	var out []net.Listener
	for _, f := range files {
		kind, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_TYPE)
		accepts, err2 := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		var l net.Listener
		if err == nil && err2 == nil && kind == unix.SOCK_STREAM && accepts == 1 {
			l, err = net.FileListener(f)
		}
		if err != nil || l == nil {
			return nil, complaint("Passed in socket is not a stream socket.")
		}
		f.Close()
		out = append(out, l)
	}
	return out, nil
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

// leadsTo reports a destination that is the listener (defect 36).
func leadsTo(destination string, listener net.Addr) bool {
	if isPath(destination) {
		return listener.Network() == "unix" && listener.String() == destination
	}
	own, ok := listener.(*net.TCPAddr)
	host, port := splitDestination(destination)
	if !ok || port != strconv.Itoa(own.Port) {
		return false
	}
	to, err := netip.ParseAddr(host)
	if err != nil {
		return host == "localhost"
	}
	local := own.AddrPort().Addr().Unmap()
	return to.Unmap() == local || to.IsUnspecified() || local.IsUnspecified() && to.Unmap().IsLoopback()
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
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	const nobody = 65534
	if os.Geteuid() != 0 || isPath(p.destination) {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody))
}

func (p *proxyd) dial(ctx context.Context) (relay.Conn, error) {
	var d net.Dialer
	network, to := "unix", p.destination
	if !isPath(to) {
		host, port := splitDestination(to)
		network, to = "tcp", net.JoinHostPort(host, port)
	}
	c, err := d.DialContext(ctx, network, to)
	if err == nil {
		return c.(relay.Conn), nil
	}
	var name *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &name):
		return nil, complaint("Failed to resolve host: " + name.Err)
	case errors.As(err, &op):
		err = op.Err
	}
	return nil, complaint("Failed to connect to remote host: " + err.Error())
}

// serve relays until ctx ends, or nobody has been there for long enough.
func (p *proxyd) serve(ctx context.Context, env cli.Env, listeners []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	log := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(env.Stderr, text)
	}
	s := &relay.Server{Relay: relay.Relay{Linger: halfCloseLinger}, Dial: p.dial, Max: p.max, Log: log}
	if p.exitIdle > 0 {
		idle := time.AfterFunc(time.Hour, cancel)
		idle.Stop() // not before the first connection
		s.Changed = func(count int) {
			idle.Stop()
			if count == 0 {
				idle.Reset(p.exitIdle)
			}
		}
	}
	if err := sd.Notify(env, sd.Ready); err != nil {
		log(err.Error())
	}
	if every := sd.Watchdog(env); every > 0 {
		go alive(ctx, env, every)
	}
	s.Serve(ctx, drainTime, listeners...)
	_ = sd.Notify(env, sd.Stopping) // it may be gone
	return nil
}

// alive tells the service manager that the program works.
func alive(ctx context.Context, env cli.Env, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_ = sd.Notify(env, sd.Alive) // the next one may get through
		}
	}
}
