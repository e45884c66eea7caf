// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseSocat(t *testing.T) {
	tcp := func(a string) Destination { return Destination{Endpoint: Endpoint{"tcp", a}} }
	proxied := func(proxy, at, behind string) Destination {
		return Destination{Endpoint: Endpoint{"tcp", at}, Proxy: proxy, Behind: behind}
	}
	one := Endpoint{"tcp4", "0.0.0.0:1"}
	for line, want := range map[string]Socat{
		"TCP-LISTEN:9998,fork,bind=127.0.0.1 TCP:10.152.152.10:9998":                          {Listen: Endpoint{"tcp4", "127.0.0.1:9998"}, Connect: tcp("10.152.152.10:9998"), Linger: time.Minute, Fork: true},
		"-t100 UNIX-LISTEN:/run/x/127.0.0.1_1.sock,mode=777,reuseaddr,fork TCP4:h:1":          {Listen: Endpoint{"unix", "/run/x/127.0.0.1_1.sock"}, Connect: Destination{Endpoint: Endpoint{"tcp4", "h:1"}}, Linger: 100 * time.Second, Fork: true, Mode: "777"},
		"-d -d -t 0.2 -T 5 tcp6-l:80,fork,max-children=7,backlog=9 tcp:fd19:c33d:88bc::10:90": {Listen: Endpoint{"tcp", "[::]:80"}, Connect: tcp("[fd19:c33d:88bc::10]:90"), Linger: 200 * time.Millisecond, Idle: 5 * time.Second, Fork: true, Max: 7, Backlog: 9},
		"TCP-LISTEN:http,bind=[::1] TCP:[::1]:81":                                             {Listen: Endpoint{"tcp6", "[::1]:80"}, Connect: tcp("[::1]:81"), Linger: time.Minute},
		"ABSTRACT-LISTEN:n,fork UNIX-CONNECT:/p":                                              {Listen: Endpoint{"unix", "@n"}, Connect: Destination{Endpoint: Endpoint{"unix", "/p"}}, Linger: time.Minute, Fork: true},
		"UNIX-L:/a,user=u,group=g,unlink-early,unlink-close=0 UNIX:/b":                        {Listen: Endpoint{"unix", "/a"}, Connect: Destination{Endpoint: Endpoint{"unix", "/b"}}, Linger: time.Minute, User: "u", Group: "g", Unlink: true, Keep: true},
		"TCP-LISTEN:1 TCP:h:2":                              {Listen: one, Connect: tcp("h:2"), Linger: time.Minute},
		"-6 TCP-LISTEN:1 TCP:h:2":                           {Listen: Endpoint{"tcp", "[::]:1"}, Connect: tcp("h:2"), Linger: time.Minute},
		"-b 8192 -4 TCP-LISTEN:1,pf=ip6 ABSTRACT-CONNECT:n": {Listen: Endpoint{"tcp", "[::]:1"}, Connect: Destination{Endpoint: Endpoint{"unix", "@n"}}, Linger: time.Minute},
		"TCP-LISTEN:1,range=10.0.0.7/8 TCP:h:2,connect-timeout=1.5,bind=[::1],keepalive": {Listen: one, Connect: Destination{Endpoint: Endpoint{"tcp", "h:2"}, From: "::1", Timeout: 1500 * time.Millisecond}, Linger: time.Minute, Range: netip.MustParsePrefix("10.0.0.0/8")},
		"TCP-LISTEN:1,range=10.0.0.7:255.255.0.0 TCP:h:2":                                {Listen: one, Connect: tcp("h:2"), Linger: time.Minute, Range: netip.MustParsePrefix("10.0.0.0/16")},
		"TCP6-LISTEN:1,range=[::1]/128 TCP:h:2":                                          {Listen: Endpoint{"tcp", "[::]:1"}, Connect: tcp("h:2"), Linger: time.Minute, Range: netip.MustParsePrefix("::1/128")},
		"TCP-LISTEN:1 SOCKS4A:127.0.0.1:a.onion:80,socksport=9050,socksuser=x":           {Listen: one, Connect: Destination{Endpoint: Endpoint{"tcp", "127.0.0.1:9050"}, Proxy: "socks4a", Behind: "a.onion:80", User: "x"}, Linger: time.Minute},
		"TCP-LISTEN:1 SOCKS4A:h:a.onion:80":                                              {Listen: one, Connect: proxied("socks4a", "h:1080", "a.onion:80"), Linger: time.Minute},
		"TCP-LISTEN:1 SOCKS5:[::1]:9050:[fd19::1]:80":                                    {Listen: one, Connect: proxied("socks5", "[::1]:9050", "[fd19::1]:80"), Linger: time.Minute},
		"TCP-LISTEN:1 socks5-connect:h:a.onion:80,socksport=9150":                        {Listen: one, Connect: proxied("socks5", "h:9150", "a.onion:80"), Linger: time.Minute},
	} {
		got, err := ParseSocat(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, *got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
	for _, line := range []string{"TCP-LISTEN:1,fork,bogus TCP:h:1", "UDP-LISTEN:1 TCP:h:1", "TCP-LISTEN:1 EXEC:cat", "-u TCP-LISTEN:1 TCP:h:1", "TCP:h:1 TCP-LISTEN:1", "TCP-LISTEN:1",
		"TCP-LISTEN:1 TCP:h:1,bind=x", "OPENSSL-LISTEN:1 TCP:h:1", "TCP-LISTEN:1 SOCKS4:h:n:1", "TCP-LISTEN:1 TCP:h:1!!TCP:g:1", `UNIX-LISTEN:/a\,b TCP:h:1`, `TCP-LISTEN:1 TCP:"h":1`,
		"TCP-LISTEN:1 TCP:h:1,socksport=3", "TCP-LISTEN:1,pf=ip5 TCP:h:1", "TCP-LISTEN:1,range=1.2.3.4:255.0.255.0 TCP:h:1", "-dx TCP-LISTEN:1 TCP:h:1"} {
		if _, err := ParseSocat(strings.Fields(line)); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{"TCP-LISTEN:0,fork TCP:h:1", "TCP-LISTEN:,fork TCP:h:1", "TCP-LISTEN:99999 TCP:h:1", "TCP-LISTEN:1 TCP:h", "TCP-LISTEN:1 TCP::1", "-t x TCP-LISTEN:1 TCP:h:1",
		"-t NaN TCP-LISTEN:1 TCP:h:1", "-T -1 TCP-LISTEN:1 TCP:h:1", "UNIX-LISTEN:/a,mode=9 TCP:h:1", "UNIX-LISTEN: TCP:h:1", "-t", "TCP-LISTEN:1 TCP:[::1:80", "TCP-LISTEN:1 TCP:[]:80",
		"TCP-LISTEN:1,bind=[::1 TCP:h:1", "TCP4-LISTEN:1,bind=[::1] TCP:h:1", "TCP-LISTEN:1 TCP4:[::1]:1", "TCP-LISTEN:1 TCP:a/b:1", "TCP-LISTEN:1,max-children=x TCP:h:1", "TCP-LISTEN:1,range=x TCP:h:1",
		"TCP-LISTEN:1 SOCKS5:h:1", "TCP-LISTEN:1 SOCKS4A:h::1", "UNIX-LISTEN:/" + strings.Repeat("x", 107) + " TCP:h:1", "TCP-LISTEN:1 UNIX:", "TCP-LISTEN:1 TCP:h:1,connect-timeout=x"} {
		if got, err := ParseSocat(strings.Fields(line)); err == nil || errors.Is(err, ErrForeign) {
			t.Errorf("%s: %+v %v", line, got, err)
		}
	}
}

func TestAllows(t *testing.T) {
	at := func(a string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(a)) }
	s := Socat{Range: netip.MustParsePrefix("127.0.0.0/8")}
	if !s.Allows(at("127.3.4.5:1")) || !s.Allows(at("[::ffff:127.0.0.1]:1")) || s.Allows(at("10.0.0.1:1")) || s.Allows(at("[::1]:1")) || s.Allows(&net.UnixAddr{}) {
		t.Error("the range is another")
	}
	if s.Range = (netip.Prefix{}); !s.Allows(at("10.0.0.1:1")) {
		t.Error("without a range somebody is refused")
	}
}

// FuzzParseSocat: what is served has two addresses that Go's dialler reads as
// they were meant.
func FuzzParseSocat(f *testing.F) {
	for _, line := range []string{"-t100 UNIX-LISTEN:/run/x.sock,mode=777,fork TCP:h:1", "TCP-LISTEN:9998,fork,bind=127.0.0.1,range=[::1]/128 SOCKS4A:::1:a.onion:80,socksport=9050",
		"-T0.5 tcp6-l:80,pf=ip4 socks5:[::1]:9050:[::2]:80"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, err := ParseSocat(strings.Fields(line))
		if err != nil {
			return
		}
		if s.Linger <= 0 || s.Idle < 0 || s.Max < 0 || s.Backlog < 0 {
			t.Errorf("%q: %+v", line, s)
		}
		for _, e := range []Endpoint{s.Listen, s.Connect.Endpoint, {"tcp", s.Connect.Behind}} {
			if e.Network == "unix" && e.Address == "" {
				t.Errorf("%q: %+v", line, s)
			}
			if e.Network == "unix" || e.Address == "" && s.Connect.Proxy == "" {
				continue
			}
			host, port, err := net.SplitHostPort(e.Address)
			if err != nil || host == "" || port == "" || strings.ContainsAny(host, " /,[]") {
				t.Errorf("%q: %q: %v", line, e.Address, err)
			}
		}
	})
}

// FuzzAddress: an address with and without brackets is the same one.
func FuzzAddress(f *testing.F) {
	for _, text := range []string{"10.152.152.10:9050", "fd19:c33d:88bc::10:9050", "[fd19::10]:9050", "gateway:http", "::1:1", ":1", "[]:1", "fe80::1%eth0:5"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := hostPort("TCP", text)
		if err != nil {
			return
		}
		same, err := hostPort("TCP", e.Address)
		if err != nil || same != e {
			t.Errorf("%q: %+v, then %+v, %v", text, e, same, err)
		}
	})
}
