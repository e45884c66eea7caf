// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
)

// portDomain is where questions for names are sent.
const portDomain = 53

// Names of the descriptors that the namespace hands over.
const (
	fileRelay4     = "relay4"
	fileRelay6     = "relay6"
	fileNames4     = "names4"
	fileNames6     = "names6"
	fileNamesTCP4  = "namesTCP4"
	fileNamesTCP6  = "namesTCP6"
	fileDiagnostic = "diagnostic" // a netlink socket, see sock_diag(7)
	fileNamespace  = "namespace"  // the network namespace itself
	filePayload    = "payload"    // a pidfd of the launcher
)

// namespaceSocket is the descriptor of the channel to the launcher.
const namespaceSocket = 3

// serveNamespace is the process that was started in the new namespaces, with
// every capability in them. It reports how it went, and waits for the launcher
// to have got hold of them.
func serveNamespace(ctx context.Context) error {
	launcher := channelOf(namespaceSocket)
	defer launcher.close()
	made, err := prepareNamespace(ctx)
	defer made.close()
	if err != nil {
		return launcher.send(message{Error: err.Error()})
	}
	if err := launcher.send(message{Names: made.names}, made.files...); err != nil {
		return err
	}
	_, _, _ = launcher.receive() // it closes its end, or dies
	return nil
}

// made is what is handed over.
type made struct {
	names []string
	files []*os.File
}

func (m *made) add(name string, f *os.File) {
	m.names, m.files = append(m.names, name), append(m.files, f)
}

func (m *made) close() { closeAll(m.files) }

// prepareNamespace makes everything ready before the firewall is loaded, and
// the firewall last.
func prepareNamespace(ctx context.Context) (*made, error) {
	m := &made{}
	// nft takes as long to start as all the rest takes.
	firewall, err := nft.NewExec(fsx.Host).Start(ctx)
	if err != nil {
		return m, err
	}
	p, err := m.build()
	if err != nil {
		firewall.Abandon()
		return m, err
	}
	if err := firewall.Commit(ruleset(p).Bytes()); err != nil {
		return m, fmt.Errorf("%w (does the kernel have nf_tables with NAT, module nft_redir?)", err)
	}
	return m, nil
}

func (m *made) build() (p ports, err error) {
	if err := maskResolvers(); err != nil {
		return p, err
	}
	ipv6 := hasIPv6()
	if err := raiseLoopback(ipv6); err != nil {
		return p, err
	}
	if p, err = m.listen(ipv6); err != nil {
		return p, fmt.Errorf("listen in the namespace: %w", err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return p, fmt.Errorf("netlink socket: %w", err)
	}
	m.add(fileDiagnostic, os.NewFile(uintptr(fd), fileDiagnostic))
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return p, err
	}
	m.add(fileNamespace, ns)
	return p, nil
}

// filer is a socket that can be handed over.
type filer interface {
	File() (*os.File, error)
	Close() error
}

// keep takes the descriptor of a socket.
func (m *made) keep(name string, s filer) error {
	f, err := s.File()
	if err == nil {
		m.add(name, f)
	}
	return errors.Join(err, s.Close())
}

// listen opens the listeners on ports of the kernel's choice, which are free
// for the program only by chance; nothing it sends to them gets there directly.
func (m *made) listen(ipv6 bool) (p ports, err error) {
	v4, v6 := netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()
	if p.relay4, err = m.listenTCP(fileRelay4, v4, 0); err != nil {
		return p, err
	}
	if p.names, err = m.listenTCP(fileNamesTCP4, v4, 0); err != nil {
		return p, err
	}
	if err = m.listenUDP(fileNames4, v4, p.names); err != nil || !ipv6 {
		p.relay6 = p.relay4
		return p, err
	}
	// The one port that is not free to choose comes first.
	if _, err = m.listenTCP(fileNamesTCP6, v6, p.names); err != nil {
		return p, err
	}
	if err = m.listenUDP(fileNames6, v6, p.names); err != nil {
		return p, err
	}
	p.relay6, err = m.listenTCP(fileRelay6, v6, 0)
	return p, err
}

func (m *made) listenTCP(name string, addr netip.Addr, port uint16) (uint16, error) {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
	if err != nil {
		return 0, err
	}
	port = l.Addr().(*net.TCPAddr).AddrPort().Port()
	return port, m.keep(name, l)
}

func (m *made) listenUDP(name string, addr netip.Addr, port uint16) error {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, port)))
	if err != nil {
		return err
	}
	return m.keep(name, c)
}
