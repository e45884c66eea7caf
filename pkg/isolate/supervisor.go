// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/socks5"
)

// Limits of the supervisor.
const (
	connectionsMax = 4096              // relayed at the same time; more wait
	handshakeLimit = 120 * time.Second // Tor may have to build a circuit
	lookInterval   = time.Second       // between looks for what the program left running
)

// supervisor relays for one namespace.
type supervisor struct {
	ctx       context.Context // ends with the last process of the namespace
	settings  settings
	creds     *credentials
	people    *inhabitants
	sockets   *diagnostic
	names     *names
	responder *responder
	engine    *relay.Engine
	goes      sync.WaitGroup
	slots     chan struct{}
}

// serveSupervisor is the process outside. Its own end, whatever causes it,
// closes the listeners, and nothing leaves any more.
func serveSupervisor() error {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	launcher := channelOf(execx.OrphanSocket)
	if err := confine(); err != nil {
		return errors.Join(err, launcher.send(message{Error: err.Error()}))
	}
	m, files, err := launcher.receive()
	if err != nil {
		return err
	}
	handed := map[string]*os.File{}
	for i, name := range m.Names {
		handed[name] = files[i]
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, closers, err := newSupervisor(ctx, m.Settings, handed)
	if err != nil {
		return errors.Join(err, launcher.send(message{Error: err.Error()}))
	}
	if err := launcher.send(message{Go: true}); err != nil {
		return err
	}
	launcher.close()
	s.wait(handed[filePayload])
	cancel()
	for _, c := range closers {
		c.Close()
	}
	return nil
}

// confine gives up what the supervisor does not need: every capability, and
// being looked into.
func confine() error {
	if err := os.WriteFile("/proc/self/comm", []byte("uwt-supervisor"), 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("become undumpable: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	return dropCapabilities(0)
}

// closer is a listener.
type closer interface{ Close() error }

// newSupervisor begins to serve the listeners that were handed over.
func newSupervisor(ctx context.Context, set settings, handed map[string]*os.File) (*supervisor, []closer, error) {
	for _, name := range []string{fileRelay4, fileNames4, fileNamesTCP4, fileDiagnostic, fileNamespace, filePayload} {
		if handed[name] == nil {
			return nil, nil, fmt.Errorf("%s was not handed over", name)
		}
	}
	s := &supervisor{ctx: ctx, settings: set, creds: newCredentials(set.Password), names: newNames(namesMax), slots: make(chan struct{}, connectionsMax)}
	s.responder = &responder{names: s.names, reverse: s.reverse}
	var err error
	if s.engine, err = relay.NewEngine(); err != nil {
		return nil, nil, err
	}
	if s.people, err = newInhabitants(handed[fileNamespace]); err != nil {
		return nil, nil, err
	}
	if s.sockets, err = newDiagnostic(handed[fileDiagnostic]); err != nil {
		return nil, nil, err
	}
	var closers []closer
	for _, name := range []string{fileRelay4, fileRelay6, fileNamesTCP4, fileNamesTCP6} {
		if handed[name] == nil {
			continue // no IPv6
		}
		l, err := net.FileListener(handed[name])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		handed[name].Close()
		serve := s.connect
		if name == fileNamesTCP4 || name == fileNamesTCP6 {
			serve = func(c *net.TCPConn) { defer c.Close(); s.serveQueries(c) }
		}
		closers = append(closers, l)
		s.goes.Add(1)
		go s.accept(l, serve)
	}
	for _, name := range []string{fileNames4, fileNames6} {
		if handed[name] == nil {
			continue
		}
		c, err := net.FilePacketConn(handed[name])
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", name, err)
		}
		handed[name].Close()
		closers = append(closers, c)
		s.goes.Add(1)
		go func() {
			defer s.goes.Done()
			s.serveDatagrams(c.(*net.UDPConn))
		}()
	}
	return s, closers, nil
}

// accept serves connections until the listener is closed. No error about one
// connection ends it.
func (s *supervisor) accept(l net.Listener, serve func(*net.TCPConn)) {
	defer s.goes.Done()
	for {
		s.slots <- struct{}{}
		c, err := l.Accept()
		if err != nil {
			<-s.slots
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		s.goes.Add(1)
		go func() {
			defer s.goes.Done()
			defer func() { <-s.slots }()
			serve(c.(*net.TCPConn))
		}()
	}
}

// connect takes a redirected connection where it was meant to go. What cannot
// be is reset: it was accepted before anybody knew.
func (s *supervisor) connect(c *net.TCPConn) {
	to, err := originalDestination(c)
	if err != nil {
		relay.Abort(c)
		return
	}
	out, err := s.dial(c.RemoteAddr().(*net.TCPAddr).AddrPort(), netip.AddrPortFrom(to.Addr().Unmap(), to.Port()))
	if err != nil {
		relay.Abort(c)
		return
	}
	_, _ = s.engine.Join(context.Background(), relay.Relay{}, c, out)
}

// errNowhere says that there is nobody where a program wants to go.
var errNowhere = errors.New("no such destination")

// dial connects to a destination: to this machine's own loopback interface
// directly if that is allowed, to everything else through Tor, by the name that
// the address stands for if it does.
func (s *supervisor) dial(from, to netip.AddrPort) (relay.Conn, error) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeLimit)
	defer cancel()
	own4, own6 := ownAddresses()
	host := to.Addr().String()
	switch addr := to.Addr(); {
	case addr.IsLoopback():
		if !s.settings.Loopback {
			return nil, errNowhere
		}
		var d net.Dialer
		return streamOf(d.DialContext(ctx, "tcp", to.String()))
	case addr == own4, addr == own6, addr.IsUnspecified(), addr.IsMulticast():
		return nil, errNowhere
	case inPool(addr):
		name, ok := s.names.name(addr)
		if !ok {
			return nil, errNowhere
		}
		host = name
	}
	return streamOf(s.tor(s.who(from, to)).Connect(ctx, host, to.Port()))
}

func streamOf(c net.Conn, err error) (relay.Conn, error) {
	if err != nil {
		return nil, err
	}
	stream, ok := c.(relay.Conn)
	if !ok {
		c.Close()
		return nil, errors.New("not a stream")
	}
	return stream, nil
}

// who is the process that connects. Where it cannot be told, all such
// connections of the launch count as of one.
func (s *supervisor) who(from, to netip.AddrPort) identity {
	inode, err := s.sockets.inode(from, to)
	if err != nil {
		return identity{}
	}
	id, _ := s.people.owner(inode)
	return id
}

func (s *supervisor) tor(id identity) *socks5.Client {
	return socks5.To(s.settings.SocksPort, s.creds.process(id))
}

func (s *supervisor) reverse(ctx context.Context, addr netip.Addr) (string, error) {
	return s.tor(identity{}).ResolvePTR(ctx, addr)
}

// wait returns when nobody is left in the namespace: neither the program nor
// what it left running.
func (s *supervisor) wait(payload *os.File) {
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(payload.Fd()), Events: unix.POLLIN}}, -1)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	// A process that is just about to execute another program cannot be looked
	// at; it takes two looks to be sure.
	for misses := 0; misses < 2; <-tick.C {
		if misses++; s.people.any() {
			misses = 0
		}
	}
}
