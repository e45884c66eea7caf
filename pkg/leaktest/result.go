// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Verdicts of a test, the worst last.
const (
	VerdictBlocked    = "blocked"    // the machine let nothing out
	VerdictUnanswered = "unanswered" // it went out, and the target did not answer
	VerdictAnswered   = "answered"   // in a way that Tor can carry
	VerdictLeak       = "leak"       // in a way that Tor cannot carry
)

// Result is what became of a test.
type Result struct {
	Test     string         `json:"test"`
	Target   string         `json:"target"`
	Sent     int            `json:"sent"`
	Refused  int            `json:"refused"`
	Reasons  map[string]int `json:"refused_because,omitempty"`
	Answered int            `json:"answered"`
	Answers  map[string]int `json:"answers,omitempty"`
	Leaks    int            `json:"leaks"`
	Leak     string         `json:"first_leak,omitempty"`
	Seconds  float64        `json:"seconds"`
	Verdict  string         `json:"verdict"`
}

// Report is what became of all tests.
type Report struct {
	Target  string   `json:"target"`
	Tests   []Result `json:"tests"`
	Verdict string   `json:"verdict"` // the worst of all
}

// answer counts what came from the target, or an ICMP error about it.
func (r *Result) answer(f frame, target netip.Addr) {
	switch {
	case f.Src == target:
		r.note(f.protocol() + " by the target")
		r.Answered++
		if !carried(f) {
			r.leak(f.String())
		}
	case (f.icmp4() || f.icmp6()) && unreachable(f):
		r.note(fmt.Sprintf("%s by %v", f.protocol(), f.Src))
	}
}

// carried reports whether Tor can be where the packet came from: the
// TransPort, which speaks for any address, or the DnsPort.
func carried(f frame) bool {
	const dnsPort = 53
	return !f.Fragment && (f.Proto == unix.IPPROTO_TCP || f.Proto == unix.IPPROTO_UDP && f.SrcPort == dnsPort)
}

// unreachable reports an ICMP error.
func unreachable(f frame) bool {
	const unreachable4, exceeded4, firstOther6 = 3, 11, 128
	if f.icmp4() {
		return f.Kind == unreachable4 || f.Kind == exceeded4
	}
	return f.Kind < firstOther6
}

// note counts a kind of answer; there is a limit, as others choose them.
func (r *Result) note(kind string) {
	const kinds = 64
	if r.Answers == nil {
		r.Answers = map[string]int{}
	}
	if _, known := r.Answers[kind]; !known && len(r.Answers) >= kinds {
		kind = "others"
	}
	r.Answers[kind]++
}

func (r *Result) leak(what string) {
	r.Leaks++
	if r.Leak == "" {
		r.Leak = what
	}
}

func (r *Result) judge() {
	switch {
	case r.Leaks > 0:
		r.Verdict = VerdictLeak
	case r.Answered > 0:
		r.Verdict = VerdictAnswered
	case r.Sent > 0:
		r.Verdict = VerdictUnanswered
	default:
		r.Verdict = VerdictBlocked
	}
}

// worse is the worse of two verdicts.
func worse(a, b string) string {
	order := []string{"", VerdictBlocked, VerdictUnanswered, VerdictAnswered, VerdictLeak}
	for i := len(order) - 1; i > 0; i-- {
		if a == order[i] || b == order[i] {
			return order[i]
		}
	}
	return ""
}

// String is the summary of one line.
func (r *Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: sent=%d refused=%d answered=%d leaks=%d target=%s verdict=%s", r.Test, r.Sent, r.Refused, r.Answered, r.Leaks, r.Target, r.Verdict)
	if r.Leak != "" {
		fmt.Fprintf(&b, " first=%q", r.Leak)
	}
	return b.String()
}
