// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// pattern is a compiled pattern. It matches whole texts only (defect 5).
type pattern struct {
	source string // in RE2's syntax, and valid
	once   sync.Once
	re     *regexp.Regexp // of source, from the first text on that it is asked about
	groups int
	// plain is what a pattern without any construct is, and matches.
	plain   string
	isPlain bool
	// greedy is a construct that swallows any number of further arguments.
	greedy string
}

// match returns what the groups hold, empty for one that took no part; nil if
// the text does not match as a whole.
func (p *pattern) match(text string) []string {
	if p.isPlain {
		if text != p.plain {
			return nil
		}
		return []string{}
	}
	if m := p.expression().FindStringSubmatch(text); m != nil {
		return m[1:]
	}
	return nil
}

// expression is the program of the pattern. To make it is most of the work of
// loading profiles, and most patterns are never asked about: the merger's never.
// It cannot fail, as the source was parsed when the pattern was.
func (p *pattern) expression() *regexp.Regexp {
	p.once.Do(func() { p.re = regexp.MustCompile(p.source) })
	return p.re
}

// UnsupportedError is a construct that a pattern must not have: Python does not
// know it, or RE2 does not, or both do and differ.
type UnsupportedError struct {
	Construct string // as written
	Reason    string
	Hint      string // what to write in its place; may be empty
}

// Error names the construct, the reason, and the way out.
func (e *UnsupportedError) Error() string {
	text := fmt.Sprintf("%q in the pattern: %s", e.Construct, e.Reason)
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Limits of patterns.
const (
	patternMax = 8192 // bytes
	repeatMax  = 1000 // RE2's own
	depthMax   = 100  // of groups
	sizeMax    = 4000 // characters, as often as they are repeated: what one line may cost
)

// compilePattern reads a pattern in Python's syntax and writes it anew in
// RE2's. Nothing reaches Go's parser that was not understood here: it reads
// some of Python's constructs otherwise, and \S would match a vertical tab, at
// which Tor splits arguments.
func compilePattern(text string) (*pattern, error) {
	if len(text) > patternMax {
		return nil, fmt.Errorf("the pattern is longer than %d bytes; split it into several rules", patternMax)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("the pattern is no valid UTF-8")
	}
	s := &scanner{text: text, names: map[string]bool{}, plain: true}
	if _, err := s.alternatives(0); err != nil {
		return nil, err
	}
	if !s.end() {
		return nil, &UnsupportedError{")", "no group is open here", `write \) if the character is meant`}
	}
	if s.plain {
		return &pattern{plain: s.literal.String(), isPlain: true}, nil
	}
	source := "^(?:" + s.out.String() + ")$"
	if _, err := syntax.Parse(source, syntax.Perl); err != nil { // all that regexp.Compile refuses
		return nil, fmt.Errorf("the pattern is refused: %w", err)
	}
	return &pattern{source: source, groups: s.groups, greedy: s.greedy}, nil
}

// scanner reads Python's syntax as CPython 3.11 does, and writes RE2's.
type scanner struct {
	text    string
	at      int
	out     strings.Builder
	groups  int
	names   map[string]bool
	fold    bool // (?i) is on somewhere
	foreign string
	plain   bool // nothing but literals so far
	literal strings.Builder
	greedy  string
}

func (s *scanner) end() bool { return s.at >= len(s.text) }

func (s *scanner) peek(prefix string) bool { return strings.HasPrefix(s.text[s.at:], prefix) }

func (s *scanner) skip(prefix string) bool {
	if s.peek(prefix) {
		s.at += len(prefix)
		return true
	}
	return false
}

// since is the text from a position on.
func (s *scanner) since(at int) string { return s.text[at:s.at] }

// item is what a repetition would repeat.
type item struct {
	kind    itemKind
	empties bool   // it can match nothing
	groups  int    // groups inside
	size    int    // how many characters it stands for at most, or at least if there is no most
	wide    bool   // one character, and a blank is among those it matches
	source  string // as written
}

type itemKind int

const (
	nothing itemKind = iota // the begin of an alternative
	atom
	position // ^ $ \b \B \A \Z
	repeated
)

// alternatives reads up to the end of the group or of the text, and tells
// whether one of them can match nothing, and the size of all together.
func (s *scanner) alternatives(depth int) (all item, err error) {
	if depth > depthMax {
		return all, &UnsupportedError{"(", fmt.Sprintf("groups are nested deeper than %d", depthMax), ""}
	}
	all.kind = atom
	for first := true; ; first = false {
		one, err := s.sequence(depth, first && depth == 0)
		if err != nil {
			return all, err
		}
		all.empties = all.empties || one.empties
		if all.size += one.size; all.size > sizeMax {
			return all, fmt.Errorf("the pattern stands for more than %d characters; repeat less, or use * or +", sizeMax)
		}
		if !s.skip("|") {
			return all, nil
		}
		s.plain = false
		s.out.WriteString("|")
	}
}

// sequence reads one alternative. Flags for the whole pattern may stand where
// start is true, before anything else.
func (s *scanner) sequence(depth int, start bool) (all item, err error) {
	last := item{}
	all.empties = true
	add := func() {
		all.empties = all.empties && (last.kind == nothing || last.empties)
		all.size += last.size
	}
	for !s.end() && !s.peek("|") && !s.peek(")") {
		if start {
			flags, err := s.globalFlags()
			if err != nil {
				return all, err
			}
			if flags {
				continue
			}
			start = false
		}
		begin := s.at
		repeat, err := s.repetition(last)
		if err != nil {
			return all, err
		}
		if repeat != nil {
			last = *repeat
			continue
		}
		add()
		if last, err = s.single(depth); err != nil {
			return all, err
		}
		last.source = s.since(begin)
	}
	add()
	return all, nil
}

// single reads one item, without what repeats it.
func (s *scanner) single(depth int) (item, error) {
	switch c := s.text[s.at]; c {
	case '(':
		s.plain = false
		return s.group(depth)
	case '[':
		s.plain = false
		return s.class()
	case '\\':
		return s.escape()
	case '.':
		s.at++
		s.plain = false
		s.out.WriteByte('.')
		return item{kind: atom, size: 1, wide: true}, nil
	case '^', '$':
		s.at++
		s.plain = false
		s.out.WriteByte(c)
		return item{kind: position, empties: true}, nil
	}
	r, size := utf8.DecodeRuneInString(s.text[s.at:])
	s.at += size
	return s.char(r)
}

// char writes one literal character.
func (s *scanner) char(r rune) (item, error) {
	if err := s.foreignFold(r); err != nil {
		return item{}, err
	}
	s.literal.WriteRune(r)
	s.out.WriteString(regexp.QuoteMeta(string(r)))
	return item{kind: atom, size: 1}, nil
}

// foreignFold refuses letters beyond ASCII where case does not count: Python
// and RE2 disagree about which belong together.
func (s *scanner) foreignFold(r rune) error {
	if r >= utf8.RuneSelf {
		s.foreign = string(r)
	}
	if s.fold && s.foreign != "" {
		return &UnsupportedError{s.foreign, "a character beyond ASCII together with (?i)", "Tor's texts are ASCII; leave one of them out"}
	}
	return nil
}

// repetition reads *, +, ?, {m,n} and the lazy forms; nil if there is none.
func (s *scanner) repetition(last item) (*item, error) {
	begin := s.at
	low, high := 0, -1
	switch {
	case s.skip("*"):
	case s.skip("+"):
		low = 1
	case s.skip("?"):
		high = 1
	case s.peek("{"):
		ok, err := s.bounds(&low, &high)
		if err != nil || !ok {
			return nil, err
		}
	default:
		return nil, nil
	}
	written := s.since(begin)
	s.plain = false
	switch last.kind {
	case nothing, position:
		return nil, &UnsupportedError{written, "there is nothing to repeat before it", `write \` + written[:1] + " if the character is meant"}
	case repeated:
		return nil, &UnsupportedError{last.source + written, "a repetition of a repetition", "put the first into (?: )"}
	}
	if s.peek("+") {
		return nil, &UnsupportedError{written + "+", "possessive repetitions do not exist in RE2", "leave the second + out: nothing here backtracks"}
	}
	if last.groups > 0 && last.empties && high != 1 {
		return nil, &UnsupportedError{last.source + written, "a repeated group that can match nothing: engines differ in what it holds then", "let the group match at least one character"}
	}
	s.writeRepeat(low, high)
	if s.skip("?") {
		s.out.WriteByte('?')
	}
	if last.wide && high < 0 && s.greedy == "" {
		s.greedy = last.source + s.since(begin)
	}
	return &item{kind: repeated, empties: last.empties || low == 0, groups: last.groups, size: last.size * max(low, high, 1), source: last.source + s.since(begin)}, nil
}

func (s *scanner) writeRepeat(low, high int) {
	switch {
	case low == 0 && high < 0:
		s.out.WriteByte('*')
	case low == 1 && high < 0:
		s.out.WriteByte('+')
	case low == 0 && high == 1:
		s.out.WriteByte('?')
	case high < 0:
		fmt.Fprintf(&s.out, "{%d,}", low)
	default:
		fmt.Fprintf(&s.out, "{%d,%d}", low, high)
	}
}

// bounds reads {m}, {m,}, {,n} and {m,n}. Anything else in braces is literal
// text in Python; ok is then false, and nothing has been read.
func (s *scanner) bounds(low, high *int) (ok bool, err error) {
	inner, _, closed := strings.Cut(s.text[s.at+1:], "}")
	if !closed || inner == "" || strings.Trim(inner, "0123456789,") != "" || strings.Count(inner, ",") > 1 {
		return false, nil
	}
	written := "{" + inner + "}"
	s.at += len(written)
	min, max, isRange := strings.Cut(inner, ",")
	number := func(text string, to *int) error {
		n, err := strconv.Atoi(text)
		if err != nil || n > repeatMax {
			return &UnsupportedError{written, fmt.Sprintf("RE2 repeats at most %d times", repeatMax), "use * or + if any number is meant"}
		}
		*to = n
		return nil
	}
	if min != "" {
		if err := number(min, low); err != nil {
			return false, err
		}
	}
	switch {
	case !isRange:
		*high = *low
	case max != "":
		if err := number(max, high); err != nil {
			return false, err
		}
		if *high < *low {
			return false, &UnsupportedError{written, "the second number is smaller than the first", ""}
		}
	}
	return true, nil
}
