// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"

	"whonix-networking/pkg/cli"
)

// told is what url-to-unixtime --each prints of one URL, in a line: what it would
// have printed of that URL alone, and how it would have ended.
type told struct {
	N      int    `json:"n"` // which URL, from 0
	Exit   int    `json:"exit"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// each asks all servers at once, and tells of each as soon as it is known.
func (a fetchArgs) each(ctx context.Context, env cli.Env) error {
	var (
		all  sync.WaitGroup
		turn sync.Mutex
		bad  error
	)
	out := json.NewEncoder(env.Stdout)
	for n, t := range a.targets {
		all.Add(1)
		go func() {
			defer all.Done()
			var stdout, stderr bytes.Buffer
			own := env
			own.Stdout, own.Stderr = &stdout, &stderr
			code := cli.Code(a.one(ctx, own, t))
			turn.Lock()
			defer turn.Unlock()
			if err := out.Encode(told{N: n, Exit: code, Stdout: stdout.String(), Stderr: stderr.String()}); err != nil {
				bad = err
			}
		}()
	}
	all.Wait()
	return bad
}

// toldMax bounds a line of a child: what it may print of one server, each byte
// of which can be six in JSON.
const toldMax = 6*(stdoutMax+stderrMax) + 256

// listener takes what a child tells of its orders. What is too long, or of no
// order, or comes twice, does not count.
type listener struct {
	orders  []order
	deliver func(outcome)
	partial []byte
	heard   map[int]bool
	deaf    bool // after a line that is none: whatever comes then is no better
}

func newListener(orders []order, deliver func(outcome)) *listener {
	return &listener{orders: orders, deliver: deliver, heard: map[int]bool{}}
}

// Write takes a part of the child's output, and never fails: a child that
// prints nonsense is not to be stopped by a full pipe.
func (l *listener) Write(p []byte) (int, error) {
	size := len(p)
	for !l.deaf && len(p) > 0 {
		line, rest, complete := bytes.Cut(p, []byte("\n"))
		if len(l.partial)+len(line) > toldMax {
			l.deaf = true
			break
		}
		l.partial, p = append(l.partial, line...), rest
		if complete {
			l.line(l.partial)
			l.partial = l.partial[:0]
		}
	}
	return size, nil
}

func (l *listener) line(text []byte) {
	const exitMax = 255
	var t told
	if json.Unmarshal(text, &t) != nil || t.N < 0 || t.N >= len(l.orders) || t.Exit < 0 || t.Exit > exitMax {
		l.deaf = true
		return
	}
	if l.heard[t.N] {
		return
	}
	l.heard[t.N] = true
	cut := func(s string, most int) []byte { return []byte(s[:min(len(s), most)]) }
	l.deliver(outcome{ID: l.orders[t.N].ID, Exit: t.Exit, Stdout: cut(t.Stdout, stdoutMax), Stderr: cut(t.Stderr, stderrMax)})
}

// rest delivers the same of every order that was not told of.
func (l *listener) rest(out outcome) {
	for n, o := range l.orders {
		if !l.heard[n] {
			out.ID = o.ID
			l.deliver(out)
		}
	}
}
