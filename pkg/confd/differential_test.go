// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"whonix-networking/pkg/fsx"
)

// names that generated fragments use.
func names() []string { return []string{"A", "B", "C", "LIST", "OPT"} }

// genWord draws a word as users write them.
func genWord(t *rapid.T) string {
	name := rapid.SampledFrom(names()).Draw(t, "name")
	lit := rapid.SampledFrom([]string{"", "0", "1", "eth0", "a b", " x  y ", "10.0.2.2/24", "vif+", "::1", "22#x", "-n", "!", "true", "a:b", "é"}).Draw(t, "lit")
	bare := strings.ReplaceAll(strings.TrimSpace(lit), " ", "_")
	return rapid.SampledFrom([]string{
		bare, `"` + lit + `"`, `'` + lit + `'`, "$" + name, "${" + name + "}", `"$` + name + `"`, `"${` + name + `}"`,
		"${" + name + ":-" + bare + "}", `"${` + name + ":-" + bare + `}"`, "${" + name + "-" + bare + "}", `"${` + name + `:+` + bare + `}"`,
		"${" + name + "+set}", "${" + name + ":=" + bare + "}", "${#" + name + "}", `"` + lit + "$" + name + `"`, name + "$" + name + "x",
		`a\ b`, `"a\"b\$c\\d\e"`, `'a'"b"c`, "\"\\\n   a \\\n   b \\\n\"", "a\\\nb", "$(id -u root)", "$(seq 3 6)", `" $(seq 9100 9102) "`,
		`"$(id -u no-such-account 2>/dev/null)"`, `""`, `''`, "$'a\\tb'", "$((1+2))", "${" + name + "%b}", "${" + name + "/a/b}", "${" + name + "//./-}", "${" + name + "#a}", "${" + name + "^^}", `$'x\ty\'z'`, "${" + name + "%%0}", "~", "a*", "{a,b}", "`echo x`",
	}).Draw(t, "word")
}

func genCondition(t *rapid.T) string {
	a, b := genWord(t), genWord(t)
	plain := rapid.SampledFrom(names()).Draw(t, "tested")
	return rapid.SampledFrom([]string{
		"[ -n " + a + " ]", "[ -z \"${" + plain + ":-}\" ]", "[ " + a + " = " + b + " ]", "[ \"" + plain + "\" != " + b + " ]", "[[ " + a + " == " + b + " ]]",
		"[[ -n " + a + " && ! -z " + b + " ]]", "[[ " + a + " != " + b + " || -e /etc/passwd ]]", "test -f /etc/passwd", "[ -d /etc ]", "[ -e /nothing ]",
		"[ ! -e /nothing ]", "! true", "true", "false", ":", "[ 1 -eq 1 ]", "[ 3 -lt 2 ]", "[ " + a + " ]", "[ ! " + a + " ]", "[[ 10 -ge 9 ]]", "[[ (a == a) ]]",
		"[ " + a + " -eq 1 ]", "[[ " + a + " =~ a ]]", "! [ " + a + " = " + b + " ]",
	}).Draw(t, "condition")
}

func genAssignment(t *rapid.T) string {
	op := rapid.SampledFrom([]string{"=", "+=", "="}).Draw(t, "op")
	return rapid.SampledFrom(names()).Draw(t, "target") + op + genWord(t)
}

// genStatement draws a statement, to a depth.
func genStatement(t *rapid.T, depth int) string {
	kinds := 12
	if depth == 0 {
		kinds = 6
	}
	body := func() string { return genStatement(t, depth-1) }
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0, 1, 2:
		return genAssignment(t)
	case 3:
		return "[ -n \"${" + rapid.SampledFrom(names()).Draw(t, "set") + ":-}\" ] || " + genAssignment(t)
	case 4:
		return rapid.SampledFrom([]string{"# a comment", "", "A=1 B=$A", "C=\"$(qubesdb-read /no-such-key 2>/dev/null)\" || C=none", "true; A+=x", "LIST+=\" $(id -u root) \""}).Draw(t, "idiom")
	case 5:
		return genCondition(t) + rapid.SampledFrom([]string{" && ", " || "}).Draw(t, "and") + genAssignment(t)
	case 6, 7:
		s := "if " + genCondition(t) + "; then\n  " + body() + "\n  :\n"
		if rapid.Bool().Draw(t, "elif") {
			s += "elif " + genCondition(t) + "; then\n  " + genAssignment(t) + "\n"
		}
		if rapid.Bool().Draw(t, "else") {
			s += "else\n  " + genAssignment(t) + "\n"
		}
		return s + "fi"
	case 8:
		return "for i in " + genWord(t) + " " + genWord(t) + "; do\n  LIST+=\"<$i>\"\n  " + body() + "\n  :\ndone"
	case 9:
		return "case " + genWord(t) + " in\n  1|eth0) " + genAssignment(t) + " ;;\n  \"a b\") A=q ;;\n  *) " + genAssignment(t) + " ;;\nesac"
	case 10:
		return rapid.SampledFrom([]string{"return 0", "[ -e /nothing ] && return 0", "[ -e /etc ] || return 0", "{ A=block; }", "! [ a = a ] || B=b"}).Draw(t, "flow")
	default:
		return rapid.SampledFrom([]string{"f() { A=f; [ -n \"$B\" ] && B=g; }\nf", "ARR=(1 2)\nA=${ARR[1]}", "ARR=($A \"$B\" x)\nfor i in \"${ARR[@]}\"; do LIST+=\"<$i>\"; done\nC=$ARR", "g() { return 1; }\ng || A=g", "h() { LIST+=h; }", "read -r A <<< x", "export B=exported", "false", "A=$NOPE", "return 1", "exit 0"}).Draw(t, "rare")
	}
}

func genFragment(t *rapid.T) string {
	var b strings.Builder
	b.WriteString("A=a; B='x y'; C=; LIST=\" 1 \"\n")
	for range rapid.IntRange(1, 6).Draw(t, "statements") {
		b.WriteString(genStatement(t, 2) + "\n")
	}
	return b.String()
}

// oracle sources fragments with bash itself, independently of this package:
// the values of names, or failure.
func oracle(t *rapid.T, o Options, files int) (values map[string]string, ok bool) {
	script := "qubesdb-read() { return 1; }\nset -eu -o pipefail -o errtrace; shopt -s nullglob\n"
	for i := range files {
		script += fmt.Sprintf("bash -n '%[1]s/%[2]c.conf'; source '%[1]s/%[2]c.conf'\n", o.Dirs[0], 'a'+i)
	}
	for _, n := range names() {
		script += fmt.Sprintf("printf '%%s=%%s\\0' %s \"${%s-unset}\"\n", n, n)
	}
	cmd := exec.Command("/bin/bash", "--norc", "--noprofile", "-c", script+"printf 'end\\0'\n")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err != nil || !strings.HasSuffix(out.String(), "end\x00") {
		return nil, false
	}
	values = map[string]string{}
	for _, kv := range strings.Split(strings.TrimSuffix(out.String(), "end\x00"), "\x00") {
		if name, value, ok := strings.Cut(kv, "="); ok {
			values[name] = value
		}
	}
	return values, true
}

func valuesOf(vars map[string]Value) map[string]string {
	values := map[string]string{}
	for _, n := range names() {
		values[n] = "unset"
		if v, ok := vars[n]; ok {
			values[n] = v.Text
		}
	}
	return values
}

// TestDifferential: what this package makes of generated fragments is what
// bash makes of them, in both tiers; and most need no bash, so that the test
// says something about the native tier. More rounds: -rapid.checks=N.
func TestDifferential(t *testing.T) {
	const rounds = "300"
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(rounds); err != nil {
			t.Fatal(err)
		}
	}
	native, total := 0, 0
	rapid.Check(t, func(rt *rapid.T) {
		texts := []string{genFragment(rt)}
		if rapid.Bool().Draw(rt, "second") {
			texts = append(texts, genFragment(rt))
		}
		o := fixture(t, texts...)
		scratch := o.Root.Path("/")
		defer os.RemoveAll(scratch)
		o.QubesDB = func(string) (string, bool) { return "", false }
		// File tests must see the same files in both.
		o.Dirs, o.Root = []string{o.Root.Path(testDir)}, fsx.Host
		want, ok := oracle(rt, o, len(texts))
		res, err := Evaluate(context.Background(), o)
		if ok && strings.Contains(strings.Join(texts, ""), "exit") && err != nil {
			return // bash ends with success where exit 0 counts as an error here
		}
		total++
		if !needsBash(o) {
			native++
		}
		if (err == nil) != ok {
			rt.Fatalf("error %v, but bash succeeded: %v\n%s", err, ok, strings.Join(texts, "--\n"))
		}
		if err != nil {
			return
		}
		got := valuesOf(res.Vars)
		for n, v := range want {
			if got[n] != v {
				rt.Fatalf("%s = %q, bash has %q (tier %v %s)\n%s", n, got[n], v, res.Tier, res.Reason, strings.Join(texts, "--\n"))
			}
		}
	})
	t.Logf("%d of %d evaluated natively", native, total)
	if native*4 < total {
		t.Errorf("only %d of %d were evaluated natively: the test proves too little", native, total)
	}
}

// needsBash reports whether the native tier gives the fragments up.
func needsBash(o Options) bool {
	o.fillIn()
	paths, err := o.list()
	if err != nil {
		return true
	}
	frags, broken := o.load(context.Background(), paths)
	_, err = o.native(context.Background(), frags)
	var beyond *notStatic
	return broken != nil || errors.As(err, &beyond)
}

// FuzzNative: whatever text comes in, the native tier ends, and where it
// accepts a fragment bash reads it too.
func FuzzNative(f *testing.F) {
	for _, seed := range []string{"X=1\n", "if [ -n \"${X:-}\" ]; then X+=\" $(seq 1 3) \"; fi\n", "for i in $X; do Y=$i; done\n", "case a in *) X=1;; esac\n", "X=\"\\\n a\"\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		const textMax = 4096
		if len(text) > textMax || strings.ContainsRune(text, 0) {
			return
		}
		o := fixture(t, text)
		o.fillIn()
		frags, err := o.load(context.Background(), []string{testDir + "/a.conf"})
		if err != nil || len(frags) == 0 || frags[0].file == nil {
			return
		}
		if _, err := o.native(context.Background(), frags); err != nil {
			return
		}
		if out, err := exec.Command("/bin/bash", "-n", o.Root.Path(testDir+"/a.conf")).CombinedOutput(); err != nil {
			t.Errorf("accepted, but bash does not read it: %v %s\n%q", err, out, text)
		}
	})
}

func BenchmarkNative(b *testing.B) {
	o := fixture(b, strings.Repeat("# a comment of usual length, as they fill these files\nX=1\n", 40), "[ -d /etc ] || return 0\nLIST+=\" $(seq 80 81) \"\n")
	for b.Loop() {
		if res, err := Evaluate(context.Background(), o); err != nil || res.Tier != Native {
			b.Fatal(err)
		}
	}
}

func BenchmarkBash(b *testing.B) {
	o := fixture(b, needBash+"X=1\n")
	for b.Loop() {
		if res, err := Evaluate(context.Background(), o); err != nil || res.Tier != Bash {
			b.Fatal(err)
		}
	}
}
