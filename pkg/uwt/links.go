// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"os"
	"path/filepath"
	"strings"
)

// step is one way from a wrapped name to the program.
type step struct {
	next string // the wrapper that comes next; empty at the end
	real string // at the end, the program if it is not NEXT.anondist-orig
}

// follow looks at the links of a wrapped program. A link's text counts from
// the directory the link is in (U4). What it leads to is another wrapper, or
// the program itself, which runs isolated like any other (U3).
func follow(parent string) step {
	if target, ok := linkTarget(parent); ok && !exists(parent+wrapperSuffix) {
		if wrapped(target) {
			return step{next: target}
		}
		return step{real: target}
	}
	if target, ok := linkTarget(parent + originalSuffix); ok {
		if wrapped(target) {
			return step{next: target}
		}
		return step{real: target}
	}
	return step{}
}

func linkTarget(path string) (string, bool) {
	text, err := os.Readlink(path)
	if err != nil || text == "" {
		return "", false
	}
	if !filepath.IsAbs(text) {
		// Not filepath.Join, which would remove dots lexically.
		text = filepath.Dir(path) + "/" + text
		if clean := filepath.Clean(text); same(clean, text) {
			text = clean
		}
	}
	return text, true
}

func same(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// wrapped reports whether a wrapper stands at path.
func wrapped(path string) bool { return exists(path+wrapperSuffix) || leadsToWrapper(path) }

func leadsToWrapper(path string) bool {
	end, err := filepath.EvalSymlinks(path)
	return err == nil && (strings.HasSuffix(end, wrapperSuffix) || ours(end))
}

// ours reports whether the file is the wrapper program.
func ours(end string) bool { return filepath.Base(end) == filepath.Base(wrapperPath) }

// ownWrapper reports whether the wrapper that stands for parent is this
// program, not a script of the user's, so that what is particular to a program
// of that name applies.
func ownWrapper(parent string) bool {
	end, err := filepath.EvalSymlinks(parent + wrapperSuffix)
	return err == nil && ours(end)
}
