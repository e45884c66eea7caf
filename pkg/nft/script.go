// SPDX-License-Identifier: GPL-3.0-or-later

// Package nft holds a ruleset as typed values, prints it in the text form of
// nft(8), and hands it to the kernel in one transaction.
//
// The types cover what the suite's rulesets say and no more: whatever is
// printed was built from values that were parsed before, so no text from a
// configuration file reaches nft(8) unparsed.
package nft

import (
	"strconv"
	"strings"
)

// Table names a table; Family is one of nft(8)'s address families.
type Table struct {
	Family string
	Name   string
}

func (t Table) String() string { return t.Family + " " + t.Name }

// Chain names a chain.
type Chain struct {
	Table Table
	Name  string
}

func (c Chain) String() string { return c.Table.String() + " " + c.Name }

// Base makes a chain a base chain: where the kernel enters it, and what
// becomes of packets that leave it at its end.
type Base struct {
	Type     string // filter or nat
	Hook     string // prerouting, input, forward, output
	Priority int
	Policy   string // accept or drop; empty prints none (the kernel accepts)
}

// Statement is one line of a script: AddTable, DeleteTable, AddChain or Rule.
type Statement interface {
	appendTo(b []byte) []byte
}

// AddTable creates a table unless it exists.
type AddTable struct{ Table Table }

// DeleteTable deletes an existing table with all its chains.
type DeleteTable struct{ Table Table }

// AddChain creates a chain; a nil Base makes it a regular one, which only a
// jump enters.
type AddChain struct {
	Chain Chain
	Base  *Base
}

// Rule is one rule: the verdict holds for packets that every match agrees to.
// A counter is always kept.
type Rule struct {
	Chain   Chain
	Matches []Match
	Verdict Verdict
}

func (s AddTable) appendTo(b []byte) []byte {
	return append(append(b, "add table "...), s.Table.String()...)
}

func (s DeleteTable) appendTo(b []byte) []byte {
	return append(append(b, "delete table "...), s.Table.String()...)
}

func (s AddChain) appendTo(b []byte) []byte {
	b = append(append(b, "add chain "...), s.Chain.String()...)
	if s.Base == nil {
		return b
	}
	b = append(b, " { type "...)
	b = append(b, s.Base.Type...)
	b = append(b, " hook "...)
	b = append(b, s.Base.Hook...)
	b = append(b, " priority "...)
	b = strconv.AppendInt(b, int64(s.Base.Priority), 10)
	b = append(b, ';')
	if s.Base.Policy != "" {
		b = append(b, " policy "...)
		b = append(b, s.Base.Policy...)
		b = append(b, ';')
	}
	return append(b, " }"...)
}

func (s Rule) appendTo(b []byte) []byte {
	b = append(append(b, "add rule "...), s.Chain.String()...)
	for _, m := range s.Matches {
		b = append(append(b, ' '), m.nft()...)
	}
	b = append(b, " counter "...)
	return append(b, s.Verdict.nft()...)
}

// header makes the stored script executable by hand.
const header = "#!/usr/sbin/nft -f\n"

// Script is a list of statements that is loaded as one transaction.
type Script []Statement

// Bytes is the script's text: the header, then one statement per line, words
// joined by single blanks, no quotes.
func (s Script) Bytes() []byte {
	const lineGuess = 80
	b := make([]byte, 0, len(header)+lineGuess*len(s))
	b = append(b, header...)
	for _, st := range s {
		b = append(st.appendTo(b), '\n')
	}
	return b
}

// String is the script's text.
func (s Script) String() string { return string(s.Bytes()) }

// braces prints one word bare and several as an anonymous set.
func braces(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return "{ " + strings.Join(words, ", ") + " }"
}
