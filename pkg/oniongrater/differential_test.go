// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"math/rand/v2"
	"os/exec"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// historicPatterns are those of all profiles that Whonix and Tails ever
// shipped, one a line.
//
//go:embed testdata/historic-patterns.txt
var historicPatterns string

func historic() []string {
	return append(strings.Split(strings.TrimSuffix(historicPatterns, "\n"), "\n"), "")
}

// question is a pattern with texts to try it on.
type question struct {
	Pattern string   `json:"pattern"`
	Texts   []string `json:"texts"`
}

// answer is what Python says: whether it knows the pattern, and what the groups
// of each text hold, null for one that does not match.
type answer struct {
	Known  bool       `json:"known"`
	Groups [][]string `json:"groups"`
}

// python asks Python's re. A group that took no part is empty, as with us.
func python(t *testing.T, questions []question) []answer {
	t.Helper()
	const program = `
import json, re, sys, warnings
warnings.simplefilter("ignore")
out = []
for q in json.load(sys.stdin):
    try:
        pattern = re.compile(q["pattern"])
    except (re.error, OverflowError, RecursionError):
        out.append({"known": False, "groups": None})
        continue
    found = (pattern.fullmatch(text) for text in q["texts"])
    out.append({"known": True, "groups": [m and [g or "" for g in m.groups()] for m in found]})
json.dump(out, sys.stdout)
`
	in, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-I", "-c", program)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.Bytes())
	}
	var answers []answer
	if err := json.Unmarshal(out, &answers); err != nil || len(answers) != len(questions) {
		t.Fatalf("%d answers, %v", len(answers), err)
	}
	return answers
}

// TestAcceptance07_AsPython: match and groups equal Python's, for all historic
// patterns and thousands of generated ones. What Python refuses is refused.
func TestAcceptance07_AsPython(t *testing.T) {
	const generated, textsEach = 3000, 24
	random := rand.New(rand.NewPCG(7, 11))
	var questions []question
	for _, p := range historic() {
		if _, err := compilePattern(p); err != nil {
			t.Errorf("the historic pattern %q is refused: %v", p, err)
		}
		questions = append(questions, question{p, texts(random, p, 200)})
	}
	for range generated {
		p := randomPattern(random, 3)
		questions = append(questions, question{p, texts(random, p, textsEach)})
	}
	tried, matched, refused := 0, 0, 0
	for i, a := range python(t, questions) {
		q := questions[i]
		p, err := compilePattern(q.Pattern)
		switch {
		case err != nil && a.Known:
			refused++
			continue
		case err != nil:
			continue
		case !a.Known:
			t.Errorf("%q is accepted, and Python does not know it", q.Pattern)
			continue
		}
		for j, text := range q.Texts {
			if text == "" && strings.Contains(q.Pattern, `\B`) {
				continue // before 3.14 Python's \B did not match there; it does as ours since
			}
			got := p.match(text)
			tried++
			if got != nil {
				matched++
			}
			if diff := cmp.Diff(a.Groups[j], got); diff != "" {
				t.Errorf("%q on %q (Python -, we +):\n%s", q.Pattern, text, diff)
			}
		}
	}
	t.Logf("%d texts, %d matched; %d patterns refused that Python knows", tried, matched, refused)
	if matched*5 < tried || refused*3 > len(questions) {
		t.Error("the generator has become useless")
	}
}

// texts are some that match the pattern, if it can be read, and as many that
// nearly do.
func texts(random *rand.Rand, pattern string, n int) []string {
	var out []string
	parsed := &syntax.Regexp{Op: syntax.OpEmptyMatch}
	if p, err := compilePattern(pattern); err == nil {
		text := regexp.QuoteMeta(p.plain)
		if !p.isPlain {
			text = p.source
		}
		if parsed, err = syntax.Parse(text, syntax.Perl); err != nil {
			panic(err)
		}
	}
	for len(out) < n {
		// Lines have no line end, and Tor's texts are ASCII.
		text := strings.Map(func(r rune) rune {
			if r == '\n' || r > 0x7f {
				return -1
			}
			return r
		}, example(random, parsed))
		out = append(out, text, mutate(random, text))
	}
	return out
}

// example is a text that the expression matches.
func example(random *rand.Rand, e *syntax.Regexp) string {
	var out strings.Builder
	repeat := func(low, high int) {
		if high < 0 || high > low+3 {
			high = low + 3
		}
		for range low + random.IntN(high-low+1) {
			out.WriteString(example(random, e.Sub[0]))
		}
	}
	switch e.Op {
	case syntax.OpLiteral:
		for _, r := range e.Rune {
			if e.Flags&syntax.FoldCase != 0 && random.IntN(2) == 0 {
				r = []rune(strings.ToUpper(string(r)))[0]
			}
			out.WriteRune(r)
		}
	case syntax.OpCharClass:
		if len(e.Rune) == 0 {
			break // nothing matches, as in [^\s\S]
		}
		n := random.IntN(len(e.Rune) / 2)
		low, high := e.Rune[2*n], min(e.Rune[2*n+1], e.Rune[2*n]+95, 0x7e)
		if low <= high {
			out.WriteRune(low + random.Int32N(high-low+1))
		}
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		out.WriteRune(' ' + random.Int32N(95))
	case syntax.OpCapture:
		repeat(1, 1)
	case syntax.OpStar:
		repeat(0, -1)
	case syntax.OpPlus:
		repeat(1, -1)
	case syntax.OpQuest:
		repeat(0, 1)
	case syntax.OpRepeat:
		repeat(e.Min, e.Max)
	case syntax.OpConcat:
		for _, s := range e.Sub {
			out.WriteString(example(random, s))
		}
	case syntax.OpAlternate:
		out.WriteString(example(random, e.Sub[random.IntN(len(e.Sub))]))
	}
	return out.String()
}

// mutate changes a text a little: most of all with what separates arguments.
func mutate(random *rand.Rand, text string) string {
	at := random.IntN(len(text) + 1)
	switch random.IntN(5) {
	case 0:
		return text[:at] + []string{"\v", "\t", "\r", "\f", "\x1c", "\x1f", " ", "\x00", "\x7f"}[random.IntN(9)] + text[at:]
	case 1:
		return text[:at] + string(rune(' '+random.Int32N(95))) + text[at:]
	case 2:
		return text[:at]
	case 3:
		return text[at:] + text[:at]
	}
	return text + text[at:]
}

// randomPattern writes a pattern, mostly a right one. Groups are not repeated:
// before 3.12 Python sometimes leaves in them what an abandoned attempt had put
// there.
func randomPattern(random *rand.Rand, depth int) string {
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	var out strings.Builder
	if depth == 3 && random.IntN(20) == 0 {
		out.WriteString(pick("(?i)", "(?s)", "(?is)", "(?x)", "(?m)"))
	}
	for range 1 + random.IntN(4) {
		repeatable := true
		switch n := random.IntN(12); {
		case n < 3:
			out.WriteString(pick("a", "b", "ab", " ", "Port=", ",", ":", "{", "}", "]", "-", "é"))
		case n < 5:
			out.WriteString(pick(`\S`, `\s`, `\d`, `\D`, `\w`, `\W`, `.`))
		case n < 7:
			out.WriteString("[" + pick("", "", "^") + randomClass(random) + "]")
		case n == 7:
			out.WriteString(pick(`\.`, `\/`, `\:`, `\[`, `\]`, `\{`, `\x41`, `\101`, `\0`, `\t`, `\v`, `\u0062`, `\N{COMMA}`, `\e`, `\8`, `\Q`, `\p`, `\z`, `\é`, `\"`))
		case n == 8:
			out.WriteString(pick("^", "$", `\b`, `\B`, `\A`, `\Z`))
			repeatable = random.IntN(9) == 0
		case depth > 0 && n < 11:
			open := pick("(", "(", "(?:", "(?:", "(?i:", "(?P<n>", "(?=", "(?", "(?<", "(?s-i:")
			out.WriteString(open + randomPattern(random, depth-1))
			for range random.IntN(3) {
				out.WriteString("|" + randomPattern(random, depth-1))
			}
			out.WriteString(")")
			if open == "(" || open == "(?P<n>" {
				out.WriteString(pick("", "", "?", "??"))
				repeatable = false
			} else if strings.Contains(out.String(), "(") {
				repeatable = !groupInside(out.String())
			}
		}
		if repeatable {
			out.WriteString(pick("", "", "", "*", "+", "?", "{2}", "{1,2}", "{,2}", "{2,}", "{,}", "{", "*?", "+?", "{1,2}?", "*+", "**", "{x}"))
		}
	}
	return out.String()
}

// groupInside tells whether a pattern has a group that captures.
func groupInside(pattern string) bool {
	return strings.Contains(pattern, "(?P<") || strings.Count(pattern, "(") > strings.Count(pattern, "(?")
}

func randomClass(random *rand.Rand) string {
	parts := []string{"a", "b-d", "0-9", "A-Z", " ", `\s`, `\S`, `\d`, `\w`, `\W`, `\D`, `\]`, `\-`, `-`, `+`, `\/`, `[`, `[:alpha:]`, `^`, `.`, `\b`, `\x41-\x43`, `\1`, `!-~`, `z-a`, `\d-z`, `\Z`, `&&`, `é`}
	var out strings.Builder
	if random.IntN(10) == 0 {
		out.WriteString("]")
	}
	for range 1 + random.IntN(3) {
		out.WriteString(parts[random.IntN(len(parts))])
	}
	return out.String()
}
