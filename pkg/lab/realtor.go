// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/tornet"
	"whonix-networking/pkg/whonix"
)

// Addresses on the lab's Internet of the relays, and of exits as servers see
// them.
const (
	relayIP = "198.51.100.9"
	exitIP  = "198.51.100.10"
	exitIP6 = "2001:db8:10::10"
)

// Programs on the lab's Gateway.
const (
	sanePath = "/usr/libexec/anon-gw-anonymizer-config/tor-config-sane"
	torPath  = "/usr/bin/tor"
)

// Parts of Tor's configuration: the Gateway's list of listeners, and Debian's.
const (
	listenersBase = "/usr/share/tor/tor-service-defaults-torrc.anondist.base"
	torDefaults   = "/usr/share/tor/tor-service-defaults-torrc"
)

// labTorrc is what the lab's administrator adds to Tor's configuration.
const labTorrc = "/usr/local/etc/torrc.d/50_user.conf"

// realTor is Debian's tor with the Gateway's own configuration, on a Tor
// network of which the relays are on the lab's Internet.
type realTor struct {
	topo    *netlab.Topology
	gateway *machine
	opts    Options
	network tornet.Options
	ports   netlab.PortRange // local ports of the Gateway's connections

	relays  *tornet.Network
	process *daemon
	control *torctl.Client
	filter  *netlab.StandIn // stands in for the control port filter
}

func newRealTor(topo *netlab.Topology, gateway *machine, scratch string, opts Options) *realTor {
	return &realTor{
		topo: topo, gateway: gateway, opts: opts,
		ports: netlab.NewPortRange(torPortFirst, torPortLast),
		network: tornet.Options{
			Dir: filepath.Join(scratch, "relays"), Namespace: topo.Internet.Namespace, Address: relayIP,
			Names: map[string]string{"example.com": netlab.ServerIP},
			Exit:  []string{"IPv6Exit 1", "OutboundBindAddressExit " + exitIP, "OutboundBindAddressExit [" + exitIP6 + "]"},
		},
	}
}

// sent: Tor speaks to relays only, from ports that no raw frame of the
// Workstation's has.
func (r *realTor) sent(f netlab.Captured) bool {
	return r.ports.Contains(f.SrcPort) && r.network.Contains(netip.AddrPortFrom(f.Dst, f.DstPort))
}

func (r *realTor) called(from netip.AddrPort) bool {
	return from.Addr().String() == exitIP || from.Addr().String() == exitIP6
}

func (r *realTor) took(o netlab.Outcome) (netlab.Accepted, bool) {
	in, ok, err := r.topo.Gateway.Namespace.Tracked(o.Local, o.Remote)
	return in, ok && err == nil
}

func (r *realTor) start(ctx context.Context) (err error) {
	ports := fmt.Sprintf("%d %d", r.ports.First, r.ports.Last)
	err = errors.Join(
		r.topo.Internet.Address(relayIP+"/32", exitIP+"/32", exitIP6+"/128"),
		r.topo.Gateway.Namespace.Sysctl("ipv4/ip_local_port_range", ports),
		r.install(),
	)
	if err != nil {
		return err
	}
	r.filter = &netlab.StandIn{Namespace: r.topo.Gateway.Namespace, UID: uidRoot}
	if err := r.filter.Start(everywhere(), netlab.StandInPorts{Socks: []uint16{whonix.ControlPort}}); err != nil {
		return err
	}
	if r.relays, err = tornet.StartRelays(ctx, r.network); err != nil {
		return err
	}
	if err := r.gateway.write(labTorrc, r.relays.ClientLines()); err != nil {
		return err
	}
	if err := r.startClient(ctx); err != nil {
		return fmt.Errorf("%w\nTor said:\n%s%s\nThe relays said:\n%s", err, r.gateway.tail("/run/tor/log"), r.process.said(), r.relays.Logs())
	}
	return nil
}

// install puts the Gateway's files where Tor and its programs look for them.
func (r *realTor) install() error {
	err := errors.Join(
		r.gateway.install(r.opts.Sane, sanePath),
		r.gateway.copyTree(r.opts.Installed, "/etc/tor"), r.gateway.copyTree(r.opts.Installed, "/etc/torrc.d"),
		r.gateway.copyTree(r.opts.Installed, "/usr/share/anon-gw-anonymizer-config"),
		r.gateway.copyFile(r.opts.Installed, listenersBase),
		r.gateway.copyFile("/", torDefaults),
	)
	// What Debian's package does with /etc/tor/torrc, which is displaced.
	if err == nil && !r.gateway.exists("/etc/tor/torrc") {
		err = os.Symlink("torrc.anondist", r.gateway.path("/etc/tor/torrc"))
	}
	for dir, mode := range map[string]uint32{"/var/lib/tor": 0o2700, "/run/tor": 0o2755} { // as Debian's unit has them
		err = errors.Join(err, os.MkdirAll(r.gateway.path(dir), 0o755), os.Chown(r.gateway.path(dir), uidTor, uidTor), syscall.Chmod(r.gateway.path(dir), mode))
	}
	return err
}

// startClient does what anon-gw-anonymizer-config.service and tor@default.service
// do, one after the other.
func (r *realTor) startClient(ctx context.Context) error {
	said, status, err := r.gateway.run(ctx, strings.NewReader(""), sanePath)
	if err == nil && status != 0 {
		err = fmt.Errorf("exit status %d", status)
	}
	if err != nil {
		return fmt.Errorf("tor-config-sane: %w: %s", err, said)
	}
	tor := []string{
		torPath, "--defaults-torrc", torDefaults, "-f", "/etc/tor/torrc", "--RunAsDaemon", "0",
		"--__OwningControllerProcess", fmt.Sprint(os.Getpid()), // it ends with the lab, however that ends
	}
	if r.process, err = r.gateway.start(tor...); err != nil {
		return err
	}
	if err := r.connect(ctx); err != nil {
		return err
	}
	if err := r.process.signal(syscall.SIGHUP); err != nil { // a drop-in of the unit
		return err
	}
	if err := r.bootstrapped(ctx); err != nil {
		return err
	}
	return r.steady(ctx)
}

// connect connects to Tor's control port, as soon as there is one.
func (r *realTor) connect(ctx context.Context) error {
	const step = 20 * time.Millisecond
	at := torctl.Address{Network: "tcp", Address: join(whonix.LoopbackIP, whonix.TorControlPort)}
	with := torctl.Credentials{Root: fsx.Root(r.gateway.root), Cookie: "/run/tor/control.authcookie"}
	for {
		err := r.topo.Gateway.Namespace.Do(func() (err error) {
			r.control, err = torctl.Open(ctx, at, with)
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-time.After(step):
		case <-r.process.ended:
			return fmt.Errorf("the process ended: %w", r.process.err)
		case <-ctx.Done():
			return fmt.Errorf("its control port: %w", err)
		}
	}
}

func (r *realTor) bootstrapped(ctx context.Context) error {
	if err := r.control.SetEvents(ctx, "STATUS_CLIENT"); err != nil {
		return err
	}
	phase, err := r.control.GetInfo(ctx, "status/bootstrap-phase")
	for err == nil && !strings.Contains(phase, "TAG=done") {
		var e torctl.Event
		e, err = r.control.NextEvent(ctx)
		phase = e.Text
	}
	if err != nil {
		return fmt.Errorf("it did not get ready: %w", err)
	}
	return nil
}

// steady waits until connections to both servers succeed one after the other:
// the first circuits of a young network often fail.
func (r *realTor) steady(ctx context.Context) error {
	const inARow = 4
	for good := 0; good < inARow*len(servers()); {
		for _, s := range servers() {
			good++
			o := r.topo.Gateway.Namespace.SOCKS(uidUser, join(whonix.LoopbackIP, whonix.DefaultPort), join(s, 80), quick)
			if o.Verdict != netlab.Answered || !strings.Contains(o.Text, "you are") {
				good = 0
			}
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("connections do not succeed, the last to %s: %v: %w", s, o, err)
			}
		}
	}
	return nil
}

func (r *realTor) tries() int { return 3 }

func (r *realTor) stop() {
	if r.control != nil {
		r.control.Close()
	}
	if r.process != nil {
		r.process.stop()
	}
	if r.relays != nil {
		r.relays.Stop()
	}
	if r.filter != nil {
		r.filter.Stop()
	}
}

// copyFile copies a file of a tree to the same place on the machine.
func (m *machine) copyFile(tree, p string) error {
	text, err := os.ReadFile(filepath.Join(tree, p))
	if err != nil {
		return err
	}
	return m.write(p, string(text))
}

// copyTree copies a directory's files and links likewise.
func (m *machine) copyTree(tree, dir string) error {
	from := filepath.Join(tree, dir)
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		p := filepath.Join(dir, strings.TrimPrefix(path, from))
		switch {
		case e.Type().IsRegular():
			return m.copyFile(tree, p)
		case e.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return errors.Join(os.MkdirAll(filepath.Dir(m.path(p)), 0o755), os.Symlink(to, m.path(p)))
		}
		return nil
	})
}

// tail is the end of a file on the machine.
func (m *machine) tail(p string) string {
	const most = 4000
	f, err := os.Open(m.path(p))
	if err != nil {
		return err.Error() + "\n"
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(f, most))
	return string(text)
}
