// SPDX-License-Identifier: GPL-3.0-or-later

package torrc

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// Files is where configuration is read from.
type Files interface {
	// Read returns a file's content.
	Read(path string) ([]byte, error)
	// Match lists what a pattern of path/filepath matches, in order.
	Match(pattern string) ([]string, error)
	// Dir lists a directory's regular files, in order. What is none is not
	// there, or an error that is fs.ErrInvalid.
	Dir(path string) ([]string, error)
}

// Limits of what files may include.
const (
	depthMax = 31 // Tor's own
	filesMax = 1000
	bytesMax = 4 << 20
)

// include is the key of lines that include files.
const include = "%include"

// loader reads a file and what it includes.
type loader struct {
	files Files
	count int
	bytes int
}

// Load reads a file with everything that it includes.
func Load(files Files, path string) ([]Line, error) {
	return (&loader{files: files}).file(path, 0)
}

func (l *loader) file(path string, depth int) ([]Line, error) {
	data, err := l.files.Read(path)
	if err != nil {
		return nil, err
	}
	l.count++
	l.bytes += len(data)
	if l.count > filesMax || l.bytes > bytesMax {
		return nil, errors.New("too much is included")
	}
	lines, err := Parse(path, data)
	if err != nil {
		return nil, err
	}
	return l.expand(lines, depth)
}

// expand puts the lines of included files in their places.
func (l *loader) expand(lines []Line, depth int) ([]Line, error) {
	var out []Line
	for _, line := range lines {
		if line.Key != include || line.Mode != Set {
			out = append(out, line)
			continue
		}
		included, err := l.included(line.Value, depth+1)
		var syntax *SyntaxError
		if errors.As(err, &syntax) {
			return nil, err
		}
		if err != nil {
			return nil, &SyntaxError{line.Origin, fmt.Sprintf("Error reading included configuration file or directory: \"%s\": %v", line.Value, err)}
		}
		out = append(out, included...)
	}
	return out, nil
}

// DepthMax is how deep includes may be nested, as in Tor.
const DepthMax = depthMax

// Included is what an include leads to: a file, or a directory.
type Included struct {
	Path   string
	Folder bool
	Files  []string // what is read, in order
	Hidden []string // files of a directory that are not
}

// Include is what an include names: a file, the files of a directory, or all
// that a pattern matches, which may be nothing.
func Include(files Files, value string) ([]Included, error) {
	if value == "" {
		return nil, errors.New("no file is named")
	}
	paths := []string{value}
	if strings.ContainsAny(value, "*?[") {
		matches, err := files.Match(value)
		if err != nil {
			return nil, err
		}
		paths = visible(value, matches)
	}
	var out []Included
	for _, p := range paths {
		names, err := files.Dir(p)
		switch {
		case errors.Is(err, fs.ErrInvalid):
			out = append(out, Included{Path: p, Files: []string{p}})
			continue
		case err != nil:
			return nil, err
		}
		folder := Included{Path: p, Folder: true}
		for _, name := range names {
			if strings.HasPrefix(filepath.Base(name), ".") {
				folder.Hidden = append(folder.Hidden, name)
			} else {
				folder.Files = append(folder.Files, name)
			}
		}
		out = append(out, folder)
	}
	return out, nil
}

// included reads what an include names.
func (l *loader) included(value string, depth int) ([]Line, error) {
	if depth > depthMax {
		return nil, errors.New("includes are nested too deeply")
	}
	list, err := Include(l.files, value)
	if err != nil {
		return nil, err
	}
	var out []Line
	for _, i := range list {
		for _, name := range i.Files {
			lines, err := l.file(name, depth)
			if err != nil {
				return nil, err
			}
			out = append(out, lines...)
		}
	}
	return out, nil
}

// visible leaves out what has a dot where the pattern has none, as glob(3) does.
func visible(pattern string, paths []string) (out []string) {
	want := strings.Split(filepath.Clean(pattern), "/")
	for _, p := range paths {
		hidden := false
		for i, part := range strings.Split(filepath.Clean(p), "/") {
			if strings.HasPrefix(part, ".") && i < len(want) && !strings.HasPrefix(want[i], ".") {
				hidden = true
			}
		}
		if !hidden {
			out = append(out, p)
		}
	}
	return out
}
