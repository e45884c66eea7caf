// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"net/netip"
	"sync"

	"whonix-networking/pkg/torctl"
)

// How much of what Tor says may be held for clients that have not taken it yet:
// in all, and for one address. A reply of the greatest length has room beside the
// buffers of other sessions: as it is read, rewritten, and taken by the client. 256
// of them have not.
const (
	heldOfOne = 3*torctl.MaxReply + 4<<20
	heldMax   = 2 * heldOfOne
)

var errGreedy = errors.New("too much of tor's replies waits for this address")

// budget bounds what all sessions hold together. The one that pays is who holds
// most: an address that asks for long replies at many connections and takes none
// makes nobody else wait.
type budget struct {
	max, ofOne int

	mu    sync.Mutex
	total int
	of    map[netip.Addr]*account
}

// account is what one address holds.
type account struct {
	held     int
	sessions map[*holding]struct{}
}

// holding is what one session holds.
type holding struct {
	budget *budget
	from   netip.Addr
	end    func(error) // ends the session
	held   int
	closed bool
}

func (b *budget) open(from netip.Addr, end func(error)) *holding {
	return &holding{budget: b, from: from, end: end}
}

// take asks for n bytes more, or gives some back if n is negative. When there is
// no room, this session ends or, if another address holds more, the one of its
// sessions that holds most.
func (h *holding) take(n int) error {
	victims, err := h.budget.take(h, n)
	for _, v := range victims {
		v.end(errGreedy)
	}
	return err
}

func (b *budget) take(h *holding, n int) (victims []*holding, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h.closed {
		if n < 0 {
			return nil, nil
		}
		return nil, errGreedy
	}
	if n > 0 && b.held(h.from)+n > b.ofOne {
		b.drop(h)
		return []*holding{h}, errGreedy
	}
	for n > 0 && b.total+n > b.max {
		most := b.greediest()
		if most == nil || most.from == h.from || b.held(most.from) <= b.held(h.from)+n {
			b.drop(h)
			return append(victims, h), errGreedy
		}
		b.drop(most)
		victims = append(victims, most)
	}
	b.add(h, n)
	return victims, nil
}

func (b *budget) held(from netip.Addr) int {
	if a := b.of[from]; a != nil {
		return a.held
	}
	return 0
}

// greediest is the session that holds most of the address that does.
func (b *budget) greediest() (most *holding) {
	var richest *account
	for _, a := range b.of {
		if richest == nil || a.held > richest.held {
			richest = a
		}
	}
	if richest == nil {
		return nil
	}
	for h := range richest.sessions {
		if most == nil || h.held > most.held {
			most = h
		}
	}
	return most
}

// add books bytes to a session.
func (b *budget) add(h *holding, n int) {
	a := b.of[h.from]
	if a == nil {
		a = &account{sessions: map[*holding]struct{}{}}
		if b.of == nil {
			b.of = map[netip.Addr]*account{}
		}
		b.of[h.from] = a
	}
	h.held += n
	a.held += n
	b.total += n
	if h.held > 0 {
		a.sessions[h] = struct{}{}
	} else {
		delete(a.sessions, h)
	}
	if len(a.sessions) == 0 {
		delete(b.of, h.from)
	}
}

// drop takes a session's bytes off the books; it takes no more.
func (b *budget) drop(h *holding) {
	b.add(h, -h.held)
	h.closed = true
}

// close ends the booking of a session that is over.
func (h *holding) close() {
	h.budget.mu.Lock()
	defer h.budget.mu.Unlock()
	h.budget.drop(h)
}

// inUse is how much is held.
func (b *budget) inUse() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}
