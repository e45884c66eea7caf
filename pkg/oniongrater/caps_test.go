// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
)

const capFilter = anyHost + `  onion-services: 2
  newnym-per-minute: 3
  commands:
    ADD_ONION: ['NEW:ED25519-V3( Flags=Detach)? Port=\d+,10\.152\.152\.\d+:80']
    DEL_ONION: ['\S+']
    SIGNAL: ['(?i:NEWNYM)', 'RELOAD']
    GETINFO: [version]
`

// service has the scripted Tor answer to the request for a service, which it
// returns, and its id.
func (r *rig) service(number int, client, flags string) (line, id string) {
	line = fmt.Sprintf("ADD_ONION NEW:ED25519-V3%s Port=%d,%s:80", flags, number, client)
	id = fmt.Sprintf("service%d", number)
	r.tor.Answer(line, "250-ServiceID="+id, "250 OK")
	r.tor.Answer("DEL_ONION "+id, "250 OK")
	return line, id
}

// TestOnionServiceCap: an address has so many onion services and no more, over all
// its connections; others are not concerned.
func TestOnionServiceCap(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(capFilter)
	r.start()
	add := func(c *workstation, number int, client string, want ...string) (id string) {
		t.Helper()
		line, id := r.service(number, client, "")
		if want == nil {
			want = []string{"250-ServiceID=" + id, "250 OK"}
		}
		c.want(line, want...)
		return id
	}
	one, two, other := r.dial(client11), r.dial(client11), r.dial(client12)
	r.tor.Answer("ADD_ONION NEW:ED25519-V3 Port=99,10.152.152.11:80", "551 Failed")
	for range 5 {
		one.want("ADD_ONION NEW:ED25519-V3 Port=99,10.152.152.11:80", "551 Failed") // makes none
	}
	first := add(one, 1, client11)
	add(one, 2, client11)
	r.tor.Forget()
	add(one, 3, client11, filtered)
	add(two, 4, client11, filtered)
	if got := r.tor.Received(); len(got) != 0 {
		t.Errorf("Tor got %q", got)
	}
	r.log.wait(t, "this address has 2 onion services and may have no more (onion-services): ADD_ONION")
	add(other, 5, client12)
	del := "DEL_ONION\t" + strings.ToUpper(first) // the same to Tor
	r.tor.Answer(del, "250 OK")
	one.want(del, "250 OK")
	add(two, 6, client11)
	add(two, 7, client11, filtered)
	one.c.Close()
	line, id := r.service(8, client11, "")
	until(t, "the services of who has left are given back", func() bool { return two.ask(line)[0] == "250-ServiceID="+id })
	add(two, 9, client11, filtered)
}

// TestDetachedServiceCap: a service that outlives its connection counts until it
// is deleted, or Tor is another one.
func TestDetachedServiceCap(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(capFilter)
	r.start()
	const flags = " Flags=Detach"
	first, id := r.service(1, client11, flags)
	second, _ := r.service(2, client11, flags)
	third, _ := r.service(3, client11, flags)
	one := r.dial(client11)
	one.want(first, "250-ServiceID=service1", "250 OK")
	one.want(second, "250-ServiceID=service2", "250 OK")
	one.c.Close()
	until(t, "the client has left", func() bool { n, _ := r.p.guests.numbers(); return n == 0 })
	two := r.dial(client11)
	two.want(third, filtered)
	r.dial(client12).want("DEL_ONION "+id, "250 OK")
	two.want(third, "250-ServiceID=service3", "250 OK")
	two.want(first, filtered)
	r.tor.Close()
	r.tor.Cookie = bytes.Repeat([]byte{8}, 32)
	r.write(defaultCookie, string(r.tor.Cookie))
	r.startTor()
	two.want("GETINFO version", versionReply()...)
	two.want(first, "250-ServiceID=service1", "250 OK")
}

// TestNewnymCap: an address gets so many in a minute, over all its connections.
func TestNewnymCap(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(capFilter)
	var later atomic.Int64
	begin := time.Now()
	r.start(func(p *proxy) { p.env.Now = func() time.Time { return begin.Add(time.Duration(later.Load())) } })
	r.tor.Answer("SIGNAL NEWNYM", "250 OK")
	r.tor.Answer("signal newnym", "250 OK")
	r.tor.Answer("SIGNAL RELOAD", "250 OK")
	one, two := r.dial(client11), r.dial(client11)
	one.want("SIGNAL NEWNYM", "250 OK")
	one.want("signal newnym", "250 OK")
	later.Store(int64(newnymTime / 2))
	two.want("SIGNAL NEWNYM", "250 OK")
	for _, c := range []*workstation{one, two} {
		c.want("signal newnym", filtered)
		c.want("SIGNAL RELOAD", "250 OK")
	}
	r.log.wait(t, "this address had 3 NEWNYM in a minute and may have no more (newnym-per-minute): signal newnym")
	r.dial(client12).want("SIGNAL NEWNYM", "250 OK")
	later.Store(int64(newnymTime))
	one.want("SIGNAL NEWNYM", "250 OK")
	one.want("SIGNAL NEWNYM", "250 OK")
	one.want("SIGNAL NEWNYM", filtered)
}

// TestCapsForget: of an address that has nothing any more nothing is kept.
func TestCapsForget(t *testing.T) {
	r := newRig(t)
	r.start()
	now := time.Now()
	for i := range 1000 {
		c := &r.p.caps
		a := netip.AddrFrom4([4]byte{10, 152, byte(i >> 8), byte(i)})
		if !c.reserve(a, now, 1) || !c.newnym(a, now, 1) || c.newnym(a, now, 1) || c.reserve(a, now, 1) {
			t.Fatal("an address that had nothing gets one of each, and no more")
		}
		c.free(a, 1)
		now = now.Add(time.Second)
	}
	if n := len(r.p.caps.of); n > 61 {
		t.Errorf("%d addresses are kept", n)
	}
}

// TestCapsInFilters: what is no number allows nothing; of filters that are united
// the lower number counts, and of merged ones that of the higher file.
func TestCapsInFilters(t *testing.T) {
	for text, want := range map[string]limit{"7": {true, 7}, "0": {true, 0}, "": {}, "many": {true, 0}, "-1": {true, 0}, "10001": {true, 0}, "1.5": {true, 0}, "[3]": {true, 0}, "'3'": {true, 0}} {
		root := fsx.Root(t.TempDir())
		path := FilterDir + "/x.yml"
		if err := root.MkdirAll(FilterDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := root.WriteAtomic(path, []byte(anyHost+"  onion-services: "+text+"\n  newnym-per-minute: "+text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		filters, problems := LoadFile(root, path)
		bad := want == limit{true, 0} && text != "0"
		if len(filters) != 1 || filters[0].OnionServices != want || filters[0].NewNyms != want || Broken(problems) != bad {
			t.Errorf("%q: %+v, %v", text, filters, problems)
		}
	}
	low, high, none := &Filter{OnionServices: limit{true, 3}}, &Filter{OnionServices: limit{true, 5}, Combine: true}, &Filter{Combine: true}
	for _, order := range [][]*Filter{{low, high, none}, {none, high, low}, {high, none, low}} {
		if u, ok := Unite(order); !ok || u.OnionServices != low.OnionServices || u.NewNyms.set {
			t.Errorf("%+v", u)
		}
	}
}
