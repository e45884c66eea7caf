// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/whonix"
)

const patience = time.Minute

func build(t *testing.T) *Topology {
	t.Helper()
	topo, err := NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(topo.Close)
	return topo
}

func TestTopology(t *testing.T) {
	topo := build(t)
	for _, server := range []string{ServerIP, ServerIP6} {
		o := topo.Gateway.Namespace.TCP(65534, net.JoinHostPort(server, "80"), patience)
		if from, ok := Greeting(o.Text); o.Verdict != Answered || !ok || from != o.Local {
			t.Errorf("TCP to %s: %v %q", server, o, o.Text)
		}
		if o := topo.Gateway.Namespace.UDP(0, net.JoinHostPort(server, "123"), []byte("x"), patience); o.Verdict != Answered || o.Text != "x" {
			t.Errorf("UDP to %s: %v %q", server, o, o.Text)
		}
		if o := topo.Gateway.Namespace.Ping(server, patience); o.Verdict != Answered {
			t.Errorf("ping %s: %v", server, o)
		}
		if o := topo.Gateway.Namespace.TCP(0, net.JoinHostPort(server, "81"), patience); o.Verdict != Refused {
			t.Errorf("closed port of %s: %v", server, o)
		}
	}
	for _, inside := range []string{whonix.GatewayIP, whonix.GatewayIP6} {
		if o := topo.Workstation.Namespace.Ping(inside, patience); o.Verdict != Answered {
			t.Errorf("ping %s: %v", inside, o)
		}
	}
}

// TestFrames: hand-made packets are accepted by a kernel, which checks their
// sums, and read back by the decoder.
func TestFrames(t *testing.T) {
	topo := build(t)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	capture, err := topo.Inside.Capture(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer capture.Close()
	socket, err := topo.Workstation.OpenSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	to, err := topo.Inside.HardwareAddr()
	if err != nil {
		t.Fatal(err)
	}
	from, err := topo.Workstation.HardwareAddr()
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{WorkstationIP, whonix.GatewayIP}, {WorkstationIP6, whonix.GatewayIP6}} {
		src, dst := netip.AddrPortFrom(netip.MustParseAddr(pair[0]), 1234), netip.AddrPortFrom(netip.MustParseAddr(pair[1]), 7777)
		pc, err := topo.Gateway.Namespace.ListenPacket(0, dst.String())
		if err != nil {
			t.Fatal(err)
		}
		kind, packet := Packet(src.Addr(), dst.Addr(), ProtoUDP, UDP(src, dst, []byte("hello")))
		if err := socket.Send(Ethernet(to, from, kind, packet)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		pc.SetReadDeadline(time.Now().Add(patience))
		n, sender, err := pc.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "hello" || sender.String() != src.String() {
			t.Errorf("received %q from %v: %v", buf[:n], sender, err)
		}
		pc.Close()
		kind, packet = Packet(src.Addr(), dst.Addr(), ProtoTCP, TCP(src, dst, SYN))
		if err := socket.Send(Ethernet(to, from, kind, packet)); err != nil {
			t.Fatal(err)
		}
		// A closed port answers a good SYN, and only a good one, by a reset.
		reset, ok := capture.Wait(ctx, 0, func(f Captured) bool { return f.Outgoing && f.Flags == RST|ACK && f.Dst == src.Addr() })
		if !ok || reset.SrcPort != dst.Port() {
			t.Errorf("no reset for %v", src)
		}
	}
	if err := Fence(ctx, socket, capture, "end"); err != nil {
		t.Error(err)
	}
}

func TestDecodedInWords(t *testing.T) {
	a, b := netip.MustParseAddrPort("198.51.100.7:80"), netip.MustParseAddrPort("203.0.113.9:1234")
	a6, b6 := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("2001:db8::9")
	hw := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	_, tcp := Packet(a.Addr(), b.Addr(), ProtoTCP, TCP(a, b, SYN|ACK))
	_, ping6 := Packet(a6, b6, ProtoICMPv6, ICMP(a6, b6, 128, 0, make([]byte, 4)))
	fragment := IPv4{Src: a.Addr(), Dst: b.Addr(), Proto: ProtoUDP, Fragment: 5, Payload: []byte("x")}.Bytes()
	for _, c := range []struct {
		kind    uint16
		payload []byte
		want    string
	}{
		{EtherIPv4, tcp, "IPv4 TCP 198.51.100.7:80 -> 203.0.113.9:1234 SYN,ACK"},
		{EtherIPv6, ping6, "IPv6 ICMPv6 type 128 code 0 2001:db8::7 -> 2001:db8::9"},
		{EtherIPv4, fragment, "IPv4 fragment of protocol 17 198.51.100.7 -> 203.0.113.9"},
		{EtherARP, ARP(1, hw, a.Addr(), hw, b.Addr()), "ARP request by 198.51.100.7 for 203.0.113.9"},
		{0x1234, nil, "frame of type 0x1234"},
	} {
		if got := Decode(Ethernet(hw, hw, c.kind, c.payload)).String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// FuzzDecode: whatever the wire brings, decoding ends.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 60))
	f.Fuzz(func(_ *testing.T, frame []byte) { _ = Decode(frame).String() })
}

// TestNothingRemains: the machine has the same interfaces before and after.
func TestNothingRemains(t *testing.T) {
	before, _ := net.Interfaces()
	topo, err := NewTopology()
	if err != nil {
		t.Fatal(err)
	}
	topo.Close()
	after, _ := net.Interfaces()
	if len(before) != len(after) {
		t.Errorf("%d interfaces before, %d after", len(before), len(after))
	}
	if entries, _ := os.ReadDir("/run/netns"); len(entries) > 0 {
		for _, e := range entries {
			if strings.Contains(e.Name(), "workstation") {
				t.Errorf("namespace %s remains", e.Name())
			}
		}
	}
}
