// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/sd"
	"whonix-networking/pkg/torctl"
)

const keepAlive = 60 * time.Second

// memoryMax is from where on garbage is collected more often: twice of what may
// be held, as what is read and what is written of it are copies at times.
const memoryMax = 2 * heldMax

// Proxy is the program onion-grater: Tor's control port, filtered.
func Proxy(ctx context.Context, env cli.Env) error {
	o, err := parseOptions(env, fsx.Host)
	switch {
	case err != nil || o == nil:
		return err
	case o.check:
		return checkFiles(env, fsx.Host, o.files)
	case o.testHost != "":
		return testLine(env, fsx.Host, o.testHost, o.files[0])
	}
	p := newProxy(*o, env, fsx.Host)
	listeners, err := p.listen(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil // told to end while the interface was waited for
		}
		return err
	}
	p.listening = frugal
	p.serve(ctx, listeners)
	return nil
}

// frugal bounds what the runtime takes. Both stop all goroutines and let go of
// what was allocated ahead, so this comes after clients can connect.
func frugal() {
	// A line wakes one goroutine after the other, each for a moment: to hand them
	// from one processor to another costs more than they do.
	runtime.GOMAXPROCS(1)
	debug.SetMemoryLimit(memoryMax)
}

// proxy serves clients.
type proxy struct {
	o        options
	env      cli.Env
	root     fsx.Root
	log      *journal
	filters  *filterCache
	id       identifier
	learned  *learner
	counters counters
	guests   guests
	budget   budget
	caps     caps
	dial     func(ctx context.Context, network, address string) (net.Conn, error)

	patience  time.Duration // how long a line may be incomplete
	listening func()        // called once clients can connect; may be nil

	mu     sync.Mutex
	excess limiter
}

func newProxy(o options, env cli.Env, root fsx.Root) *proxy {
	log := &journal{out: env.Stderr}
	return &proxy{
		o: o, env: env, root: root, log: log,
		filters:  &filterCache{root: root, log: log},
		id:       newIdentifier("/proc"),
		learned:  &learner{root: root, path: o.learn, log: log},
		dial:     (&net.Dialer{}).DialContext,
		excess:   limiter{max: 1, span: time.Minute},
		budget:   budget{max: heldMax, ofOne: heldOfOne},
		patience: partialLine,
	}
}

// requests tells whether what clients ask is logged.
func (p *proxy) requests() bool { return p.o.debug || p.o.complain }

// listen opens the ports.
func (p *proxy) listen(ctx context.Context) ([]*net.TCPListener, error) {
	addrs, err := p.listenAddresses(ctx)
	if err != nil {
		return nil, err
	}
	var out []*net.TCPListener
	for i, a := range addrs {
		l, err := p.listenAt(ctx, a)
		switch {
		case err == nil:
			out = append(out, l)
		case i == 0:
			return nil, err
		default: // IPv4 alone is better than nothing
			p.log.print(escaped(err.Error()))
		}
	}
	return out, nil
}

func (p *proxy) listenAddresses(ctx context.Context) ([]netip.Addr, error) {
	if p.o.iface == "" {
		a, err := resolveListen(ctx, p.o.address)
		return []netip.Addr{a}, err
	}
	addrs, err := awaitInterface(ctx, p.o.iface, interfaceTime, func() {
		p.log.printf("waiting for an address of interface %s", escaped(p.o.iface))
	})
	if err == nil && p.o.debug {
		p.log.printf("IP address for interface %s : %s", escaped(p.o.iface), addrs[0])
	}
	return addrs, err
}

// listenAt opens one port; another one where the default is for root only
// (defect 28).
func (p *proxy) listenAt(ctx context.Context, a netip.Addr) (*net.TCPListener, error) {
	at := netip.AddrPortFrom(a, uint16(p.o.port))
	l, err := listen(ctx, at)
	if err != nil && !p.o.portGiven && errors.Is(err, unix.EACCES) {
		p.log.printf("port %d cannot be bound, listening on port %d instead", p.o.port, unprivileged)
		at = netip.AddrPortFrom(a, unprivileged)
		l, err = listen(ctx, at)
	}
	if err == nil {
		return l, nil
	}
	var call *os.SyscallError
	if errors.As(err, &call) {
		err = call.Err
	}
	option := "--listen-address"
	if p.o.iface != "" {
		option = "--listen-interface"
	}
	return nil, fmt.Errorf("argument %s: cannot listen on %s: %w", option, at, err)
}

// serve takes clients in until ctx ends.
func (p *proxy) serve(ctx context.Context, listeners []*net.TCPListener) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGHUP, unix.SIGUSR1)
	defer signal.Stop(signals)
	var running sync.WaitGroup
	spawn := func(f func()) {
		running.Add(1)
		go func() {
			defer running.Done()
			f()
		}()
	}
	var where []string
	for _, l := range listeners {
		where = append(where, l.Addr().String())
		p.log.print("Tor control port filter started, listening on " + l.Addr().String())
	}
	if p.o.debug {
		p.log.print("debug on")
	}
	if p.o.complain {
		p.log.print("warning: --complain is on: nothing is filtered, clients can learn and change everything")
	}
	for _, l := range listeners {
		spawn(func() { p.accept(ctx, l, spawn) })
	}
	for _, state := range []string{"STATUS=listening on " + strings.Join(where, " "), sd.Ready} {
		if err := sd.Notify(p.env, state); err != nil {
			p.log.print(err.Error())
		}
	}
	if p.listening != nil {
		p.listening()
	}
	p.filters.current() // what is wrong with the files is told now
	spawn(func() { p.learned.run(ctx) })
	p.supervise(ctx, signals)
	_ = sd.Notify(p.env, sd.Stopping) // it may be gone
	cancel()
	for _, l := range listeners {
		l.Close()
	}
	p.guests.closeAll()
	running.Wait()
}

// supervise answers signals and the service manager until ctx ends.
func (p *proxy) supervise(ctx context.Context, signals <-chan os.Signal) {
	var alive <-chan time.Time
	if every := sd.Watchdog(p.env); every > 0 {
		tick := time.NewTicker(every)
		defer tick.Stop()
		alive = tick.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case s := <-signals:
			if s == unix.SIGHUP {
				p.filters.reload()
			} else {
				p.log.print(p.counters.status(p.guests.numbers()))
			}
		case <-alive:
			_ = sd.Notify(p.env, sd.Alive) // the next one may get through
		}
	}
}

// accept takes clients from one port.
func (p *proxy) accept(ctx context.Context, l *net.TCPListener, spawn func(func())) {
	const pause = 100 * time.Millisecond // too many open files, perhaps
	for {
		c, err := l.AcceptTCP()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			p.log.print("accept: " + escaped(err.Error()))
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
			continue
		}
		from := peer(c.RemoteAddr())
		if !p.guests.admit(from.Addr(), c) {
			c.Close()
			p.turnedAway(from)
			continue
		}
		spawn(func() {
			defer p.guests.leave(from.Addr(), c)
			defer c.Close()
			p.client(ctx, c)
		})
	}
}

// turnedAway logs that a client found no room, but not every time.
func (p *proxy) turnedAway(from netip.AddrPort) {
	p.mu.Lock()
	ok, missed := p.excess.allow(time.Now())
	p.mu.Unlock()
	if ok {
		p.log.printf("too many connections: %s was turned away, and %d before it", from, missed)
	}
}

// client serves one client.
func (p *proxy) client(ctx context.Context, c *net.TCPConn) {
	s, err := p.newSession(ctx, c)
	if err != nil {
		p.log.print(escaped(err.Error()))
		return
	}
	defer s.cancel()
	defer s.holding.close()
	defer s.forgetServices()
	p.connected(s)
	var flushing sync.WaitGroup
	s.out = newOutbox(s.prompt, &flushing, s.holding.take)
	reason := s.run()
	flushing.Wait()
	if ctx.Err() != nil {
		reason = errors.New("onion-grater ends")
	}
	p.log.print(s.desc + " disconnected: " + escaped(reason.Error()))
}

// newSession finds the filter for a client.
func (p *proxy) newSession(ctx context.Context, c *net.TCPConn) (*session, error) {
	client, server := peer(c.RemoteAddr()), peer(c.LocalAddr())
	prompt, err := newSocket(c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", client, err)
	}
	s := &session{
		p: p, c: c, prompt: prompt, from: client.Addr(), remote: !client.Addr().IsLoopback(), filter: &Filter{},
		lines: torctl.NewLineReader(prompt, c.SetReadDeadline, p.patience),
		values: Values{
			ClientAddress: addressText(client.Addr()), ClientPort: strconv.Itoa(int(client.Port())),
			ServerAddress: addressText(server.Addr()), ServerPort: strconv.Itoa(int(server.Port())),
		},
		refusals: limiter{max: refusalsMax, span: refusalsTime},
	}
	filters := p.filters.current()
	var matching []*Filter
	describe := func(name string) string { return client.String() + " (filter: " + name + ")" }
	if s.remote {
		s.streams.client = client.Addr()
		matching = servedBy(filters, func(f *Filter) bool { return names(f.Hosts, client.Addr().String()) })
	} else {
		who, err := p.id.identify(client, server)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", client, err)
		}
		matching = servedBy(filters, func(f *Filter) bool { return names(f.Programs, who.label) && names(f.Users, who.user) })
		describe = func(name string) string {
			return fmt.Sprintf("%s (pid: %d, user: %s, port: %d, filter: %s)", escaped(who.label), who.pid, escaped(who.user), client.Port(), name)
		}
	}
	name := "None"
	if len(matching) > 0 {
		f, ok := Unite(matching)
		if !ok {
			return nil, fmt.Errorf("%s: multiple filters matched: %s", describe(name), filterNames(matching))
		}
		s.filter, name = f, f.Name
	}
	s.desc = describe(escaped(name))
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.holding = p.budget.open(client.Addr(), s.end)
	s.link = &link{
		open: s.open, events: s.subscribed, lost: s.lost, end: s.end, here: s.present, say: s.say,
		changed: make(chan struct{}),
	}
	return s, nil
}

// connected logs a new client.
func (p *proxy) connected(s *session) {
	if s.filter.Name == "" {
		p.log.print(s.desc + " connected: no matching filter found, using an empty one")
	} else {
		p.log.print(s.desc + " connected: loaded filter: " + escaped(s.filter.Name))
	}
	if p.o.complain {
		s.say("warning: --complain is on, nothing is filtered")
	}
	if p.o.debug {
		p.log.print("Final rules:\n" + strings.TrimRight(describeFilter(s.filter), "\n"))
	}
}

// open connects a session to Tor.
func (s *session) open(ctx context.Context) (*torctl.Conn, string, error) {
	ctx, cancel := context.WithTimeout(ctx, loginTime)
	defer cancel()
	c, err := s.p.dial(ctx, s.p.o.tor.Network, s.p.o.tor.Address)
	if err != nil {
		return nil, "", err
	}
	prompt, err := newSocket(c)
	if err != nil {
		c.Close()
		return nil, "", err
	}
	conn := torctl.NewBoundedConn(prompt, s.event, s.holding.take)
	info, err := conn.Authenticate(ctx, torctl.Credentials{Root: s.p.root, Cookie: s.p.o.cookie})
	if err != nil {
		conn.Close()
		return nil, "", err
	}
	s.p.caps.torIs(s.p.torName())
	version := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, info.Version)
	return conn, version, nil
}

// refused notes a refused command.
func (p *proxy) refused(s *session, line string, c torctl.Command) {
	p.counters.refused(upperASCII(c.Name), redact(line))
	p.learned.refused(c, s.values)
}

func servedBy(filters []*Filter, serves func(*Filter) bool) (out []*Filter) {
	for _, f := range filters {
		if serves(f) {
			out = append(out, f)
		}
	}
	return out
}

// names tells whether a qualifier matches.
func names(list []string, value string) bool {
	return slices.Contains(list, value) || slices.Contains(list, "*")
}

func filterNames(filters []*Filter) string {
	var out []string
	for _, f := range filters {
		out = append(out, f.Name)
	}
	return strings.Join(out, ", ")
}
