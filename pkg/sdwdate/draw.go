// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"crypto/rand"
	"math/big"
	"time"
)

// draw returns a number from 0 to n-1, each as likely as the others.
type draw func(n int64) int64

// cryptoDraw cannot be foretold.
func cryptoDraw(n int64) int64 {
	v, _ := rand.Int(rand.Reader, big.NewInt(n)) // never fails, see crypto/rand
	return v.Int64()
}

// between is a duration from least to most, to the nanosecond.
func (d draw) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d(int64(most-least)+1))
}

// randomSecond is the deliberate error of RANDOMIZE_TIME: less than a second,
// either way.
func (d draw) randomSecond() time.Duration {
	const below = 999999999
	offset := time.Duration(d(below))
	if d(2) == 0 {
		return -offset
	}
	return offset
}

// production is the list of one cycle: every single source, and of each group
// one member, drawn now (D23). Members in the graveyard are drawn only where all
// of their group are.
func production(pool []source, d draw, dead func(url string) bool) []source {
	var list []source
	var order []int
	groups := map[int][]source{}
	for _, s := range pool {
		if s.Group == 0 {
			list = append(list, s)
			continue
		}
		if groups[s.Group] == nil {
			order = append(order, s.Group)
		}
		groups[s.Group] = append(groups[s.Group], s)
	}
	for _, g := range order {
		members := groups[g]
		if living := without(members, dead); len(living) > 0 {
			members = living
		}
		list = append(list, members[d(int64(len(members)))])
	}
	return list
}

func without(list []source, dead func(string) bool) []source {
	var out []source
	for _, s := range list {
		if !dead(s.URL) {
			out = append(out, s)
		}
	}
	return out
}

// How long servers that did not answer well are avoided: doubled each time.
const (
	graveShortest = 2 * time.Hour
	graveLongest  = 48 * time.Hour
)

// graveyard remembers which servers failed while others did not. It only makes
// them the last choice: whoever can silence servers must not decide which ones
// are asked.
type graveyard map[string]grave

type grave struct {
	Until time.Duration // CLOCK_BOOTTIME
	Span  time.Duration
}

// bury takes what a cycle that found the time has learned.
func (g graveyard) bury(url string, now time.Duration) {
	span := min(max(2*g[url].Span, graveShortest), graveLongest)
	g[url] = grave{now + span, span}
}

// revive forgets a server's failures.
func (g graveyard) revive(url string) { delete(g, url) }

// dead tells which servers to avoid.
func (g graveyard) dead(now time.Duration) func(string) bool {
	return func(url string) bool { return now < g[url].Until }
}

// prune forgets servers that are no longer configured.
func (g graveyard) prune(pools [poolCount][]source) {
	known := map[string]bool{}
	for _, pool := range pools {
		for _, s := range pool {
			known[s.URL] = true
		}
	}
	for url := range g {
		if !known[url] {
			delete(g, url)
		}
	}
}
