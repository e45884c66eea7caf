// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/torrc"
	"whonix-networking/pkg/whonix"
)

// listener is one that is open, or a port that the redirections to the Gateway
// serve already.
type listener struct {
	wanted
	net.Listener
	address string // as in the log
	served  bool   // by a redirection
}

// address is where a listener may listen: on loopback, whatever the
// configuration says.
func (w wanted) address() string {
	host := "127.0.0.1"
	if a, err := netip.ParseAddr(w.Host); err == nil {
		switch {
		case a.Unmap().IsLoopback() && a.Zone() == "":
			host = a.Unmap().String()
		case !a.Is4():
			host = "::1"
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(int(w.Port)))
}

// listen opens what the configuration asks for. It fails only if it asks for
// something and nothing of it could be had.
func (d *dummy) listen(ctx context.Context, p plan) error {
	asked, had := 0, 0
	seen := map[string]bool{}
	for _, w := range p.listeners {
		where := w.Path
		if where == "" {
			where = w.address()
		}
		same := w.key + " " + where
		if w.Port != 0 && seen[same] {
			continue // 0.0.0.0 and 127.0.0.1 are the same here
		}
		seen[same] = true
		asked++
		d.log.say(torrc.Notice, "Opening %s listener on %s", w.name, where)
		l, err := d.open(ctx, w, where)
		if err != nil {
			d.log.say(torrc.Warn, "Could not bind to %s: %v", where, err)
			continue
		}
		d.listeners = append(d.listeners, l)
		d.opened(w.name, l.address)
		had++
	}
	for _, path := range p.sockets {
		asked++
		d.log.say(torrc.Notice, "Opening Control listener on %s", path)
		if err := d.controlAt(ctx, path); err != nil {
			d.log.say(torrc.Warn, "Could not bind to %s: %v", path, err)
			continue
		}
		d.sockets = append(d.sockets, path)
		d.opened("Control", path)
		had++
	}
	if asked > 0 && had == 0 {
		return complain("Failed to bind one of the listener ports.")
	}
	return nil
}

// controlAt has a path lead to the control port: by a link to the redirection's
// socket, or where there is none, by a socket.
func (d *dummy) controlAt(ctx context.Context, path string) error {
	if fi, err := os.Stat(d.root.Path(controlTarget)); err == nil && fi.Mode().Type() == os.ModeSocket {
		return d.link(path, controlTarget, nil)
	}
	l, err := d.openUnix(ctx, wanted{kind{socketKey, "Control", controlPort}, torrc.Listener{Path: path}})
	if err == nil {
		d.listeners = append(d.listeners, l)
	}
	return err
}

func (d *dummy) opened(name, where string) {
	d.log.say(torrc.Notice, "Opened %s listener connection (ready) on %s", name, where)
}

func (d *dummy) open(ctx context.Context, w wanted, where string) (*listener, error) {
	if w.Path != "" {
		return d.openUnix(ctx, w)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", where)
	if err == nil && !alone(l.Addr()) { // whatever has been overlooked above
		return nil, errors.Join(errors.New("not on loopback"), l.Close())
	}
	if err == nil {
		return &listener{wanted: w, Listener: l, address: l.Addr().String()}, nil
	}
	if errors.Is(err, unix.EADDRINUSE) && w.redirected(where) && !d.has(where) {
		d.log.say(torrc.Notice, "%s is served by the redirection to the Gateway", where)
		return &listener{wanted: w, address: where, served: true}, nil
	}
	var call *net.OpError
	if errors.As(err, &call) {
		err = call.Err
	}
	return nil, err
}

// has reports an address at which this program listens itself.
func (d *dummy) has(where string) bool {
	return slices.ContainsFunc(d.listeners, func(l *listener) bool { return !l.served && l.address == where })
}

// redirected reports the addresses at which the units of this package listen
// for the same: a program that asks for them has what it wants.
func (w wanted) redirected(where string) bool {
	ports := []string{socksPort, whonix.BrowserPortText}
	switch w.key {
	case tunnelKey:
		return false
	case controlKey:
		ports = []string{controlPort, whonix.BrowserControlPortText}
	}
	host, port, err := net.SplitHostPort(where)
	return err == nil && slices.Contains(ports, port) && (host == "127.0.0.1" || host == "::1")
}

// openUnix opens a unix socket; it is for the user alone, unless its flags say
// otherwise.
func (d *dummy) openUnix(ctx context.Context, w wanted) (*listener, error) {
	p, err := openPlace(w.Path, false)
	if err != nil {
		return nil, err
	}
	if err := p.free(nil); err != nil {
		p.close()
		return nil, err
	}
	mode := uint32(0o600)
	switch {
	case w.Has("WorldWritable"):
		mode = 0o666
	case w.Has("GroupWritable"):
		mode = 0o660
	}
	if err := unix.Unlinkat(p.fd(), p.name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		p.close()
		return nil, err
	}
	// The mode is that of the descriptor, less the umask, from the begin; see
	// unix_bind_bsd() in the kernel.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), mode) }), err)
	}}
	l, err := config.Listen(ctx, "unix", p.proc())
	if err != nil {
		p.close()
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	undo, err := p.removal()
	if err == nil {
		err = p.open(mode)
	}
	if err != nil {
		p.close()
		return nil, errors.Join(err, l.Close())
	}
	d.undo = append(d.undo, undo, p.close)
	return &listener{wanted: w, Listener: l, address: w.Path}, nil
}

// open gives a socket its mode, also where the umask would not.
func (p *place) open(mode uint32) error {
	fd, err := unix.Openat(p.fd(), p.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.Join(fmt.Errorf("%s: is no socket any more", p.path), err)
	}
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), mode)
}

// serve relays until ctx ends.
func (d *dummy) serve(ctx context.Context) {
	log := d.once()
	var all sync.WaitGroup
	for _, port := range []string{socksPort, controlPort} {
		listeners := d.relayed(port, log)
		if len(listeners) == 0 {
			continue
		}
		server := &relay.Server{Relay: relay.Relay{Linger: halfCloseLinger}, Engine: d.engine, Dial: d.dialer(port), Max: dummyConnections, Log: log}
		all.Add(1)
		go func() {
			defer all.Done()
			server.Serve(ctx, 0, listeners...)
		}()
	}
	for _, l := range d.listeners {
		if l.key == tunnelKey {
			all.Add(1)
			go func() {
				defer all.Done()
				(&tunnel{engine: d.engine, dial: d.dialer(socksPort), log: log}).serve(ctx, l)
			}()
		}
	}
	all.Wait()
}

const dummyConnections = 1024

// relayed are the listeners of which connections go to a port as they are.
func (d *dummy) relayed(port string, log func(text string)) (all []*relay.Listener) {
	for _, l := range d.listeners {
		if l.port != port || l.served || l.key == tunnelKey {
			continue
		}
		own, err := relay.TakeListener(l.Listener)
		if err != nil {
			log(fmt.Sprintf("Failed to accept: %v", err))
			continue
		}
		all = append(all, own)
	}
	return all
}

// once logs a complaint again only when there has been another one, or after a
// while: whoever should read the log may not.
func (d *dummy) once() func(text string) {
	const again = 10 * time.Minute
	var mu sync.Mutex
	var last string
	var when time.Time
	return func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if text == last && time.Since(when) < again {
			return
		}
		last, when = text, time.Now()
		d.log.say(torrc.Warn, "%s", text)
	}
}

// dialer connects to a port of the Gateway: by the redirection on loopback, or
// where that does not listen, straight. What would lead back here does not
// count (defect 36).
func (d *dummy) dialer(port string) func(context.Context) (relay.Conn, error) {
	gateway := sync.OnceValue(func() []string {
		g := settings(d.root, withoutEnviron(d.env), func(text string) { d.log.say(torrc.Warn, "%s", text) })
		return []string{net.JoinHostPort(unbracketed(g.IP), port), net.JoinHostPort(unbracketed(g.IP6), port)}
	})
	return func(ctx context.Context) (relay.Conn, error) {
		c, err := d.dial(ctx, net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			return c, nil
		}
		for _, to := range gateway() {
			c, err2 := d.dial(ctx, to)
			if err2 == nil {
				return c, nil
			}
			if !errors.Is(err2, errLoop) {
				err = err2
			}
		}
		return nil, complain("The Gateway cannot be reached: %v", err)
	}
}

func (d *dummy) dial(ctx context.Context, to string) (relay.Conn, error) {
	var own listening
	for _, l := range d.listeners {
		if !l.served {
			own = append(own, l.Addr())
		}
	}
	c, err := (&net.Dialer{Control: own.control}).DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(relay.Conn), nil
}
