// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"whonix-networking/pkg/torrc"
)

// listing is a walk through Tor's configuration, in Tor's order. What Tor would
// stop at is shown, and the walk goes on, but where files include themselves.
type listing struct {
	files   torrcFiles
	text    strings.Builder
	used    []string     // the files, in order
	lines   []torrc.Line // what they say
	sources []int        // where the lines of each first file begin
	missing []string     // what could not be read
	reads   int
	bytes   int
	stopped bool // there is no end to what is included
}

// Limits that end a walk through files that include each other.
const (
	readsMax = 1000
	bytesMax = 16 << 20
)

// walk lists a file with all that it includes. Comments are shown too if all
// is asked for.
func (l *listing) walk(path string, all bool, depth int) {
	l.reads++
	if l.reads > readsMax || l.bytes > bytesMax {
		l.stop("too much is included", path)
		return
	}
	data, err := l.files.Read(path)
	if err != nil {
		l.invalid(path)
		return
	}
	l.bytes += len(data)
	if !slices.Contains(l.used, path) {
		l.used = append(l.used, path)
	}
	fmt.Fprintf(&l.text, "===> Start parsing file %s\n", path)
	lines, err := torrc.Parse(path, data)
	var syntax *torrc.SyntaxError
	if errors.As(err, &syntax) {
		fmt.Fprintf(&l.text, "ERROR: %v\n", syntax)
	}
	includes := map[int]string{}
	for _, line := range lines {
		if line.Key == "%include" && line.Mode == torrc.Set {
			includes[line.Origin.Line] = line.Value
		}
	}
	l.raw(string(data), lines, includes, all, depth)
	fmt.Fprintf(&l.text, "===> Done parsing file %s\n", path)
}

// raw shows the lines of a file, and after those that include what they do.
func (l *listing) raw(text string, lines []torrc.Line, includes map[int]string, all bool, depth int) {
	number, next := 0, 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		if all || trimmed != "" && !strings.HasPrefix(trimmed, "#") {
			l.text.WriteString(strings.ToValidUTF8(strings.Map(printable, line), "?") + "\n")
		}
		for next < len(lines) && lines[next].Origin.Line <= number {
			if _, ok := includes[lines[next].Origin.Line]; !ok {
				l.lines = append(l.lines, lines[next])
			}
			next++
		}
		if value, ok := includes[number]; ok {
			l.include(value, all, depth+1)
		}
		if l.stopped {
			return
		}
	}
}

// printable takes away what a terminal would obey.
func printable(r rune) rune {
	const del = 0x7f
	if r < ' ' && r != '\t' || r == del {
		return '?'
	}
	return r
}

func (l *listing) invalid(path string) {
	if !slices.Contains(l.missing, path) {
		l.missing = append(l.missing, path)
	}
	fmt.Fprintf(&l.text, "ERROR: invalid file system object (fso) (abs_path): '%s'\n", strings.Map(printable, path))
}

// stop ends the walk, as Tor would.
func (l *listing) stop(why, where string) {
	if !l.stopped {
		fmt.Fprintf(&l.text, "ERROR: %s: '%s'\n", why, strings.Map(printable, where))
	}
	l.stopped = true
}

func (l *listing) include(value string, all bool, depth int) {
	if depth > torrc.DepthMax {
		l.stop("includes are nested too deeply", value)
		return
	}
	list, err := torrc.Include(l.files, value)
	if err != nil {
		l.invalid(value)
		return
	}
	for _, i := range list {
		if l.stopped {
			return
		}
		if !i.Folder {
			l.walk(i.Path, all, depth)
			continue
		}
		fmt.Fprintf(&l.text, "===> Start parsing folder: %s\n", i.Path)
		for _, hidden := range i.Hidden {
			fmt.Fprintf(&l.text, "===> Ignoring file name starting with '.': %s\n", hidden)
		}
		for _, folder := range l.files.folders(i.Path) {
			fmt.Fprintf(&l.text, "===> Ignoring subfolder: %s\n", folder)
		}
		for _, file := range i.Files {
			if !l.stopped {
				l.walk(file, all, depth)
			}
		}
		fmt.Fprintf(&l.text, "===> Done parsing folder : %s\n", i.Path)
	}
}

// named finds the lines that begin with an option, in any case, as
// PATH:LINE:TEXT.
func (l *listing) named(option string) []string {
	var out []string
	for _, path := range l.used {
		data, err := l.files.Read(path)
		if err != nil {
			continue
		}
		number := 0
		for line := range strings.Lines(string(data)) {
			number++
			line = strings.TrimRight(line, "\r\n")
			start := strings.TrimLeft(line, " \t")
			if len(start) >= len(option) && strings.EqualFold(start[:len(option)], option) {
				out = append(out, fmt.Sprintf("%s:%d:%s", path, number, strings.Map(printable, line)))
			}
		}
	}
	return out
}
