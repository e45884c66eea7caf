// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// How a pool is asked: by two requests at once, so that one dead server costs
// nothing, and by one more whenever nothing good has come for a while.
const (
	atOnce     = 2
	atMost     = 4 // under way in one pool
	hedgeAfter = 20 * time.Second
	blamed     = 3 // failures, timeouts all, for which the network is to blame
	hopeless   = 6 // such failures end the cycle, however many are allowed
)

// Statuses of answers, as in the original's lists.
const (
	statusOK      = "ok"
	statusDone    = "done" // answered, but refused
	statusError   = "error"
	statusTimeout = "timeout"
)

// order is a request that a cycle wants made.
type order struct {
	ID     int
	Pool   int
	Source source
	Begun  time.Duration // on CLOCK_BOOTTIME
}

// settled is an order with what became of it.
type settled struct {
	order
	Status      string
	Measurement measurement // of an answer that is ok
}

// cycle finds one valid answer for each pool. It does nothing itself: it is told
// what happened, and returns what to do next.
type cycle struct {
	pools   [poolCount]poolState
	allowed int
	orders  []order
	settled []settled
	failed  int
	rounds  int
	failure string // why the cycle has failed; HTML
	draw    draw
	dead    func(string) bool
	log     func(level, string)
}

type poolState struct {
	sources []source
	picked  []int
	running int
	hedge   time.Duration // when one more request is due
	valid   *settled
}

// newCycle draws the members of groups, once.
func newCycle(pools [poolCount][]source, ratio float64, d draw, dead func(string) bool, log func(level, string)) *cycle {
	c := &cycle{draw: d, dead: dead, log: log}
	total := 0
	for i := range c.pools {
		c.pools[i].sources = production(pools[i], d, dead)
		total += len(c.pools[i].sources)
	}
	c.allowed = int(math.Trunc(float64(total) * ratio / poolCount))
	return c
}

// begin returns the first orders.
func (c *cycle) begin(now time.Duration) []order {
	sources := 0
	for i := range c.pools {
		sources += len(c.pools[i].sources)
	}
	if sources == 0 {
		c.fail(text()[msgNoList] + text()[msgRestart])
	}
	return c.more(now, func(p *poolState) int { return atOnce - p.running })
}

// settle takes what became of an order.
func (c *cycle) settle(s settled, now time.Duration) []order {
	if c.over() {
		return nil
	}
	p := &c.pools[s.Pool]
	p.running--
	c.settled = append(c.settled, s)
	if s.Status == statusOK {
		if p.valid == nil {
			p.valid = &s
		}
		return nil
	}
	if p.valid != nil {
		return nil // nobody needs it any more
	}
	c.failed++
	c.log(levelInfo, fmt.Sprintf("failed_urls: %d allowed_failures: %d", c.failed, c.allowed))
	switch {
	case c.all(statusTimeout) && (c.failed >= hopeless || c.failed >= blamed && c.failed > c.allowed):
		c.fail(text()[msgTimeout])
	case c.failed > c.allowed:
		c.fail(msgGivingUp)
	default:
		return c.more(now, func(q *poolState) int {
			if q != p {
				return 0
			}
			return 1
		})
	}
	return nil
}

// wake returns the orders that are due because nothing good has come.
func (c *cycle) wake(now time.Duration) []order {
	return c.more(now, func(p *poolState) int {
		if now < p.hedge || p.running >= atMost {
			return 0
		}
		return 1
	})
}

// next is when to call wake, unless something happens before.
func (c *cycle) next() (at time.Duration, ok bool) {
	for i := range c.pools {
		p := &c.pools[i]
		if p.valid == nil && p.running < atMost && len(p.picked) < len(p.sources) && (!ok || p.hedge < at) {
			at, ok = p.hedge, true
		}
	}
	return at, ok
}

// over reports whether nothing more is to be done.
func (c *cycle) over() bool {
	if c.failure != "" {
		return true
	}
	for i := range c.pools {
		if c.pools[i].valid == nil {
			return false
		}
	}
	return true
}

// answers are the valid ones, one of each pool.
func (c *cycle) answers() []settled {
	var out []settled
	for i := range c.pools {
		if v := c.pools[i].valid; v != nil {
			out = append(out, *v)
		}
	}
	return out
}

func (c *cycle) all(status string) bool {
	return !slices.ContainsFunc(c.settled, func(s settled) bool { return s.Status != status })
}

func (c *cycle) fail(html string) {
	if c.failure == "" {
		c.failure = html
		c.log(levelError, html)
	}
}

// more draws sources for the pools without a valid answer, as many as want says.
// A pool that has none left, and from which nothing can come any more, ends the
// cycle.
func (c *cycle) more(now time.Duration, want func(*poolState) int) []order {
	if c.over() {
		return nil
	}
	var out []order
	for i := range c.pools {
		p := &c.pools[i]
		if p.valid != nil {
			continue
		}
		for range want(p) {
			s, ok := c.pick(i, len(out) == 0)
			if !ok {
				break
			}
			p.running++
			p.hedge = now + hedgeAfter
			o := order{ID: len(c.orders), Pool: i, Source: s, Begun: now}
			c.orders = append(c.orders, o)
			out = append(out, o)
		}
		if p.running == 0 {
			c.fail(fmt.Sprintf("pool %d: %s%s", i, text()[msgNoValidTime], text()[msgRestart]))
			return nil
		}
	}
	if len(out) > 0 {
		urls := make([]string, len(out))
		for i, o := range out {
			urls[i] = o.Source.URL
		}
		c.log(levelInfo, "requested urls "+pythonList(urls))
	}
	return out
}

// pick draws a source that was not drawn in this cycle, a living one if there
// is one.
func (c *cycle) pick(pool int, first bool) (source, bool) {
	p := &c.pools[pool]
	var left, living []int
	for i, s := range p.sources {
		if !slices.Contains(p.picked, i) {
			left = append(left, i)
			if !c.dead(s.URL) {
				living = append(living, i)
			}
		}
	}
	if len(living) > 0 {
		left = living
	}
	if len(left) == 0 {
		return source{}, false
	}
	if first {
		c.rounds++
		c.log(levelInfo, fmt.Sprintf("Running sdwdate fetch loop. iteration: %d", c.rounds))
	}
	i := left[c.draw(int64(len(left)))]
	p.picked = append(p.picked, i)
	c.log(levelInfo, fmt.Sprintf("pool %d: pool_size: %d url_index: %d already_picked_number: %d already_picked_index: %s",
		pool, len(p.sources), i, len(p.picked), pythonInts(p.picked)))
	return p.sources[i], true
}
