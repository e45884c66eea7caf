// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"whonix-networking/pkg/torctl"
)

// How much of what Tor does for all an address may have done, where its filter says
// nothing else. Tor itself takes one NEWNYM in ten seconds.
const (
	onionServicesMax = 64
	newnymsMax       = 10 // in a minute
	newnymTime       = time.Minute
)

// limit is a number that a filter may set.
type limit struct {
	set bool
	n   int
}

func (l limit) or(usual int) int {
	if l.set {
		return l.n
	}
	return usual
}

// and is the lower one of those that are set.
func (l limit) and(other limit) limit {
	if !l.set || other.set && other.n < l.n {
		return other
	}
	return l
}

// caps count what addresses have Tor do. A new connection of an address does not
// begin anew, and a service that outlives its connection counts on.
type caps struct {
	mu       sync.Mutex
	of       map[netip.Addr]*usage
	detached map[string]netip.Addr // onion services, and who made them
	tor      string                // which Tor has these
}

// usage is what one address has had done.
type usage struct {
	services int
	newnyms  []time.Time // within newnymTime
}

// use is the usage of an address; those without any are forgotten.
func (c *caps) use(a netip.Addr, now time.Time) *usage {
	for other, u := range c.of {
		u.newnyms = slices.DeleteFunc(u.newnyms, func(t time.Time) bool { return now.Sub(t) >= newnymTime })
		if u.services == 0 && len(u.newnyms) == 0 {
			delete(c.of, other)
		}
	}
	if c.of == nil {
		c.of, c.detached = map[netip.Addr]*usage{}, map[string]netip.Addr{}
	}
	if c.of[a] == nil {
		c.of[a] = &usage{}
	}
	return c.of[a]
}

// reserve takes one onion service of an address's share, before Tor is asked for
// it: connections that ask at once do not get more than one that asks often.
func (c *caps) reserve(a netip.Addr, now time.Time, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.use(a, now)
	if u.services >= most {
		return false
	}
	u.services++
	return true
}

// free gives onion services back.
func (c *caps) free(a netip.Addr, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.release(a, count)
}

func (c *caps) release(a netip.Addr, count int) {
	if u := c.of[a]; u != nil {
		u.services = max(u.services-count, 0)
	}
}

// newnym tells whether an address may have another NEWNYM.
func (c *caps) newnym(a netip.Addr, now time.Time, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.use(a, now)
	if len(u.newnyms) >= most {
		return false
	}
	u.newnyms = append(u.newnyms, now)
	return true
}

// detach keeps a reserved service that outlives its connection.
func (c *caps) detach(a netip.Addr, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.detached[id]; known {
		c.release(a, 1)
		return
	}
	c.detached[id] = a
}

// deleted gives back a service that outlived its connection, whoever deleted it.
func (c *caps) deleted(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.detached[id]; ok {
		delete(c.detached, id)
		c.release(a, 1)
	}
}

// torIs names the Tor that is connected to: another one has none of the services.
func (c *caps) torIs(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tor == name {
		return
	}
	c.tor = name
	for id, a := range c.detached {
		delete(c.detached, id)
		c.release(a, 1)
	}
}

// torName is what differs from one start of Tor to the next: its cookie is made
// anew each time.
func (p *proxy) torName() string {
	fi, err := os.Stat(p.root.Path(p.o.cookie))
	if err != nil {
		return ""
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d %d %d", st.Dev, st.Ino, fi.ModTime().UnixNano(), st.Ctim.Nano())
}

// overCap is the check of what an address has Tor do; it names what is too much.
func (s *session) overCap(name, line string) string {
	if s.p.o.complain {
		return ""
	}
	switch now := s.p.env.Now(); name {
	case "ADD_ONION":
		if most := s.filter.OnionServices.or(onionServicesMax); !s.p.caps.reserve(s.from, now, most) {
			return fmt.Sprintf("this address has %d onion services and may have no more (onion-services)", most)
		}
	case "SIGNAL":
		c, _ := torctl.Split([]byte(line))
		if most := s.filter.NewNyms.or(newnymsMax); strings.EqualFold(strings.TrimSpace(c.Arguments), "NEWNYM") && !s.p.caps.newnym(s.from, now, most) {
			return fmt.Sprintf("this address had %d NEWNYM in a minute and may have no more (newnym-per-minute)", most)
		}
	}
	return ""
}
