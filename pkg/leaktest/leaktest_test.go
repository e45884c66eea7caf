// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"whonix-networking/pkg/checksum"
	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
)

// pair is a machine and the router that all its packets go to; nothing leads
// further.
type pair struct {
	own, router netlab.Port
}

const (
	own4, own6       = "10.0.2.15", "2001:db8:1::15"
	router4, router6 = "10.0.2.2", "2001:db8:1::2"
)

func newPair(t *testing.T) *pair {
	t.Helper()
	var p pair
	for name, port := range map[string]*netlab.Port{"own": &p.own, "router": &p.router} {
		n, err := netlab.New(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		*port = netlab.Port{Namespace: n, Interface: "eth0"}
	}
	steps := []func() error{
		func() error { return netlab.Connect(p.own, p.router) },
		func() error { return p.own.Address(own4+"/24", own6+"/64") },
		func() error { return p.router.Address(router4+"/24", router6+"/64") },
		func() error { return p.own.DefaultVia(router4, router6) },
		// The machine answers nothing to the answers it has not asked for.
		func() error { return p.router.Namespace.Sysctl("ipv4/icmp_ratelimit", "0") },
		func() error { return p.router.Namespace.Sysctl("ipv6/icmp/ratelimit", "0") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return &p
}

// nft loads rules into a namespace.
func nft(t *testing.T, n *netlab.Namespace, rules string) {
	t.Helper()
	err := n.Do(func() error {
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// output is what a call left behind.
type output struct {
	out, err string
	code     int
}

// call runs the program in a namespace.
func call(t *testing.T, n *netlab.Namespace, args ...string) (o output) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	env := cli.Env{Args: args, Stdout: &stdout, Stderr: &stderr, Now: time.Now}
	err := n.Do(func() error {
		o.code = cli.Run(ctx, env, func(ctx context.Context, env cli.Env) error {
			return run(ctx, env, machine{root: fsx.Root(t.TempDir())})
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	o.out, o.err = stdout.String(), stderr.String()
	return o
}

// report reads what --json printed.
func (o output) report(t *testing.T) (r Report) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.out), &r); err != nil {
		t.Fatalf("%v: %+v", err, o)
	}
	return r
}

// seen is what a capture counted of packets to the target, by protocol and by
// port.
type seen struct {
	protocols    map[uint8]int
	tcp, udp     map[uint16]int
	total, asked int
}

// listen counts what comes to the router for the target, until the function
// that it returns is called.
func (p *pair) listen(t *testing.T, target string) func() seen {
	t.Helper()
	to := netip.MustParseAddr(target)
	c, err := p.router.Capture(func(f netlab.Captured) bool { return !f.Outgoing && f.Dst == to })
	if err != nil {
		t.Fatal(err)
	}
	return func() seen {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		s, err := p.own.OpenSocket()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := netlab.Fence(ctx, s, c, "everything is there"); err != nil {
			t.Fatal(err)
		}
		c.Close()
		frames, err := c.Frames()
		if err != nil {
			t.Fatal(err)
		}
		got := seen{protocols: map[uint8]int{}, tcp: map[uint16]int{}, udp: map[uint16]int{}, total: len(frames)}
		for _, f := range frames {
			next := f.Raw[14+9] // the protocol as it was sent
			if f.Dst.Is6() {
				next = f.Raw[14+6]
			}
			switch {
			case f.Proto == netlab.ProtoTCP && f.SrcPort == sourcePort && f.Flags == netlab.SYN:
				got.tcp[f.DstPort]++
			case f.Proto == netlab.ProtoUDP && f.SrcPort == sourcePort:
				got.udp[f.DstPort]++
			case f.Proto == netlab.ProtoUDP && f.DstPort == 53:
				got.asked++
			default:
				got.protocols[next]++
			}
		}
		return got
	}
}

// targets are the default ones of both families.
func targets() map[string][]string {
	return map[string][]string{target4: nil, target6: {"--ipv6"}}
}

// TestDefect23_EverythingThatIsSentArrives: every protocol to 255 and every port
// to 65535 once, in both families, and the summary says so.
func TestDefect23_EverythingThatIsSentArrives(t *testing.T) {
	for target, flags := range targets() {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			count := p.listen(t, target)
			o := call(t, p.own.Namespace, append([]string{"leaktest", "--rate=20000", "--wait=100ms"}, flags...)...)
			got := count()
			if o.code != 0 || o.err != "" {
				t.Fatalf("%+v", o)
			}
			for _, line := range []string{"leaktest: Starting leak test, hit ctrl+c to abort...", "leaktest: " + testsDir + "exhaustive_ip_send.py...", "leaktest: Leaktest finished.",
				"exhaustive_ip_send: sent=256 refused=0 answered=0", "tcp_test: sent=65536 refused=0 ", "udp_test: sent=65536 refused=0 ", "dns_test: sent=5 refused=0 ", "Leak_Tests_Old"} {
				if !strings.Contains(o.out, line) {
					t.Errorf("%s is not in\n%s", line, o.out)
				}
			}
			if len(got.protocols) != 256 || len(got.tcp) != 1<<16 || len(got.udp) != 1<<16 || got.asked != len(questions()) || got.total != 256+2<<16+len(questions()) {
				t.Errorf("%d protocols, %d TCP ports, %d UDP ports, %d questions, %d packets", len(got.protocols), len(got.tcp), len(got.udp), got.asked, got.total)
			}
		})
	}
}

// TestFirewall: with one that lets nothing out, nothing is seen, all is counted
// as refused, and no test gives up.
func TestFirewall(t *testing.T) {
	for target, flags := range targets() {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			nft(t, p.own.Namespace, "table inet wall { chain output { type filter hook output priority 0; policy drop; }; }")
			count := p.listen(t, target)
			o := call(t, p.own.Namespace, append([]string{"leaktest", "--rate=0", "--wait=10ms", "--json", "--fail-on-leak"}, flags...)...)
			if got := count(); got.total != 0 {
				t.Errorf("%d packets came out: %+v", got.total, got)
			}
			r := o.report(t)
			if o.code != 0 || r.Verdict != VerdictBlocked || r.Target != target {
				t.Errorf("%+v", o)
			}
			for i, want := range []int{1 << 8, 1 << 16, 1 << 16, len(questions())} {
				if got := r.Tests[i]; got.Sent != 0 || got.Refused != want || got.Reasons["operation not permitted"] != want {
					t.Errorf("%+v, want %d refused", got, want)
				}
			}
		})
	}
}

// TestNoRoute: where no way leads out, that is no error.
func TestNoRoute(t *testing.T) {
	n, err := netlab.New("alone")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, args := range [][]string{{"exhaustive_ip_send"}, {"exhaustive_ip_send.py", "--ipv6"}} {
		o := call(t, n, append(args, "--wait=0")...)
		if o.code != 0 || !strings.Contains(o.out, "sent=0 refused=256 ") || strings.Contains(o.out, "Starting") {
			t.Errorf("%+v", o)
		}
	}
}

// TestAnswers: an answer that Tor cannot have given is a leak, and costs the
// exit code where that was asked for.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for target, flags := range targets() {
		p := newPair(t)
		if err := p.router.Address(netip.PrefixFrom(netip.MustParseAddr(target), netip.MustParseAddr(target).BitLen()).String()); err != nil {
			t.Fatal(err)
		}
		o := call(t, p.own.Namespace, append([]string{"udp_test.py", "--rate=40000", "--json", "--fail-on-leak"}, flags...)...)
		r := o.report(t)
		if o.code != CodeLeak || r.Verdict != VerdictLeak || r.Tests[0].Leaks == 0 || !strings.Contains(r.Tests[0].Leak, "ICMP") {
			t.Errorf("%+v", o)
		}
		o = call(t, p.own.Namespace, append([]string{"udp_test", "--rate=40000", "--json"}, flags...)...)
		if o.code != 0 {
			t.Errorf("a leak without --fail-on-leak: %+v", o)
		}
		o = call(t, p.own.Namespace, append([]string{"tcp_test", "--rate=40000", "--json", "--fail-on-leak"}, flags...)...)
		r = o.report(t)
		if o.code != 0 || r.Verdict != VerdictAnswered || r.Tests[0].Answered == 0 {
			t.Errorf("%+v", o)
		}
	}
}

// TestPing: the Gateway's answer is no leak, another's is.
func TestPing(t *testing.T) {
	p := newPair(t)
	o := call(t, p.own.Namespace, "simple_ping.py", "--wait=200ms")
	if o.code != 0 || !strings.HasPrefix(o.out, "No response\nsimple_ping: sent=1 refused=0 answered=0 ") || !strings.Contains(o.out, "target=10.152.152.10 ") {
		t.Errorf("%+v", o)
	}
	if err := p.router.Address("10.152.152.10/32", target4+"/32", target6+"/128"); err != nil {
		t.Fatal(err)
	}
	o = call(t, p.own.Namespace, "simple_ping")
	if o.code != 0 || !strings.HasPrefix(o.out, "simple_ping: sent=1 refused=0 answered=1 leaks=0 ") {
		t.Errorf("%+v", o)
	}
	for target := range targets() {
		o = call(t, p.own.Namespace, "simple_ping", "--fail-on-leak", "--target", target)
		if o.code != CodeLeak || !strings.Contains(o.out, " answered=1 leaks=1 ") {
			t.Errorf("%+v", o)
		}
	}
}

// TestPingInQubes: where the Gateway is, is asked of QubesDB.
func TestPingInQubes(t *testing.T) {
	root := fsx.Root(t.TempDir())
	for path, text := range map[string]string{"/usr/share/qubes/marker-vm": "", "/usr/bin/qubesdb-read": "#!/bin/sh\ntest \"$1\" = /qubes-gateway && echo 10.137.0.9\n"} {
		if err := root.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root.Path(path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m := machine{root: root}
	if got := gateway(m, false); got != "10.137.0.9" {
		t.Error(got)
	}
	if got := gateway(m, true); got != "fd19:c33d:88bc::10" {
		t.Error(got)
	}
}

// TestQuestions: a name server that answers what Tor does not is past Tor.
func TestQuestions(t *testing.T) {
	p := newPair(t)
	if err := p.router.Address(target4 + "/32"); err != nil {
		t.Fatal(err)
	}
	conn, err := p.router.Namespace.ListenPacket(0, target4+":53")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- s.ActivateAndServe() }()
	defer func() { conn.Close(); <-done }()
	o := call(t, p.own.Namespace, "dns_test", "--json", "--wait=20s")
	r := o.report(t)
	if got := r.Tests[0]; got.Sent != 5 || got.Answered != 5 || got.Leaks != 3 || got.Leak != "DNS IN MX: NOERROR" {
		t.Errorf("%+v", got)
	}
}

// TestQuestionsToTor: a DnsPort of Tor itself is recognised as one.
func TestQuestionsToTor(t *testing.T) {
	p := newPair(t)
	if err := p.router.Address(target4 + "/32"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/torrc", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("tor", "-f", dir+"/torrc", "--DataDirectory", dir+"/data", "--DNSPort", target4+":53", "--SocksPort", "0", "--Log", "notice stdout")
	cmd.Stdout = &out
	if err := p.router.Namespace.Do(cmd.Start); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	// It answers once it listens.
	for begin := time.Now(); ; {
		o := call(t, p.own.Namespace, "dns_test", "--json", "--wait=1s")
		got := o.report(t).Tests[0]
		if got.Answers["CH TXT: NOTIMP"] == 1 && got.Answers["IN MX: NOTIMP"] == 1 && got.Leaks == 0 {
			return
		}
		if got.Leaks > 0 || time.Since(begin) > time.Minute {
			t.Fatalf("%+v\n%s", got, out.String())
		}
	}
}

// TestMistakes: each is one line, and nothing is sent.
func TestMistakes(t *testing.T) {
	n, err := netlab.New("nobody")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, c := range []struct{ args, want string }{
		{"--target=scanme.nmap.org", "is no address; names are not looked up"},
		{"--target=10.0.0.1 --ipv6", "is no IPv6 address"},
		{"--target=224.0.0.1", "is no address of one machine"},
		{"--target=::ffff:1.2.3.4", "is no address of one machine"},
		{"--rate=-1", "is no number of packets a second"},
		{"--wait=-1s", "less than nothing"},
		{"more", "unexpected argument"},
		{"--unknown", "unknown flag"},
	} {
		o := call(t, n, append([]string{"leaktest"}, strings.Fields(c.args)...)...)
		if o.code != cli.CodeUsage || o.out != "" || strings.Count(o.err, "\n") != 1 || !strings.Contains(o.err, c.want) {
			t.Errorf("%s: %+v", c.args, o)
		}
	}
}

// TestNotRoot: said on standard output, as ever.
func TestNotRoot(t *testing.T) {
	var stdout bytes.Buffer
	const someone = 1000
	err := run(context.Background(), cli.Env{Args: []string{"leaktest"}, Stdout: &stdout}, machine{euid: someone})
	if cli.Code(err) != cli.CodeFailed || stdout.String() != "leaktest: This script must be run as root (sudo)\n" {
		t.Errorf("%v: %s", err, stdout.String())
	}
}

// TestInterrupt: a test that is interrupted says how far it came.
func TestInterrupt(t *testing.T) {
	p := newPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	c, err := p.router.Capture(func(f netlab.Captured) bool { return f.Proto == netlab.ProtoTCP })
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() {
		_, _ = c.Wait(context.Background(), 0, func(netlab.Captured) bool { return true })
		cancel()
	}()
	var stdout bytes.Buffer
	err = p.own.Namespace.Do(func() error {
		return run(ctx, cli.Env{Args: []string{"tcp_test", "--rate=10"}, Stdout: &stdout}, machine{root: fsx.Host})
	})
	if cli.Code(err) != cli.CodeFailed || !strings.Contains(fmt.Sprint(err), "tcp_test after sent=") {
		t.Errorf("%v", err)
	}
}

// TestPackets: what is built is what another reader reads, with right sums.
func TestPackets(t *testing.T) {
	for _, a := range []struct{ src, dst string }{{own4, target4}, {own6, target6}} {
		src, dst := netip.MustParseAddr(a.src), netip.MustParseAddr(a.dst)
		from, to := netip.AddrPortFrom(src, 4242), netip.AddrPortFrom(dst, 443)
		proto, ping := echoRequest(src, dst, 1, 1, []byte("odd"))
		for _, c := range []struct {
			proto   uint8
			payload []byte
		}{{netlab.ProtoTCP, syn(from, to)}, {netlab.ProtoUDP, datagram(from, to, []byte("odd"))}, {proto, ping}} {
			etherType := uint16(netlab.EtherIPv4)
			if dst.Is6() {
				etherType = netlab.EtherIPv6
			}
			raw := packet(src, dst, c.proto, c.payload)
			hw := net.HardwareAddr{2, 0, 0, 0, 0, 1}
			theirs, ours := netlab.Decode(netlab.Ethernet(hw, hw, etherType, raw)), decode(etherType, raw)
			if theirs.Src != ours.Src || theirs.Dst != dst || ours.Dst != dst || theirs.SrcPort != ours.SrcPort || theirs.DstPort != ours.DstPort || theirs.Proto != c.proto || theirs.Type != ours.Kind {
				t.Errorf("%v is read as %v", ours, theirs)
			}
			if dst.Is4() && checksum.Of(raw[:ipv4Header]) != 0 {
				t.Errorf("%v: header checksum", ours)
			}
			check := c.payload
			if c.proto != netlab.ProtoICMP {
				pseudo := append(src.AsSlice(), dst.AsSlice()...)
				pseudo = append(pseudo, 0, c.proto, byte(len(check)>>8), byte(len(check)))
				check = append(pseudo, check...)
			}
			if checksum.Of(check) != 0 {
				t.Errorf("%v: checksum", ours)
			}
		}
	}
}

// FuzzDecode: no frame of an attacker's ends the reader, and both readers see
// the same addresses.
func FuzzDecode(f *testing.F) {
	src, dst := netip.MustParseAddr(own6), netip.MustParseAddr(target6)
	f.Add(uint16(netlab.EtherIPv6), packet(src, dst, 0, []byte{43, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0, 53}))
	f.Add(uint16(netlab.EtherIPv4), packet(netip.MustParseAddr(own4), netip.MustParseAddr(target4), 6, make([]byte, 20)))
	f.Add(uint16(netlab.EtherARP), make([]byte, 28))
	f.Fuzz(func(t *testing.T, etherType uint16, b []byte) {
		ours := decode(etherType, b)
		if ours.String() == "" {
			t.Error("no words")
		}
		hw := make(net.HardwareAddr, 6)
		theirs := netlab.Decode(netlab.Ethernet(hw, hw, etherType, b))
		if ours.Src.IsValid() && (ours.Src != theirs.Src || ours.Dst != theirs.Dst) {
			t.Errorf("%v, %v", ours, theirs)
		}
	})
}
