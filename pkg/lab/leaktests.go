// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

const leaktestPath = "/usr/bin/leaktest"

// leakLimit is how long one leak test may take.
const leakLimit = 10 // seconds

// leakTests runs the program leaktest in the Workstation, in both families;
// options are for it.
func leakTests(options ...string) []attempt {
	var list []attempt
	for _, family := range [][]string{nil, {"--ipv6"}} {
		argv := append(append([]string{leaktestPath, "--json"}, options...), family...)
		list = append(list, attempt{
			strings.TrimSpace("leaktest "+strings.Join(argv[2:], " ")) + ", by root",
			fmt.Sprintf("no leak, each test within %d s, nothing on the Internet side", leakLimit),
			func(ctx context.Context, l *Lab) (string, bool) { return l.leaktest(ctx, argv) },
		})
	}
	return list
}

// leakReport is what leaktest says in JSON.
type leakReport struct {
	Verdict string
	Tests   []struct {
		Test, Verdict string
		Sent, Refused int
		Seconds       float64
		Leak          string `json:"first_leak"`
	}
}

func (l *Lab) leaktest(ctx context.Context, argv []string) (string, bool) {
	from := l.internet.Count()
	l.flood.Store(true)
	defer l.flood.Store(false)
	said, status, err := l.workstation.run(ctx, strings.NewReader(""), argv...)
	if err != nil || status != 0 {
		return fmt.Sprintf("exit status %d, %v: %s", status, err, said), false
	}
	if err := l.settle(ctx); err != nil {
		return err.Error(), false
	}
	var r leakReport
	if err := json.Unmarshal([]byte(said), &r); err != nil {
		return fmt.Sprintf("%v: %s", err, said), false
	}
	sent, refused, slowest := 0, 0, 0.0
	for _, t := range r.Tests {
		if t.Verdict == "leak" {
			return t.Test + ": " + t.Leak, false
		}
		sent, refused, slowest = sent+t.Sent, refused+t.Refused, max(slowest, t.Seconds)
	}
	seen := fmt.Sprintf("%s; %d tests, %d packets sent, %d refused, the slowest took %.1f s", r.Verdict, len(r.Tests), sent, refused, slowest)
	if n := l.internet.Count() - from; n > 0 {
		return fmt.Sprintf("%d packets on the Internet side; %s", n, seen), false
	}
	return seen, len(r.Tests) > 0 && r.Verdict != "leak" && slowest < leakLimit
}
