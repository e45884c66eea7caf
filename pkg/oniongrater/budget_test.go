// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/torctl"
)

// holder is a session without a connection.
type holder struct {
	*holding
	ended error
}

func newHolder(b *budget, from string) *holder {
	h := &holder{}
	h.holding = b.open(netip.MustParseAddr(from), func(err error) { h.ended = err })
	return h
}

// TestBudgetGreed: an address gets its share and no more, and who holds most pays
// for one that has little.
func TestBudgetGreed(t *testing.T) {
	b := &budget{max: 100, ofOne: 60}
	one, two, three := newHolder(b, client11), newHolder(b, client11), newHolder(b, client12)
	for _, err := range []error{one.take(40), two.take(20), three.take(40)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	other := newHolder(b, "10.152.152.13")
	if err := other.take(10); err != nil || one.ended != errGreedy || two.ended != nil || three.ended != nil {
		t.Errorf("%v; ended: %v, %v, %v", err, one.ended, two.ended, three.ended)
	}
	if err := one.take(1); err != errGreedy {
		t.Errorf("who has ended takes more: %v", err)
	}
	if err := two.take(41); err != errGreedy || two.ended != errGreedy {
		t.Errorf("more than the share: %v, ended: %v", err, two.ended)
	}
	if err := three.take(51); err != errGreedy || three.ended != errGreedy || other.ended != nil {
		t.Errorf("who holds most takes all: %v; ended: %v, %v", err, three.ended, other.ended)
	}
	one.close()
	other.close()
	if b.inUse() != 0 || len(b.of) != 0 {
		t.Errorf("%d bytes of %d addresses remain", b.inUse(), len(b.of))
	}
}

// TestBudgetBounds: whatever is taken and given back, the bounds hold, the books
// balance, and an address that holds less than any other is never refused.
func TestBudgetBounds(t *testing.T) {
	b := &budget{max: 1000, ofOne: 500}
	rng := rand.New(rand.NewPCG(1, 2))
	addresses := []string{client11, client12, "10.152.152.13", "10.152.152.14"}
	var all []*holder
	for range 20_000 {
		if len(all) < 20 {
			all = append(all, newHolder(b, addresses[rng.IntN(len(addresses))]))
		}
		i := rng.IntN(len(all))
		h, n := all[i], rng.IntN(100)
		if rng.IntN(2) == 0 {
			n = -rng.IntN(h.held + 1)
		}
		least, served := false, h.ended == nil
		for from := range b.of {
			if from != h.from {
				least = true
			}
		}
		for from := range b.of {
			least = least && (from == h.from || b.held(from) > b.held(h.from)+n)
		}
		if err := h.take(n); err != nil && least && served {
			t.Fatalf("refused, with the least: %v", err)
		}
		total := 0
		for from := range b.of {
			total += b.held(from)
			if b.held(from) > b.ofOne {
				t.Fatalf("%v holds %d", from, b.held(from))
			}
		}
		if total != b.inUse() || total > b.max {
			t.Fatalf("%d held, %d booked", total, b.inUse())
		}
		if h.ended != nil || rng.IntN(50) == 0 {
			h.close()
			all = append(all[:i], all[i+1:]...)
		}
	}
}

// TestHeldReplies: an address that asks for long replies at many connections and
// reads none is closed where it takes too much; others get theirs, whole.
func TestHeldReplies(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [version, big]}\n")
	long := "250-big=" + strings.Repeat("x", torctl.MaxReply-100) + "\r\n250 OK\r\n"
	r.tor.AnswerRaw("GETINFO big", long)
	r.start()
	for range 16 {
		c := r.dial(client11)
		_ = c.c.SetReadBuffer(4 << 10)
		c.send("GETINFO big\r\n")
	}
	r.log.wait(t, "disconnected: "+errGreedy.Error())
	honest := r.dial(client12)
	honest.want("GETINFO version", versionReply()...)
	honest.send("GETINFO big\r\n")
	_ = honest.c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(long))
	if n, err := io.ReadFull(honest.r, got); err != nil || string(got) != long {
		t.Errorf("%d of %d bytes: %v", n, len(long), err)
	}
	honest.want("GETINFO version", versionReply()...)
	if n := r.p.budget.inUse(); n > heldMax {
		t.Errorf("%d MiB are held", n>>20)
	}
}

// TestHeldGivenBack: what is held is given back when the client has taken it.
func TestHeldGivenBack(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(anyHost + "  commands: {GETINFO: [version, {pattern: big, response: [{pattern: '250-no', replacement: ''}]}]}\n")
	long := "250-big=" + strings.Repeat("x", torctl.MaxReply-100) + "\r\n250 OK\r\n"
	r.tor.AnswerRaw("GETINFO big", long)
	r.start()
	c := r.dial(client11)
	for range 5 { // more than an address may hold
		c.send("GETINFO big\r\n")
		_ = c.c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.CopyN(io.Discard, c.r, int64(len(long))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all was given back", func() bool { return r.p.budget.inUse() < 64<<10 })
	c.c.Close()
	until(t, "nothing is held for who has left", func() bool { return r.p.budget.inUse() == 0 })
}

// TestPartialLine: a line that is not completed in time closes the connection,
// however the client feeds it; one that waits between lines stays.
func TestPartialLine(t *testing.T) {
	r := newRig(t).scripted()
	r.filter(versionFilter)
	r.start(func(p *proxy) { p.patience = 200 * time.Millisecond })
	idle := r.dial(client12)
	idle.want("GETINFO version", versionReply()...)
	half := r.dial(client11)
	half.send("GETINFO version\r\nGETINFO vers")
	if got, want := half.rest(), strings.Join(versionReply(), "\r\n")+"\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.log.wait(t, "disconnected: "+errPartial.Error())
	drops := r.dial(client11)
	closed := make(chan error, 1)
	go func() {
		_ = drops.c.SetReadDeadline(time.Now().Add(patience))
		_, err := drops.c.Read(make([]byte, 1))
		closed <- err
	}()
	every := time.NewTicker(10 * time.Millisecond)
	defer every.Stop()
	for fed := 0; ; fed++ {
		select {
		case <-every.C:
			_, _ = io.WriteString(drops.c, "x") // closed: that is the point
			continue
		case err := <-closed:
			if err == nil || strings.Contains(err.Error(), "timeout") {
				t.Errorf("fed with %d bytes, it stays: %v", fed, err)
			}
		}
		break
	}
	idle.want("GETINFO version", versionReply()...)
}
