// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"path"
	"strconv"
	"strings"

	"whonix-networking/pkg/fsx"
)

// FilterDir is where the filters are that the proxy obeys.
const FilterDir = "/etc/onion-grater.d"

const profileSuffix = ".yml"

// Load reads all filter files below root. A file or a part of it that is bad
// is told to warn and left out: never does one file take the others away
// (defect 17), and never does a bad rule let a later one take its place.
func Load(root fsx.Root, warn func(string)) []*Filter {
	files, err := root.ConfFiles(FilterDir, profileSuffix)
	if err != nil {
		warn(err.Error())
	}
	var filters []*Filter
	known := patterns{}
	for _, file := range files {
		loaded, problems := loadFile(root, file, known)
		for _, p := range problems {
			warn(p.String())
		}
		filters = append(filters, loaded...)
	}
	return filters
}

// LoadFile compiles one file. What is left out is among the problems.
func LoadFile(root fsx.Root, file string) ([]*Filter, []Problem) {
	return loadFile(root, file, patterns{})
}

func loadFile(root fsx.Root, file string, known patterns) ([]*Filter, []Problem) {
	data, err := root.ReadFile(file, fileMax)
	if err != nil {
		return nil, []Problem{unreadable(file, err)}
	}
	filters, problems, _ := compile(file, data, known)
	return filters, problems
}

// Check compiles one file and tells all that is wrong with it.
func Check(root fsx.Root, file string) []Problem {
	_, problems := LoadFile(root, file)
	return problems
}

// Broken tells whether a file has problems for which some of it is left out.
func Broken(problems []Problem) bool {
	for _, p := range problems {
		if !p.Warning {
			return true
		}
	}
	return false
}

func unreadable(file string, err error) Problem {
	var inner interface{ Unwrap() error }
	if errors.As(err, &inner) {
		err = inner.Unwrap() // the path is said already
	}
	return Problem{File: file, Text: err.Error(), skipped: true}
}

// compile makes filters of a file's text. The document is for the merger.
func compile(file string, data []byte, known patterns) ([]*Filter, []Problem, *value) {
	c := &compiler{file: file, known: known}
	document, err := parseYAML(file, data, func(line int, text string) {
		c.problems = append(c.problems, Problem{File: file, Line: line, Text: text, Warning: true})
	})
	var filters []*Filter
	if err == nil {
		filters, err = c.filters(document)
	}
	if err != nil {
		p := Problem{File: file, Text: err.Error(), skipped: true}
		var bad *badYAML
		if errors.As(err, &bad) {
			p.Line, p.Text, p.syntax = bad.line, bad.reason, bad.syntax
		}
		return nil, append(c.problems, p), nil
	}
	return filters, c.problems, document
}

// filters compiles the list at the top of a file.
func (c *compiler) filters(document *value) ([]*Filter, error) {
	if document.kind != list {
		return nil, &badYAML{line: document.line, reason: "the file has to be a list of filters, not " + document.kind.String() + "; begin the filter with `- `"}
	}
	base := strings.TrimSuffix(path.Base(c.file), profileSuffix)
	var filters []*Filter
	for i, v := range document.items {
		if v.kind != mapping {
			return nil, &badYAML{line: v.line, reason: "a filter has to be a mapping, not " + v.kind.String()}
		}
		name := base
		if len(document.items) > 1 {
			name = base + "/" + strconv.Itoa(i+1)
			if n := v.get("name"); n != nil && n.kind == str && printable(n.text) {
				name = base + "/" + n.text
			}
		}
		f, err := c.filter(v, name)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	return filters, nil
}

func printable(text string) bool {
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return text != ""
}
