// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPatternRefused: every construct that Python or RE2 lacks, or that they
// read otherwise, is named.
func TestPatternRefused(t *testing.T) {
	for _, c := range []struct{ text, construct string }{
		{`a(?=x)`, `(?=`}, {`(?!x)`, `(?!`}, {`(?<=x)a`, `(?<=`}, {`(?<!x)a`, `(?<!`}, {`(a)\1`, `\1`}, {`(?P<n>a)(?P=n)`, `(?P=`},
		{`(a)?(?(1)b|c)`, `(?(`}, {`a*+`, `*+`}, {`a++`, `++`}, {`a?+`, `?+`}, {`a{1,2}+`, `{1,2}+`}, {`(?>a)`, `(?>`}, {`a{1001}`, `{1001}`},
		{`a{99999999999999999999}`, `{99999999999999999999}`}, {`(?x)a b`, `(?x)`}, {`a(?#b)`, `(?#`}, {`(?a)x`, `(?a)`}, {`(?u)x`, `(?u)`}, {`(?L)x`, `(?L)`}, {`(?m)x`, `(?m)`},
		{`[[:alpha:]]`, `[:alpha:]`}, {`[[:^alpha:]]`, `[:^alpha:]`}, {`(?U)a`, `(?U)`}, {`\Qa\E`, `\Q`}, {`\pL`, `\p`}, {`\PL`, `\P`}, {`a\z`, `\z`}, {`\C`, `\C`}, {`(?<n>a)`, `(?<`}, {`a**`, `a**`},
		{`a+*`, `a+*`}, {`a{2}{3}`, `a{2}{3}`}, {`a(?i)b`, `(?i)`}, {`a|(?i)b`, `(?i)`}, {`((?i)b)`, `(?i)`}, {`\y`, `\y`}, {`\_`, ``}, {`\`, `\`}, {`[\`, `\`},
		{`*a`, `*`}, {`a|+`, `+`}, {`(?:?)`, `?`}, {`^*`, `*`}, {`$+`, `+`}, {`\b?`, `?`}, {`{2}`, `{2}`}, {`a{3,2}`, `{3,2}`}, {`(a`, `(a`}, {`a)`, `)`}, {`[a`, `[a`}, {`[]`, `[]`}, {`[^]`, `[^]`},
		{`[z-a]`, `z-a`}, {`[\d-z]`, `\d-z`}, {`[a-\d]`, `a-\d`}, {`[\Z]`, `\Z`}, {`[\B]`, `\B`}, {`\u00e9`, `\u00e9`}, {`\xe9`, `\xe9`}, {`\x1`, `\x`}, {`\u12`, `\u`}, {`\U0000`, `\U`}, {`\777`, `\777`}, {`[\777]`, `\777`}, {`[\8]`, `\8`},
		{`\N{SNOWMAN}`, `\N{SNOWMAN}`}, {`\N`, `\N`}, {`(?P<1>a)`, `(?P<`}, {`(?P<a>a)(?P<a>b)`, `(?P<a>`}, {`(?P<a`, `(?P<`}, {`(?P>a)`, `(?P`}, {`(?'a'b)`, `(?'`}, {`(?i-i:a)`, `(?i-i:`}, {`(?-:a)`, `(?-:`},
		{`(?R)`, `(?R)`}, {`(?`, `(?`}, {`(?i)ſ`, `ſ`}, {`(?i:[é])`, `é`}, {`(a*)*`, `(a*)*`}, {`(?:(a)|)+`, `(?:(a)|)+`}, {strings.Repeat("(", 200), "("},
	} {
		if c.construct == "" {
			if _, err := compilePattern(c.text); err != nil {
				t.Errorf("%q: %v", c.text, err)
			}
			continue
		}
		_, err := compilePattern(c.text)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Construct != c.construct {
			t.Errorf("%q: %v, want the construct %q", c.text, err, c.construct)
			continue
		}
		if text := err.Error(); !strings.Contains(text, unsupported.Reason) || strings.ContainsAny(text, "\n\r") {
			t.Errorf("%q: %q", c.text, text)
		}
	}
	for _, text := range []string{strings.Repeat("a", patternMax+1), "a\xff", `(?:a{1000}){1000}`, `(?:ab|c{999}){5}`, strings.Repeat("a{1000}", 5)} {
		if _, err := compilePattern(text); err == nil {
			t.Errorf("%.20q is accepted", text)
		}
	}
}

// TestPatternMatch: what is accepted means what it means in Python.
func TestPatternMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, text string
		groups        []string // nil: no match
	}{
		{``, "", []string{}}, {``, " ", nil}, {`a\.b`, "a.b", []string{}}, {`a\.b`, "axb", nil}, {`aa|bb`, "aabbb", nil}, {`aa|bb`, "bb", []string{}},
		{`(\S+)`, "a\vb", nil}, {`(\S+)`, "a\x1cb", nil}, {`[^\s]+`, "a\vb", nil}, {`[\S]+`, "a\vb", nil}, {`[\S]+`, "ab", []string{}}, {`a\sb`, "a\vb", []string{}}, {`[\s]`, "\x1f", []string{}},
		{`a{,2}`, "aa", []string{}}, {`a{,2}`, "aaa", nil}, {`a{,}`, "aaa", []string{}}, {`a{}`, "a{}", []string{}}, {`a{x}`, "a{x}", []string{}}, {`a{1,2,3}`, "a{1,2,3}", []string{}}, {`a{0}b`, "b", []string{}},
		{`a\Z`, "a", []string{}}, {`a$`, "a", []string{}}, {`^a`, "a", []string{}}, {`\u0041\x42\103\N{LATIN CAPITAL LETTER D}\N{digit seven}\N{solidus}`, "ABCD7/", []string{}},
		{`[\1\b]`, "\x01", []string{}}, {`[\1\b]`, "\b", []string{}}, {`[]a]+`, "]a", []string{}}, {`[^]a]+`, "bc", []string{}}, {`[a-]+`, "a-", []string{}}, {`[[]`, "[", []string{}}, {`[a\]]+`, "a]", []string{}},
		{`x( y)?( z)?`, "x z", []string{"", " z"}}, {`(?P<n>a)(b)`, "ab", []string{"a", "b"}}, {`(?i)aB`, "Ab", []string{}}, {`(?i:a)B`, "AB", []string{}}, {`(?i:a)B`, "Ab", nil}, {`(?s)a.b`, "a\nb", []string{}}, {`a.b`, "a\nb", nil},
		{`(?is)(?i)A.`, "a\n", []string{}}, {`(a+?)(a*)`, "aaa", []string{"a", "aa"}}, {`\w+\W\d\D`, "ab 1x", []string{}}, {`\bab\b`, "ab", []string{}}, {`\Aab`, "ab", []string{}}, {`a\tb`, "a\tb", []string{}}, {`\/\:\=\[\]\-`, "/:=[]-", []string{}},
		{`(?:|a)b`, "b", []string{}}, {`(?:|a)b`, "ab", []string{}}, {`()`, "", []string{""}}, {`(?:)*`, "", []string{}},
	} {
		p, err := compilePattern(c.pattern)
		if err != nil {
			t.Errorf("%q: %v", c.pattern, err)
			continue
		}
		if diff := cmp.Diff(c.groups, p.match(c.text)); diff != "" {
			t.Errorf("%q on %q:\n%s", c.pattern, c.text, diff)
		}
	}
}

// TestGreedy: which patterns let further arguments through.
func TestGreedy(t *testing.T) {
	for text, want := range map[string]string{
		`.+`: `.+`, `a=.*`: `.*`, `a=(.*)`: `.*`, `[^,]+,x`: `[^,]+`, `[ -~]*`: `[ -~]*`, `\D{3,}`: `\D{3,}`, `[\s\S]*?`: `[\s\S]*?`, `[\w ]+`: `[\w ]+`,
		`\S+( SERVER=\S+)*`: ``, `[^ ]+`: ``, `[^\s]+`: ``, `.{4}`: ``, `[ ]*a`: ``, ` *a`: ``, `[0-9]+`: ``, `.?`: ``, `\w+`: ``,
	} {
		p, err := compilePattern(text)
		if err != nil || p.greedy != want {
			t.Errorf("%q: %q, %v, want %q", text, p.greedy, err, want)
		}
	}
}
