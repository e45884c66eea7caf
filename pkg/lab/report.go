// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Verdicts of an attempt.
const (
	Pass = "PASS"
	Fail = "FAIL"
)

// Result is one attempt and what came of it.
type Result struct {
	Group    string `json:"group"`
	Tried    string `json:"tried"`
	Expected string `json:"expected"`
	Seen     string `json:"seen"`
	Verdict  string `json:"verdict"`
}

// Leak is a packet on the Internet side that should not have been there.
type Leak struct {
	During string `json:"during"` // the attempt at that time
	Packet string `json:"packet"`
	Count  int    `json:"count"`
}

// Report is the outcome of a run.
type Report struct {
	Tor     string   `json:"tor"`
	Sent    int64    `json:"workstation_packets"` // how many packets the Workstation sent, of all kinds
	Carried int64    `json:"tor_packets"`         // how many the Gateway's Tor sent to the Internet
	Results []Result `json:"results"`
	Leaks   []Leak   `json:"leaks"`
	Passed  bool     `json:"passed"`
}

// judge sets Passed: every attempt as expected, and no leak.
func (r *Report) judge() {
	r.Passed = len(r.Results) > 0 && len(r.Leaks) == 0
	for _, res := range r.Results {
		r.Passed = r.Passed && res.Verdict == Pass
	}
}

// printer writes the table as it grows.
type printer struct {
	w     io.Writer
	group string
}

const triedWidth = 58

func (p *printer) result(r Result) {
	if r.Group != p.group {
		p.group = r.Group
		fmt.Fprintf(p.w, "\n%s\n", r.Group)
	}
	fmt.Fprintf(p.w, "  %s  %-*s  %s\n", r.Verdict, triedWidth, r.Tried, r.Seen)
	if r.Verdict != Pass {
		fmt.Fprintf(p.w, "        expected: %s\n", r.Expected)
	}
}

// summary ends the table.
func (p *printer) summary(r *Report) {
	failed := 0
	for _, res := range r.Results {
		if res.Verdict != Pass {
			failed++
		}
	}
	fmt.Fprintln(p.w)
	for _, l := range r.Leaks {
		fmt.Fprintf(p.w, "LEAK  %s\n      seen on the Internet side %s, during: %s\n", l.Packet, times(l.Count), l.During)
	}
	fmt.Fprintf(p.w, "%d tried, %d as expected, %d not; %d kinds of packets leaked.\n", len(r.Results), len(r.Results)-failed, failed, len(r.Leaks))
	others := 0
	for _, l := range r.Leaks {
		others += l.Count
	}
	fmt.Fprintf(p.w, "The Workstation sent %d packets, the Gateway's Tor (%s) sent %d to the Internet; packets outside Tor: %d.\n", r.Sent, r.Tor, r.Carried, others)
	if r.Passed {
		fmt.Fprintln(p.w, "Nothing of the Workstation appeared on the Internet but through Tor.")
	} else {
		fmt.Fprintln(p.w, strings.Repeat("!", 20)+" THIS NETWORK LEAKS OR DOES NOT WORK "+strings.Repeat("!", 20))
	}
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (r *Report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
