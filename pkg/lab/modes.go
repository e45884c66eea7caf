// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// Modes of the firewall.
const (
	modeFull     = "full"
	modeTimesync = "timesync-fail-closed"
)

// reloadWorkstation gives the Workstation its firewall back, with the clock
// not yet right; the Gateway's is as before.
func reloadWorkstation(ctx context.Context, l *Lab) error {
	return l.loadWorkstation(ctx, modeTimesync)
}

func timesync() []attempt {
	var list []attempt
	from := func(who string, uid int, to string, want ...string) {
		list = append(list, attempt{fmt.Sprintf("Workstation: TCP by %s to %s", who, to), strings.Join(want, " or "), func(_ context.Context, l *Lab) (string, bool) {
			return oneOf(l.topo.Workstation.Namespace.TCP(uid, to, patience(want)), want)
		}})
	}
	for _, g := range gatewayAddrs() {
		from("sdwdate", uidSdwdate, join(g, whonix.SdwdatePort), netlab.Connected)
		from("nobody", uidNobody, join(g, whonix.SdwdatePort), netlab.Refused)
		from("nobody", uidNobody, join(g, whonix.ControlPort), netlab.Connected)
	}
	for _, s := range servers() {
		from("user", uidUser, join(s, 80), netlab.Refused)
	}
	list = append(list, attempt{"Workstation: DNS at " + join(whonix.GatewayIP, 53), "not let out", func(_ context.Context, l *Lab) (string, bool) {
		return oneOf(l.topo.Workstation.Namespace.UDP(uidUser, join(whonix.GatewayIP, 53), netlab.Query("example.com"), silent), []string{netlab.Refused, netlab.Forbidden})
	}}, cutConnection())
	for _, host := range []string{"127.0.0.1", "::1", whonix.GatewayIP} {
		for _, port := range []uint16{whonix.DefaultPort, whonix.CustomPortFirst, whonix.HTTPTunnelPortFirst, whonix.TransPortGateway, whonix.SdwdatePort} {
			want := netlab.Refused
			if port == whonix.SdwdatePort {
				want = netlab.Connected
			}
			list = append(list, attempt{"Gateway: TCP by user to " + join(host, port), want, func(_ context.Context, l *Lab) (string, bool) {
				return oneOf(l.topo.Gateway.Namespace.TCP(uidUser, join(host, port), patience([]string{want})), []string{want})
			}})
		}
	}
	for _, s := range servers() {
		list = append(list, attempt{"Gateway: TCP by user to " + join(s, 80), netlab.Refused, func(_ context.Context, l *Lab) (string, bool) {
			return oneOf(l.topo.Gateway.Namespace.TCP(uidUser, join(s, 80), quick), []string{netlab.Refused})
		}})
	}
	return append(list, attempt{"Workstation: TCP to the Gateway, which is locked", netlab.Silent, func(_ context.Context, l *Lab) (string, bool) {
		return oneOf(l.topo.Workstation.Namespace.TCP(uidSdwdate, join(whonix.GatewayIP, whonix.SdwdatePort), silent), []string{netlab.Silent})
	}})
}

// patience is how long to wait for an outcome. A refusal over IPv6 reaches the
// caller only when the kernel tries again, after a second.
func patience(want []string) time.Duration {
	if slices.Contains(want, netlab.Refused) {
		return quick
	}
	return silent
}

func oneOf(o netlab.Outcome, want []string) (string, bool) {
	for _, w := range want {
		if o.Verdict == w {
			return o.Verdict, true
		}
	}
	return o.Verdict, false
}

// cutConnection is D8: a connection that runs when the Gateway goes back to
// timesync mode must stop.
func cutConnection() attempt {
	return attempt{"Gateway goes to timesync mode during a Workstation's connection", "the connection stops", func(ctx context.Context, l *Lab) (string, bool) {
		if err := l.loadWorkstation(ctx, modeFull); err != nil {
			return err.Error(), false
		}
		var conn net.Conn
		err := l.topo.Workstation.Namespace.As(uidUser, func() (err error) {
			conn, err = net.DialTimeout("tcp", join(whonix.GatewayIP, whonix.DefaultPort), quick)
			return err
		})
		if err != nil {
			return "could not connect before: " + err.Error(), false
		}
		defer conn.Close()
		if !greetsSOCKS(conn, quick) {
			return "the connection did not work before", false
		}
		if err := l.loadGateway(ctx, modeTimesync); err != nil {
			return err.Error(), false
		}
		if _, err := conn.Write([]byte{5, 1, 0, 1, 198, 51, 100, 1, 0, 80}); err != nil {
			return "stopped", true
		}
		_ = conn.SetReadDeadline(time.Now().Add(silent))
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			return "it goes on", false
		}
		return "stopped", true
	}}
}

// greetsSOCKS exchanges a SOCKS5 greeting.
func greetsSOCKS(conn net.Conn, within time.Duration) bool {
	_ = conn.SetDeadline(time.Now().Add(within))
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		return false
	}
	n, err := conn.Read(make([]byte, 2))
	return err == nil && n > 0
}

// failures are loads that must end with everything shut, and the way back.
func failures() []attempt {
	const broken = configDir + "/99_broken.conf"
	var list []attempt
	for _, c := range []struct{ name, text string }{
		{"a syntax error", "if\n"},
		{"exit 0", "exit 0\n"},
		{"dry_run=1", "dry_run=1\n"},
		{"an unset variable", "EXT_IF=$NO_SUCH_VARIABLE\n"},
		{"a failing command", "false\n"},
		{"an invalid port", "EXTERNAL_OPEN_PORTS='22#x'\n"},
		{"a host name", "NON_TOR_GATEWAY=example.com\n"},
		{"an unknown mode", "firewall_mode=ful\n"},
	} {
		list = append(list, shutBy("Gateway: configuration with "+c.name, func(l *Lab) error { return l.gateway.write(broken, c.text) }))
	}
	list = append(list, shutBy("Gateway: nft is not installed", func(l *Lab) error {
		return errors.Join(l.gateway.remove(broken), l.gateway.remove("/usr/sbin/nft"))
	}))
	return append(list, attempt{"Gateway: repaired, and loaded again", "works as before", func(ctx context.Context, l *Lab) (string, bool) {
		err := errors.Join(l.gateway.remove(broken), os.Symlink("../hostsbin/nft", l.gateway.path("/usr/sbin/nft")))
		if err != nil {
			return err.Error(), false
		}
		said, status, err := l.enable(ctx)
		if err != nil || status != 0 || l.gateway.exists(failedStatus) {
			return fmt.Sprintf("exit status %d: %s", status, said), false
		}
		return l.persist(func() (string, bool) {
			return l.viaTor(l.topo.Workstation.Namespace.TCP(uidUser, join(netlab.ServerIP, 80), quick), whonix.TransPortWorkstation)
		})
	}})
}

const failedStatus = "/run/anon-firewall/failed.status"

// enable runs what the service runs.
func (l *Lab) enable(ctx context.Context) (string, int, error) {
	return l.gateway.run(ctx, strings.NewReader(""), "/usr/libexec/whonix-firewall/enable-firewall")
}

// shutBy breaks something, starts the service's program, and expects it to
// fail with the network shut for everybody.
func shutBy(tried string, spoil func(l *Lab) error) attempt {
	return attempt{tried, "fails, and nothing passes any more", func(ctx context.Context, l *Lab) (string, bool) {
		if err := spoil(l); err != nil {
			return err.Error(), false
		}
		said, status, err := l.enable(ctx)
		switch {
		case err != nil:
			return err.Error(), false
		case status != 1:
			return fmt.Sprintf("exit status %d: %s", status, said), false
		case !l.gateway.exists(failedStatus):
			return "no " + failedStatus, false
		}
		for who, o := range map[string]netlab.Outcome{
			"Tor to the Internet":            l.topo.Gateway.Namespace.TCP(uidTor, join(netlab.ServerIP, 80), silent/4),
			"Tor to the Internet, IPv6":      l.topo.Gateway.Namespace.TCP(uidTor, join(netlab.ServerIP6, 80), silent/4),
			"user on loopback":               l.topo.Gateway.Namespace.TCP(uidUser, join(whonix.LoopbackIP, whonix.DefaultPort), silent/4),
			"the Workstation to the Gateway": l.topo.Workstation.Namespace.TCP(uidUser, join(whonix.GatewayIP, whonix.DefaultPort), silent/4),
		} {
			if o.Verdict == netlab.Answered || o.Verdict == netlab.Connected {
				return who + ": " + o.Verdict, false
			}
		}
		return "failed and shut: " + reason(said), true
	}}
}

// reason is the line in which a program said why it failed.
func reason(said string) string {
	for line := range strings.Lines(said) {
		if _, why, ok := strings.Cut(line, "ERROR: "); ok && !strings.Contains(line, "script failed") {
			return strings.TrimSpace(why)
		}
		if strings.Contains(line, "unbound variable") {
			return strings.TrimSpace(line)
		}
	}
	return "without a word"
}
