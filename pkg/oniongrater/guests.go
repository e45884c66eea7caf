// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// How many clients are served.
const (
	guestsMax   = 256
	guestsOfOne = 64
)

// guests are the connected clients.
type guests struct {
	mu     sync.Mutex
	closed bool
	count  int
	of     map[netip.Addr][]*net.TCPConn // oldest first
}

// admit takes a client in, if there is room. When all places are taken, an
// address that has several of them gives its newest to one that has fewer: who
// opens many connections keeps nobody else out.
func (g *guests) admit(a netip.Addr, c *net.TCPConn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	own := len(g.of[a])
	if g.closed || own >= guestsOfOne {
		return false
	}
	if g.count >= guestsMax {
		var most netip.Addr
		for other, list := range g.of {
			if len(list) > len(g.of[most]) {
				most = other
			}
		}
		list := g.of[most]
		if len(list) <= own+1 {
			return false
		}
		newest := list[len(list)-1]
		newest.Close() // its session ends, and finds that it was removed
		g.remove(most, newest)
	}
	if g.of == nil {
		g.of = map[netip.Addr][]*net.TCPConn{}
	}
	g.of[a] = append(g.of[a], c)
	g.count++
	return true
}

// leave forgets a client.
func (g *guests) leave(a netip.Addr, c *net.TCPConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(a, c)
}

func (g *guests) remove(a netip.Addr, c *net.TCPConn) {
	i := slices.Index(g.of[a], c)
	if i < 0 {
		return
	}
	g.count--
	if g.of[a] = slices.Delete(g.of[a], i, i+1); len(g.of[a]) == 0 {
		delete(g.of, a)
	}
}

// numbers are how many connections there are, from how many addresses.
func (g *guests) numbers() (connections, addresses int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count, len(g.of)
}

// closeAll ends all connections, and lets nobody in any more.
func (g *guests) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, list := range g.of {
		for _, c := range list {
			c.Close()
		}
	}
}
