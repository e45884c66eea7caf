// SPDX-License-Identifier: GPL-3.0-or-later

// Package tornet is a private Tor network for tests: directory authorities,
// exits and a client of Debian's tor, all in one network namespace, with
// addresses that look public behind the exits. Nothing leaves the machine.
// Without the client, it is the Tor network of a lab's Internet.
package tornet

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/socks5"
)

// Addresses in the namespace.
const (
	SocksAddress   = "127.0.0.1:9050"
	ControlAddress = "127.0.0.1:9052"
	ServerIP       = "198.51.100.1" // for servers on "the Internet"
	dnsIP          = "198.51.100.53"

	steadyName = "steady.example" // resolves to dnsIP
)

// How the network is made up. Paths need three relays that differ.
const (
	authorities = 3
	exits       = 2
	firstOR     = 5000
	firstDir    = 7000
)

// Options of a network.
type Options struct {
	Dir    string            // where everything is kept; readable by root only
	Names  map[string]string // names that exits resolve, to IPv4 addresses
	Client []string          // further lines of the client's torrc
	Exit   []string          // further lines of the exits' torrc

	// Namespace is where the network is, without ServerIP; nil for one of its own.
	Namespace *netlab.Namespace
	Address   string // of the relays, in it; empty for loopback
}

// Network is a running network.
type Network struct {
	Namespace *netlab.Namespace
	o         Options
	processes []*exec.Cmd
	names     *nameServer
	cookie    string // path
	lines     string // by which everybody knows the authorities
}

// Start starts a network and waits until its client can build circuits. ctx
// bounds that.
func Start(ctx context.Context, o Options) (*Network, error) {
	n, err := StartRelays(ctx, o)
	if err != nil {
		return nil, err
	}
	n.cookie = n.dir("client", 0) + "/control_auth_cookie"
	err = n.start("client", 0, fmt.Sprintf(clientConfig, SocksAddress, ControlAddress)+strings.Join(append(o.Client, ""), "\n")+n.lines)
	if err == nil {
		err = n.bootstrapped(ctx)
	}
	if err == nil {
		err = n.steady(ctx)
	}
	return n.orStop(err)
}

// StartRelays starts a network without a client.
func StartRelays(ctx context.Context, o Options) (n *Network, err error) {
	n = &Network{o: o, Namespace: o.Namespace}
	local := []string{dnsIP}
	if n.Namespace == nil {
		if n.Namespace, err = netlab.New("tor"); err != nil {
			return nil, err
		}
		local = append(local, ServerIP)
	}
	if n.o.Address == "" {
		n.o.Address = "127.0.0.1"
	}
	if err := n.Namespace.Do(func() error { return addresses(local) }); err != nil {
		return n.orStop(err)
	}
	if n.names, err = serveNames(n.Namespace, o.Names); err != nil {
		return n.orStop(err)
	}
	if n.lines, err = n.makeAuthorities(ctx); err != nil {
		return n.orStop(err)
	}
	return n.orStop(n.startRelays())
}

// orStop returns the network; if there is an error, it stops it, and the error
// says what its processes said.
func (n *Network) orStop(err error) (*Network, error) {
	if err == nil {
		return n, nil
	}
	err = fmt.Errorf("%w\n%s", err, n.Logs())
	n.Stop()
	return nil, err
}

// ClientLines are the lines of a torrc by which a client somewhere else uses
// this network.
func (n *Network) ClientLines() string { return networkConfig + n.lines }

// Contains reports whether a relay of such a network listens at an address.
func (o Options) Contains(a netip.AddrPort) bool {
	port := int(a.Port())
	return a.Addr().String() == o.Address &&
		(port >= firstOR && port < firstOR+authorities+exits || port >= firstDir && port < firstDir+authorities)
}

func addresses(local []string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, ip := range local {
		a, err := netlink.ParseAddr(ip + "/32")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, a); err != nil {
			return fmt.Errorf("address %s: %w", ip, err)
		}
	}
	return nil
}

// Stop ends all processes of the network.
func (n *Network) Stop() {
	for _, p := range n.processes {
		_ = p.Process.Signal(syscall.SIGKILL)
	}
	for _, p := range n.processes {
		_ = p.Wait()
	}
	if n.names != nil {
		n.names.stop()
	}
	if n.o.Namespace == nil {
		n.Namespace.Close()
	}
}

// Logs are the ends of what the processes said.
func (n *Network) Logs() string {
	var b strings.Builder
	found, _ := filepath.Glob(n.o.Dir + "/*/log")
	for _, p := range found {
		const tail = 1000
		data, _ := os.ReadFile(p)
		fmt.Fprintf(&b, "%s:\n%s\n", p, data[max(0, len(data)-tail):])
	}
	return b.String()
}

// makeAuthorities makes the authorities' keys, and returns the lines by which
// everybody knows them.
func (n *Network) makeAuthorities(ctx context.Context) (string, error) {
	lines := make([]string, authorities)
	errs := make([]error, authorities)
	var group sync.WaitGroup
	for i := range authorities {
		group.Add(1)
		go func() {
			defer group.Done()
			lines[i], errs[i] = n.makeAuthority(ctx, i)
		}()
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return "", err
		}
	}
	return strings.Join(lines, ""), nil
}

func (n *Network) makeAuthority(ctx context.Context, i int) (string, error) {
	dir := n.dir("auth", i)
	keys := dir + "/keys"
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return "", err
	}
	address := fmt.Sprintf("%s:%d", n.o.Address, firstDir+i)
	cert := exec.CommandContext(ctx, "tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", "12", "-a", address)
	cert.Dir = keys
	cert.Stdin = strings.NewReader("private\n")
	if out, err := cert.CombinedOutput(); err != nil {
		return "", fmt.Errorf("tor-gencert: %w: %s", err, out)
	}
	text, err := os.ReadFile(keys + "/authority_certificate")
	if err != nil {
		return "", err
	}
	identity := regexp.MustCompile(`(?m)^fingerprint ([0-9A-F]{40})$`).FindSubmatch(text)
	if identity == nil {
		return "", fmt.Errorf("%s: no fingerprint", keys)
	}
	// The relay's key, before the authorities are known: any will do here.
	other := "DirAuthority none orport=1 no-v2 v3ident=" + strings.Repeat("0", 40) + " 127.0.0.1:1 " + strings.Repeat("0", 40) + "\n"
	if err := n.write("auth", i, n.authority(i)+other); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "tor", "--quiet", "-f", dir+"/torrc", "--list-fingerprint").Output()
	if err != nil {
		return "", fmt.Errorf("tor --list-fingerprint: %w: %s", err, out)
	}
	_, fingerprint, _ := bytes.Cut(bytes.TrimSpace(out), []byte(" "))
	return fmt.Sprintf("DirAuthority auth%d orport=%d no-v2 v3ident=%s %s %s\n", i, firstOR+i, identity[1], address,
		bytes.ReplaceAll(fingerprint, []byte(" "), nil)), nil
}

func (n *Network) dir(kind string, i int) string {
	return filepath.Join(n.o.Dir, fmt.Sprintf("%s%d", kind, i))
}

func (n *Network) write(kind string, i int, text string) error {
	dir := n.dir(kind, i)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	resolv := n.o.Dir + "/resolv.conf"
	if err := os.WriteFile(resolv, []byte("nameserver "+dnsIP+"\n"), 0o600); err != nil {
		return err
	}
	common := networkConfig + fmt.Sprintf(commonConfig, dir, resolv, os.Getpid())
	return os.WriteFile(dir+"/torrc", []byte(common+text), 0o600)
}

// startRelays starts every process but a client.
func (n *Network) startRelays() error {
	for i := range authorities {
		if err := n.start("auth", i, n.authority(i)+n.lines); err != nil {
			return err
		}
	}
	further := strings.Join(append(n.o.Exit, ""), "\n")
	for i := range exits {
		if err := n.start("exit", i, fmt.Sprintf(exitConfig, i, n.o.Address, firstOR+authorities+i)+further+n.lines); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) start(kind string, i int, text string) error {
	if err := n.write(kind, i, text); err != nil {
		return err
	}
	cmd := exec.Command("tor", "--quiet", "-f", n.dir(kind, i)+"/torrc")
	return n.Namespace.Do(func() error {
		if err := cmd.Start(); err != nil {
			return err
		}
		n.processes = append(n.processes, cmd)
		return nil
	})
}

// steady waits until connections succeed one after the other: the first
// circuits of a young network often fail.
func (n *Network) steady(ctx context.Context) error {
	const inARow, limit = 8, 10 * time.Second
	l, err := n.Namespace.Listen(0, dnsIP+":7")
	if err != nil {
		return err
	}
	defer l.Close()
	for good, i := 0, 0; good < inARow; i++ {
		if ctx.Err() != nil {
			return fmt.Errorf("connections do not succeed: %w", ctx.Err())
		}
		one, cancel := context.WithTimeout(ctx, limit)
		c, err := n.connect(one, fmt.Sprint("steady", i))
		cancel()
		if err != nil {
			good = 0
			continue
		}
		c.Close()
		good++
	}
	return nil
}

func (n *Network) connect(ctx context.Context, password string) (net.Conn, error) {
	tor := socks5.Client{Auth: socks5.Isolation(password), Dial: func(ctx context.Context) (c net.Conn, err error) {
		err = n.Namespace.Do(func() error {
			var d net.Dialer
			c, err = d.DialContext(ctx, "tcp", SocksAddress)
			return err
		})
		return c, err
	}}
	const echo = 7
	return tor.Connect(ctx, steadyName, echo)
}

// bootstrapped waits until the client says that it is done.
func (n *Network) bootstrapped(ctx context.Context) error {
	const step = 50 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		c, err := n.Control()
		if err == nil {
			defer c.Close()
			return c.bootstrapped(ctx)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the client's control port: %w", err)
		case <-tick.C:
		}
	}
}
