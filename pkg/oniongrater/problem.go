// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import "strconv"

// Problem is what is wrong with a filter file, or doubtful.
type Problem struct {
	File    string
	Line    int // 0 if it is about the whole file
	Text    string
	Warning bool // it works as written; otherwise the part that it names is left out
	skipped bool // the file is left out
	syntax  bool
}

// String is one line for the log.
func (p Problem) String() string {
	place := ""
	if p.Line > 0 {
		place = "line " + strconv.Itoa(p.Line) + ": "
	}
	switch {
	case p.syntax:
		return "filter '" + p.File + "' has bad YAML and was not loaded: " + place + p.Text
	case p.skipped:
		return "filter '" + p.File + "' was not loaded: " + place + p.Text
	}
	kind := "error: "
	if p.Warning {
		kind = "warning: "
	}
	if p.Line > 0 {
		place = ":" + strconv.Itoa(p.Line)
	}
	return p.File + place + ": " + kind + p.Text
}
