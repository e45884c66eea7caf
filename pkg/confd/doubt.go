// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"

	"mvdan.cc/sh/v3/syntax"
)

// parsedMax bounds what is parsed here. The parser recurses: a megabyte of
// "$(" takes more stack than a Go program may have, which nothing can recover.
// Longer fragments are read by bash only.
const parsedMax = 64 << 10

// doubt finds text that the parser is known to read otherwise than bash does
// (mvdan.cc/sh v3.12.0). Such a fragment is for bash only. The zero Origin
// means that there is none.
func doubt(path string, data []byte, file *syntax.File) (at Origin, what string) {
	at.File = path
	lineOf := func(offset int) int { return 1 + bytes.Count(data[:offset], []byte("\n")) }
	// It drops the carriage return of CR LF, and separates words at others;
	// to bash it is a letter like any other.
	if i := bytes.IndexByte(data, '\r'); i >= 0 {
		at.Line = lineOf(i)
		return at, "a carriage return"
	}
	// It takes $ before a continued line for itself.
	if i := bytes.Index(data, []byte("$\\\n")); i >= 0 {
		at.Line = lineOf(i)
		return at, "a $ at the end of a continued line"
	}
	syntax.Walk(file, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Comment:
			if oddComment(data, n) {
				at.Line, what = int(n.Pos().Line()), "a comment that runs into what is beside it"
			}
		case *syntax.FuncDecl:
			// bash wants a compound command for the body.
			if _, simple := n.Body.Cmd.(*syntax.CallExpr); simple || n.Body.Cmd == nil || nested(n) {
				at.Line, what = int(n.Pos().Line()), "a function without braces"
			}
		}
		return what == ""
	})
	if what == "" {
		return Origin{}, ""
	}
	return at, what
}

func nested(n *syntax.FuncDecl) bool {
	_, is := n.Body.Cmd.(*syntax.FuncDecl)
	return is
}

// oddComment reports comments that bash may not end, or begin, where the
// parser does: it joins the next line to the command before a comment that
// ends in a backslash, and begins one right behind a command substitution.
func oddComment(data []byte, c *syntax.Comment) bool {
	begin := int(c.Hash.Offset())
	if begin >= len(data) || data[begin] != '#' {
		return true
	}
	if begin > 0 && bytes.IndexByte([]byte(" \t\n;&|("), data[begin-1]) < 0 {
		return true
	}
	line, _, _ := bytes.Cut(data[begin:], []byte("\n"))
	if !bytes.HasSuffix(line, []byte(`\`)) {
		return false
	}
	// Nothing is there to be joined if the comment has its line for itself.
	before := data[:begin]
	start := 1 + bytes.LastIndexByte(before, '\n')
	if len(bytes.Trim(before[start:], " \t")) > 0 {
		return true
	}
	above := before[:max(0, start-1)]
	above = bytes.TrimLeft(above[1+bytes.LastIndexByte(above, '\n'):], " \t")
	return bytes.HasSuffix(above, []byte(`\`)) && above[0] != '#'
}
