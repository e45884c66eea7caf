// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
)

// idioms are fragments that users write, or that readers of bash are apt to
// read differently: each is about X.
func idioms() []string {
	return []string{
		"A=$(id -u nobody-x 2>/dev/null) X=1", "X=1 A=$(id -u nobody-x 2>/dev/null)",
		"X=($(id -u nobody-x 2>/dev/null))", "X=(a)\nX+=($(id -u nobody-x 2>/dev/null))",
		"X=\"$(id -u nobody-x 2>/dev/null)\"\"$(id -u root)\"", "X=\"$(id -u root)\"\"$(id -u nobody-x 2>/dev/null)\"",
		"X=$(id -u nobody-x 2>/dev/null)\"\"", "X=a$(id -u nobody-x 2>/dev/null)$(id -u root)", "X=1\r\n",
		"X=\"a\r\nb\"\r\n", "X='a\r\nb'", "[ -d /etc ] || return 0\r\nX=1\r\n", "X=a\r", "X=\"a \\\r\n b\"",
		"# c\r\nX=1", "X=1 # c\r\n", "if true; then\r\nX=1\r\nfi\r\n", "return 0\r\n", "X=a\\", "X=\\", "X=\xff\xfe",
		"\xef\xbb\xbfX=1", "X=\u00a0a", "X=a\u00a0b", "Y=' a'; X=; for i in \"\"$Y; do X+=\"<$i>\"; done",
		"Y='a '; X=; for i in $Y\"\"; do X+=\"<$i>\"; done", "Y=' '; X=; for i in a$Y$Y\"b\"; do X+=\"<$i>\"; done",
		"Y=; X=; for i in $Y a$Y $Y; do X+=\"<$i>\"; done", "X=@(a)", "X={a,b}", "X=a{b,c}d", "X=$", "X=$ ", "X=\"$\"",
		"X=\"a$ b\"", "X=a$'b'", "X=\"$'b'\"", "X=$\"b\"", "Y=1; X=$\\\nY", "Y=1; X=${\\\nY}", "Y=1; X=\"$\\\nY\"",
		"X=a\\\n\\\nb", "X\\\n=1", "X=1\\\n2", "X=[a]", "X=a[1]", "X=*", "X=?", "X=a=b", "X==", "X=a#b", "X=#a",
		"X= #a", "X=a;#b", "X=!", "X=a!b", "X=\"a!b\"", "Y=abc; X=${Y%}", "Y=abc; X=${Y/b}", "Y=abc; X=${Y//b}",
		"Y=abc; X=${Y/b/}", "Y=abc; X=${Y/#a/x}", "Y=abc; X=${Y/%c/x}", "Y=a/b; X=${Y//\\//-}", "Y=abc; X=${Y:1}",
		"Y=abc; X=${Y:1:1}", "Y=abc; X=${Y: -1}", "Y=abc; X=${Y^}", "Y=a.c; X=${Y%.c}", "Y=a+b; X=${Y%+b}",
		"Y=a/b/; X=${Y%/}", "Y=a,b; X=${Y//,/ }", "Y=a,b; X=${Y//,/+}", "Y=aaa; X=${Y/a/&}", "Y=x; X=${Y:-a b}",
		"X=${Y:-a b}", "X=\"${Y:-a b}\"", "X=; for i in ${Y:-a b}; do X+=\"<$i>\"; done", "X=${Y:-}", "X=${Y-$Z}",
		"Z=1; X=${Y-$Z}", "X=${Y:-${Z:-q}}", "X=${Y:?}", "X=${#Y}", "X=${Y:=5}; X+=$Y",
		"if [ ]; then X=1; else X=2; fi", "if [ ! ]; then X=1; else X=2; fi", "if [ -n ]; then X=1; else X=2; fi",
		"if [ ! -n ]; then X=1; else X=2; fi", "if [ ! ! ]; then X=1; else X=2; fi",
		"if [ ! = ! ]; then X=1; else X=2; fi", "if [ -n = -n ]; then X=1; else X=2; fi",
		"if [ ! a = a ]; then X=1; else X=2; fi", "if [ 1 -eq 01 ]; then X=1; fi", "if [ 1 -eq a ]; then X=1; fi\nX=2",
		"if [ a = b = c ]; then X=1; fi; X=2", "if [ x -a y ]; then X=1; fi", "[ ] || X=2",
		"if [ -e '' ]; then X=1; else X=2; fi", "if [ -f /etc ]; then X=1; else X=2; fi",
		"if [ -r /etc/shadow ]; then X=1; else X=2; fi", "if [ -x /etc/passwd ]; then X=1; else X=2; fi",
		"if [ -x /etc ]; then X=1; else X=2; fi", "if [ -e /dev/stdin ]; then X=1; else X=2; fi",
		"if [ -e /dev/fd/3 ]; then X=1; else X=2; fi", "if [[ -a /etc ]]; then X=1; fi",
		"if [[ a -eq 0 ]]; then X=1; else X=2; fi", "if [[ 10 < 9 ]]; then X=1; else X=2; fi",
		"if [[ a == a* ]]; then X=1; fi", "Y='a*'; if [[ ab == $Y ]]; then X=1; else X=2; fi",
		"Y='a*'; if [[ ab == \"$Y\" ]]; then X=1; else X=2; fi", "if [[ a\\ b == 'a b' ]]; then X=1; else X=2; fi",
		"if [[ 'a b' == a\\ b ]]; then X=1; else X=2; fi", "if [[ -z ]]; then X=1; fi",
		"if [[ ! a ]]; then X=1; else X=2; fi", "if [[ a || ! b && c ]]; then X=1; fi",
		"case a in *) X=1;; a) X=2;; esac", "case a in [a]) X=1;; esac", "case '*' in '*') X=1;; esac",
		"case '*' in \\*) X=1;; esac", "case a in \"*\") X=1;; *) X=2; esac", "case x in esac; X=0",
		"Y='a*'; case ab in $Y) X=1;; *) X=2;; esac", "case ab in a\"\"b) X=1;; esac", "case '' in '') X=1;; esac",
		"case a in (a) X=1;; esac", "case a in b) false;; esac\nX=5", "case a in a) ;; esac; X=3",
		"case a in a) X=1 ;& b) X=2;; esac", "f() { false && X=1; }\nf\nX=2", "f() { false && X=1; }\nf || X=3",
		"f() { false; X=4; }\nf || :", "f() { false; X=4; }\n! f\nX+=5",
		"f() { return 1; }\nif f; then X=1; else X=2; fi", "f() { return 1; }\nf", "{ false && X=1; }\nX=2",
		"if true; then false && X=1; fi\nX=2", "if true; then false && X=1; fi",
		"for i in 1; do false && X=1; done\nX=2", "for i in 1; do false && X=1; done", "! true\nX=1", "! true",
		"X=1; ! { false; X=2; }", "X=1; { false; X=2; } || :", "X=1; true && false", "X=1; true && false || true",
		"X=1; false || false", "X=1; if false; then :; fi", "X=1; false && true; true",
		"f() { X=1; return 0; X=2; }; f; f2() { f; X+=3; }; f2", "X=1; f() { g() { X=2; }; }; f; g",
		"f() { X=1; }; f() { X=2; }; f", "f() { exit 0; }; X=1", "f() ( X=2 ); X=1; f", "f() { X=$1; }; f a",
		"f() { X=1; }; f a", "X=0; for i in; do X=1; done", "X=1; for i in a; do return 0; done; X=2",
		"X=; for X in a b; do :; done", "for ((i=0;i<3;i++)); do X=$i; done",
		"X=; for i in a b; do [ $i = a ] && continue; X+=$i; done", "X=; for i in a b; do X+=$i; break; done",
		"X=(a b); X+=c", "X=(a b); X=c", "X=a; X+=(b)", "X=a; X[1]=b", "X[0]=b", "declare -A X; X[0]=z; X[k]=v",
		"declare X", "declare X=", "X=([0]=a [3]=b)", "export X=5", "declare -x X=5", "readonly X=5",
		"declare -i X=5+1", "declare -u X=abc", "Y=4; declare -n X=Y", "Y=(1 2); declare -n X=Y", "X=(\"\" b)",
		"X=(a) ; Y=${#X}; X=$Y", "X=(\"a b\" c)", "unset X; X+=q", "X=1; unset X", "X=1; unset X; [ -z \"${X-}\" ]",
		"local X=1", "X=1; break", "X=1; continue", "break", "continue", "X=1; return", "X=1; return 256",
		"X=1; return -1", "X=1; return 1 || true", "X=1\n(return 0)\nX=2", "X=1; (exit 3) || X=2", "X=$(exit 0)a",
		"X=1; set +o pipefail; false | true", "X=1; set -f", "X=1; shopt -u nullglob", "X=1; set -- a b c", "X=$#",
		"X=1; shift 2>/dev/null || true", "X=1; trap 'return 0' ERR; false; X=2", "X=1; set -o posix",
		"X=1; set -n\nX=2", "X=1; shopt -s extdebug", "X=1; source() { :; }", "X=1; trap() { :; }", "X=1; IFS=x",
		"X=1; IFS=", "X=a1b; IFS=1", "X=1; unset IFS", "X=1; shopt -s nocasematch", "X=1; set -x; :; set +x",
		"X=1; exec 2>/dev/null; true", "X=1; wait", "X=1; declare -n r=X; r=7", "X=1; declare -n r='A[1]'",
		"X=1; cd /; X=$PWD", "X=${BASH_SOURCE[0]##*/}", "X=$LINENO", "X=$(printf 'a\\0b')", "X=1; eval X=3",
		"printf -v X %s 9", "mapfile -t X < <(printf 'a\\nb\\n')", "read -r X < /etc/hostname || true",
		"X=1; command X=2 || true", "X=~root", "X=$((1+1))", "X=$(seq 3 1)", "X=$(seq 1 3 | tail -1)", "X=$(id -u)",
		"X=$(id -u 0)", "X=$(id -u root root)", "X=$(seq 08 10)", "X=`id -u root`", "X=\"`id -u root`\"",
		"X=$( id -u root )", "X=$(\nid -u root\n)", "X=$(id -u root;)", "X=$(id -u root # c\n)",
		"Y=root; X=$(id -u $Y)", "Y='root '; X=$(id -u $Y)", "X=$(id -u \"root\")", "X=$(id -u 'no such')\nX=2",
		"X=$'a\\'b'", "X=$'\\x41\\u00e9\\101\\cA'", "X=$'a\\0b'", "X=$'\\?'", "X=$'a\\\nb'", "X='a\\'b", "X=''",
		"X=a''b", "X=\"a\"\"b\"", "X=\"a\\`b\"", "X=\"a\\!b\"", "X=\"\\\"", "X=\"a\nb\n\"", "X=a&b", "X=a|b", "X=a>b",
		"X=(", "X=)", "X=a b", "X =a", " X=1", "\tX=1", "X=1;", "X=1;;", ";X=1", "X=1 &", "X=1 Y=2", "X=1 Y=$X; X=$Y",
		"1X=2", "X-Y=1", "X=1; Y", "if true; then X=1", "if true; then fi", "X=1\n}", "{ X=1 }", "X=${}", "X=${Y!}",
		"function f { X=1; }; f", "f () X=1; f", "f() if true; then X=1; fi; f", "f() for i in a; do X=$i; done; f",
		"select i in a; do X=1; done </dev/null", "time X=1", "time :; X=1", "coproc :; X=1", "let X=1+1", "((X=1))",
		"((0))\nX=1", "[[ ]]", "[[ a ]] ; X=1", "test a; X=1", "X=1 # \\\nY=2\nX+=$Y", "X=a\\\n#b",
		": <<'E'\nX=2\nE\nX=1", "X=1\n\x0cX=2", "X=1\vY", "X=a\x01b", "X='a\x01b'", "X=a\x7fb",
		"for i in a\x01b; do X=\"$i\"; done", "Y=$'\\x01'; X=$Y", "X=$(id -u root)#bar", "X=`id -u root`#b",
		"X=$((1))#b", "X=\"$(id -u root)\"#b", "X=1 # c \\\nY=2", "true # c \\\nX=1", "[ a = a ] && X=1 # c \\\nX+=2",
		"A=1 \\\n# c \\\nX=1", "# c \\\nX=1", "A=1\n\t# c \\\n# d \\\nX=1", "X=( # c \\\na\n)",
		"if false; then f () X=1; fi", "function g :\nX=1", "f() f () X=1",
	}
}

// inBash sources one file with bash itself: the value of X, or failure.
func inBash(t *testing.T, file string) (value string, ok bool) {
	t.Helper()
	const script = `set -eu -o pipefail -o errtrace; shopt -s nullglob
bash -n "$F"
source "$F"
printf '%s\0END\0' "${X-unset}"`
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/bash", "--norc", "--noprofile", "-c", script)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8", "F=" + file}
	var out bytes.Buffer
	cmd.Stdout = &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	value, complete := strings.CutSuffix(out.String(), "\x00END\x00")
	return value, err == nil && complete
}

// TestIdioms: both tiers make of each idiom what bash makes of it.
func TestIdioms(t *testing.T) {
	native := 0
	for _, text := range idioms() {
		for _, prefix := range []string{"", needBash} {
			o := fixture(t, prefix+text+"\n")
			// bash must see the same files as we.
			o.Dirs, o.Root = []string{o.Root.Path(testDir)}, fsx.Host
			o.Account, o.QubesDB = nil, nil
			want, ok := inBash(t, o.Dirs[0]+"/a.conf")
			res, err := Evaluate(context.Background(), o)
			if (err == nil) != ok {
				t.Errorf("%q: error %v, but bash succeeded: %v", prefix+text, err, ok)
			}
			if err != nil {
				continue
			}
			got := "unset"
			if v, set := res.Vars["X"]; set {
				got = v.Text
			}
			if ok && got != want {
				t.Errorf("%q: X = %q, bash has %q (tier %v %s)", prefix+text, got, want, res.Tier, res.Reason)
			}
			if res.Tier == Native {
				native++
			}
		}
	}
	const nativeMin = 60
	if native < nativeMin {
		t.Errorf("only %d were evaluated natively", native)
	}
}

// TestSparse: an array without an element 0 is empty where it is used as a
// plain variable; the text of another element is not its value.
func TestSparse(t *testing.T) {
	for _, text := range []string{"X=([5]=x)", "X[1]=b", "declare -A X=([k]=v)", "X=(a b); unset 'X[0]'"} {
		res, err := Evaluate(context.Background(), fixture(t, text+"\n"))
		if err != nil || res.Vars["X"].Text != "" || len(res.Vars["X"].Array) != 1 {
			t.Errorf("%q: %+v, error %v", text, res, err)
		}
	}
}

// TestLeavesLoop: break and continue of a fragment have no loop to leave; what
// follows is evaluated, and what they would skip is checked.
func TestLeavesLoop(t *testing.T) {
	for _, word := range []string{"break", "continue"} {
		res, err := Evaluate(context.Background(), fixture(t, "A=1\n"+word+"\n", "X=2\n"))
		if err != nil || res.Vars["A"].Text != "1" || res.Vars["X"].Text != "2" {
			t.Errorf("%s: %+v, error %v", word, res, err)
		}
		o := fixture(t, "eval dry_run=1\n"+word+"\n")
		o.RefuseVariable = refuse("dry_run")
		if res, err := Evaluate(context.Background(), o); err == nil {
			t.Errorf("%s: accepted: %+v", word, res)
		}
	}
}

// TestDisturbed: a report that a fragment wrote into is no report.
func TestDisturbed(t *testing.T) {
	for _, text := range []string{
		"echo hi >&9", "printf 'V\\0ehu\\0x\\0nan\\0' >&9", "printf 'V\\0ehu\\0\\0' >&9", "printf 'X\\0' >&9", "BASH_XTRACEFD=9; set -x; :",
		"printf 'D\\0%s\\0' \"${__confd_nonce-}\" >&9; exit 0", "__confd_vars() { :; }", "__confd_f=(/dev/null)",
		"set +e; false; set -e", "set -u +e\nfalse\nset -e", "set +o errexit; false; set -o errexit",
	} {
		res, err := Evaluate(context.Background(), fixture(t, needBash+"X=1\n"+text+"\n", "Y=2\n"))
		if err == nil {
			t.Errorf("%q: accepted: %+v", text, res)
		}
	}
}

// TestSubshellOptions: the options of a subshell are its own.
func TestSubshellOptions(t *testing.T) {
	res, err := Evaluate(context.Background(), fixture(t, "( set +e; false; true )\nX=\"$(set +e; false; echo a)\"\n"))
	if err != nil || res.Vars["X"].Text != "a" {
		t.Errorf("%+v, error %v", res, err)
	}
}

// TestNested: a megabyte of openers is an error, not the end of the program.
func TestNested(t *testing.T) {
	for _, unit := range []string{"$(", "((", "\"$(", "{ ", "if "} {
		o := fixture(t, "X="+strings.Repeat(unit, (1<<20-8)/len(unit)))
		if _, err := Evaluate(context.Background(), o); err == nil {
			t.Errorf("%q: accepted", unit)
		}
	}
}

// TestLong: a long fragment is evaluated, and refused assignments are found in
// it.
func TestLong(t *testing.T) {
	long := strings.Repeat("# a comment\n", parsedMax/10)
	o := fixture(t, long+"X=1\n")
	o.RefuseVariable = refuse("dry_run")
	if res, err := Evaluate(context.Background(), o); err != nil || res.Tier != Bash || res.Vars["X"].Text != "1" {
		t.Errorf("error %v", err)
	}
	o = fixture(t, long+"dry_run=1\n")
	o.RefuseVariable = refuse("dry_run")
	if _, err := Evaluate(context.Background(), o); err == nil {
		t.Error("a refused assignment in a long fragment was accepted")
	}
	var se *SyntaxError
	if _, err := Evaluate(context.Background(), fixture(t, long+"if\n")); !errors.As(err, &se) || se.Line == 0 {
		t.Errorf("error %#v", err)
	}
}

// TestGrowing: values that double are not made in this process, and appending
// takes no longer than the evaluation may.
func TestGrowing(t *testing.T) {
	for _, text := range []string{
		"X=aaaaaaaaaaaaaaaa; for i in $(seq 1 60); do X=\"$X$X\"; done", "X=aaaaaaaaaaaaaaaa; for i in $(seq 1 60); do X+=$X; done",
		"X=(a b); for i in $(seq 1 60); do X=(\"${X[@]}\" \"${X[@]}\"); done", "X=aa; for i in $(seq 1 60); do X=${X//a/aaaaaaaa}; done",
	} {
		o := fixture(t, text+"\n")
		o.fillIn()
		frags, err := o.load(context.Background(), []string{testDir + "/a.conf"})
		if err != nil {
			t.Fatal(err)
		}
		var beyond *notStatic
		if _, err := o.native(context.Background(), frags); !errors.As(err, &beyond) {
			t.Errorf("%q: error %v", text, err)
		}
	}
	const times = 5000
	var b strings.Builder
	for i := 1; i <= times; i++ {
		b.WriteString(" " + strconv.Itoa(i))
	}
	res, err := Evaluate(context.Background(), fixture(t, "for i in $(seq 1 "+strconv.Itoa(times)+"); do X+=\" $i\"; done\n"))
	if err != nil || res.Vars["X"].Text != b.String() || res.Tier == Native && len(res.Vars["X"].Parts) != times {
		t.Errorf("error %v", err)
	}
}

// TestCancelled: native evaluation ends with its context.
func TestCancelled(t *testing.T) {
	o := fixture(t, "for i in $(seq 1 5000); do for j in 1 2 3; do :; done; done\n")
	o.fillIn()
	frags, err := o.load(context.Background(), []string{testDir + "/a.conf"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := o.native(ctx, frags); err == nil || !strings.Contains(err.Error(), "took too long") {
		t.Errorf("error %v", err)
	}
}
