// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"container/list"
	"encoding/binary"
	"net/netip"
	"strings"
	"sync"
)

// The pool of addresses that stand for names: 198.18.0.0/15 is for benchmarks
// of devices (RFC 2544) and routed nowhere, so nobody means a real machine by
// it. Private networks would hide machines of the user's, and 10.192.0.0/10
// and 127.192.0.0/10 are what Tor itself hands out for names.
const (
	poolFirst = 198<<24 | 18<<16 | 1
	poolSize  = 1<<17 - 2 // without the network's own and the broadcast address
)

// namesMax bounds the table. It is well below the pool's size, so that an
// address is not given to another name until as many others were in between
// as a program will hardly remember.
const namesMax = 1 << 14

// names tells which name an address of the pool stands for. The name least
// recently used is forgotten for a new one.
type names struct {
	max int

	mu     sync.Mutex
	byName map[string]*list.Element
	byAddr map[netip.Addr]*list.Element
	recent *list.List // of standIn, most recently used first
	next   uint32     // offset in the pool
}

// standIn is an address and its name.
type standIn struct {
	addr netip.Addr
	name string
}

func newNames(max int) *names {
	return &names{max: max, byName: map[string]*list.Element{}, byAddr: map[netip.Addr]*list.Element{}, recent: list.New()}
}

// address returns the address that stands for a name, which must be valid.
func (n *names) address(name string) netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if e, ok := n.byName[name]; ok {
		n.recent.MoveToFront(e)
		return e.Value.(standIn).addr
	}
	if n.recent.Len() >= n.max {
		oldest := n.recent.Remove(n.recent.Back()).(standIn)
		delete(n.byName, oldest.name)
		delete(n.byAddr, oldest.addr)
	}
	s := standIn{n.free(), name}
	e := n.recent.PushFront(s)
	n.byName[name], n.byAddr[s.addr] = e, e
	return s.addr
}

// free is the next address, in turn, that stands for nothing.
func (n *names) free() netip.Addr {
	for {
		a := poolAddress(n.next)
		n.next = (n.next + 1) % poolSize
		if _, used := n.byAddr[a]; !used {
			return a
		}
	}
}

func poolAddress(offset uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], poolFirst+offset)
	return netip.AddrFrom4(b)
}

// name returns what an address stands for.
func (n *names) name(addr netip.Addr) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e, ok := n.byAddr[addr]
	if !ok {
		return "", false
	}
	n.recent.MoveToFront(e)
	return e.Value.(standIn).name, true
}

// inPool reports whether an address can only stand for a name.
func inPool(addr netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18}), 15).Contains(addr)
}

// cleanName returns the name of a question as Tor is asked for it: without the
// last dot and in lower case. Not ok are names that no host has, and those of
// a single label: they are of the local network, and a stranger at the other
// end of a circuit is not to learn them.
func cleanName(question string) (name string, ok bool) {
	const nameMax, labelMax = 253, 63
	name = strings.ToLower(strings.TrimSuffix(question, "."))
	if len(name) > nameMax {
		return "", false
	}
	labels := strings.Split(name, ".")
	for _, l := range labels {
		if l == "" || len(l) > labelMax || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, notInLabel) {
			return "", false
		}
	}
	return name, len(labels) > 1
}

func notInLabel(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
}

// isLocalhost reports whether a name means this machine, see RFC 6761.
func isLocalhost(question string) bool {
	name := strings.ToLower(strings.TrimSuffix(question, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
