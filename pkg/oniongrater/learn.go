// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
)

// What a profile may grow to while it is learned, and how often it is written.
const (
	learnMax   = 500
	learnEvery = time.Second
)

const learnedHeader = `# What was refused, and would be allowed by this profile. It was made of what a
# program asked for, perhaps one that means no good: read every line, remove
# what the program can do without, then put it where profiles are.
`

// learner collects what refused commands would need, and writes it as a profile.
// Nothing is allowed by that.
type learner struct {
	root fsx.Root
	path string // nothing is learned if empty
	log  *journal

	mu       sync.Mutex
	commands map[string][]suggestion
	events   []string
	count    int
	dirty    bool
	full     bool
}

// refused notes a command.
func (l *learner) refused(c torctl.Command, values Values) {
	if l.path == "" || suggest(c, values) == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	name := upperASCII(c.Name)
	if name == "SETEVENTS" {
		for e := range strings.FieldsSeq(c.Arguments) {
			if !slices.Contains(l.events, e) && l.room() {
				l.events = append(l.events, e)
			}
		}
		return
	}
	r := suggestRule(name, c.Arguments, values)
	if l.commands == nil {
		l.commands = map[string][]suggestion{}
	}
	if !slices.Contains(l.commands[name], r) && l.room() {
		l.commands[name] = append(l.commands[name], r)
	}
}

// room tells whether one more rule fits; mu is held.
func (l *learner) room() bool {
	if l.count >= learnMax {
		if !l.full {
			l.full = true
			l.log.printf("%s is full: nothing more is learned", l.path)
		}
		return false
	}
	l.count++
	l.dirty = true
	return true
}

// text is the profile.
func (l *learner) text() string {
	var out strings.Builder
	out.WriteString(learnedHeader + "---\n- hosts: ['*']\n")
	if len(l.commands) > 0 {
		out.WriteString("  commands:\n")
	}
	for _, name := range sortedKeys(l.commands) {
		out.WriteString("    " + name + ":\n")
		for _, r := range l.commands[name] {
			out.WriteString("    - pattern: " + yamlQuote(r.pattern) + "\n")
			if r.replacement != "" {
				out.WriteString("      replacement: " + yamlQuote(r.replacement) + "\n")
			}
		}
	}
	if len(l.events) > 0 {
		out.WriteString("  events:\n")
	}
	for _, e := range slices.Sorted(slices.Values(l.events)) {
		out.WriteString("    " + e + ": null\n")
	}
	return out.String()
}

// write writes the profile if there is something new.
func (l *learner) write() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dirty {
		return nil
	}
	const mode = 0o600
	err := l.root.WriteAtomic(l.path, []byte(l.text()), mode)
	l.dirty = err != nil
	return err
}

// run writes from time to time, and once more at the end.
func (l *learner) run(ctx context.Context) {
	if l.path == "" {
		return
	}
	tick := time.NewTicker(learnEvery)
	defer tick.Stop()
	failing := false
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		if err := l.write(); err != nil && !failing {
			l.log.print("the learned profile cannot be written: " + escaped(err.Error()))
			failing = true
		} else if err == nil {
			failing = false
		}
	}
}
