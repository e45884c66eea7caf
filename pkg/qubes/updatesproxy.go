// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/relay"
	"whonix-networking/pkg/socks5"
	"whonix-networking/pkg/whonix"
)

const updatesProxyHelp = `usage: qubes-updates-proxy [--relay]
Is the updates proxy for one connection of another machine's, through Tor. See
qubes-updates-proxy(8).
  --relay    hand the connection to the proxy that listens at ` + localProxy + `
`

// Where another proxy of the Gateway's listens, and what says that it is wanted:
// it keeps packages for all templates, and has an account of its own to Tor.
const (
	localProxy  = "127.0.0.1:8082"
	flagCaching = "/run/qubes-service/qubes-updates-cache"
)

// Patience of the service.
const (
	// torPatience is shorter than apt's own, of 30 s, which would hide the
	// reason.
	torPatience   = 25 * time.Second
	relayPatience = 120 * time.Second
	torEach       = 250 * time.Millisecond
	// torConnect is how long Tor tries to connect, which is its SocksTimeout.
	torConnect = 2 * time.Minute
)

// callerVariable is where qrexec names the machine that calls.
const callerVariable = "QREXEC_REMOTE_DOMAIN"

// UpdatesProxy is the program qubes-updates-proxy.
func UpdatesProxy(ctx context.Context, env cli.Env) error {
	flags := pflag.NewFlagSet("qubes-updates-proxy", pflag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.Usage = func() {}
	relayed := flags.Bool("relay", false, "")
	switch err := flags.Parse(env.Args[min(1, len(env.Args)):]); {
	case errors.Is(err, pflag.ErrHelp):
		_, err := fmt.Fprint(env.Stdout, updatesProxyHelp)
		return err
	case err != nil:
		return cli.Usagef("%v", err)
	case flags.NArg() > 0:
		return cli.Usagef("unexpected argument %q", flags.Arg(0))
	}
	in, inOK := env.Stdin.(*os.File)
	out, outOK := env.Stdout.(*os.File)
	if !inOK || !outOK {
		return errors.New("standard input and output are no connection")
	}
	s, err := newUpdatesService(fsx.Host, env)
	if err != nil {
		return err
	}
	conn, err := relay.Stdio(in, out)
	if err != nil {
		return err
	}
	return s.serve(ctx, conn, *relayed)
}

// updatesService is one connection's service.
type updatesService struct {
	root   fsx.Root
	env    cli.Env
	caller string
	socks  *socks5.Client // a SocksPort of Tor's, with circuits of the caller's own
	local  string         // the address of another proxy
	ready  atomic.Bool    // Tor was connected

	patience, relayPatience, each time.Duration
}

func newUpdatesService(root fsx.Root, env cli.Env) (*updatesService, error) {
	caller, given := env.Lookup(callerVariable)
	if !given {
		caller = "local"
	} else if !isMachineName(caller) {
		return nil, fmt.Errorf("%s=%s is no name of a machine", callerVariable, shown(caller))
	}
	tor := netip.AddrPortFrom(netip.MustParseAddr(whonix.LoopbackIP), whonix.AptGetPort)
	return &updatesService{
		root: root, env: env, caller: caller, local: localProxy,
		// Templates that share circuits could be told to be of one machine.
		socks:    socks5.To(tor, socks5.Isolation("qubes-updates-proxy "+caller)),
		patience: torPatience, relayPatience: relayPatience, each: torEach,
	}, nil
}

// isMachineName reports whether Qubes could have a machine of that name.
func isMachineName(name string) bool {
	const longest = 31
	return name != "" && len(name) <= longest && !strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	})
}

// serve serves the connection until it ends, and closes it.
func (s *updatesService) serve(ctx context.Context, conn relay.Stream, relayed bool) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	work := s.proxy
	if relayed || s.root.Exists(flagCaching) {
		work = s.relayTo
	}
	err := work(ctx, conn)
	if ctx.Err() != nil {
		const terminated = 143
		return &cli.Exit{Code: terminated}
	}
	return err
}

// relayTo joins the connection with another proxy, which is behind Tor by its
// own configuration and by the firewall. Each side's end is passed on, and both
// must come (defect 42).
func (s *updatesService) relayTo(ctx context.Context, conn relay.Stream) error {
	if err := s.connected(ctx, s.relayPatience); err != nil {
		s.env.Warnf("%v", err) // that proxy tells its clients
	}
	var d net.Dialer
	there, err := d.DialContext(ctx, "tcp", s.local)
	if err != nil {
		refuse(conn, statusBadGateway, "no updates proxy listens on this Gateway")
		return cli.WithHint(fmt.Errorf("the updates proxy: %w", err), "see whether it runs: systemctl status qubes-updates-proxy qubes-updates-cache")
	}
	defer context.AfterFunc(ctx, func() { there.Close() })()
	_, err = relay.Relay{}.Copy(conn, there.(relay.Stream)) // TCP's are
	return err
}
