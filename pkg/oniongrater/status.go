// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// What is remembered of refused lines.
const (
	lastRefused   = 10
	countedNames  = 64
	rememberBytes = 200
)

// counters count refusals for the status.
type counters struct {
	mu     sync.Mutex
	total  int
	byName map[string]int
	last   []string
}

// refused counts a line, which has no secrets any more, by its command.
func (c *counters) refused(name, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total++
	if !commandName(name) {
		name = "malformed"
	}
	if c.byName == nil {
		c.byName = map[string]int{}
	}
	if _, ok := c.byName[name]; !ok && len(c.byName) >= countedNames {
		name = "other"
	}
	c.byName[name]++
	if len(c.last) >= lastRefused {
		c.last = slices.Delete(c.last, 0, 1)
	}
	c.last = append(c.last, escaped(strings.Clone(line[:min(len(line), rememberBytes)])))
}

// status is what SIGUSR1 has written.
func (c *counters) status(connections, addresses int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out strings.Builder
	fmt.Fprintf(&out, "status: %d connections from %d addresses, %d lines refused", connections, addresses, c.total)
	for _, name := range sortedKeys(c.byName) {
		fmt.Fprintf(&out, "\n    %s: %d", name, c.byName[name])
	}
	if len(c.last) > 0 {
		out.WriteString("\nlast refused:")
	}
	for _, line := range c.last {
		out.WriteString("\n    " + line)
	}
	return out.String()
}
