// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
)

const testDir = "/etc/test.d"

// strict are the shell options of the firewall's fragments.
func strict() Shell {
	return Shell{Errexit: true, Nounset: true, Pipefail: true, Errtrace: true, Nullglob: true}
}

// fixture writes fragments, in order, to a root of their own.
func fixture(t testing.TB, fragments ...string) Options {
	t.Helper()
	root := fsx.Root(t.TempDir())
	if err := root.MkdirAll(testDir, 0o755); err != nil {
		t.Fatal(err)
	}
	for i, text := range fragments {
		name := filepath.Join(testDir, string(rune('a'+i))+".conf")
		if err := os.WriteFile(root.Path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Root: root, Dirs: []string{testDir}, Shell: strict(),
		Account: func(name string) (uint32, bool) { return 0, name == "root" },
		QubesDB: func(key string) (string, bool) { return "10.137.0.1", key == "/qubes-gateway" },
	}
}

// TestNative holds what the static subset yields.
func TestNative(t *testing.T) {
	for _, c := range []struct{ name, fragment, want string }{
		{"plain", "X=abc", "abc"},
		{"empty", "X=", ""},
		{"append", "X=a\nX+=\" b \"", "a b "},
		{"append to unset", "X+=b", "b"},
		{"single quotes", `X='a $b "c" \n'`, `a $b "c" \n`},
		{"double quotes", `Y=1; X="a $Y \$Y \" \\ \x"`, `a 1 $Y " \ \x`},
		{"mixed quotes", `X=a'b'"c"\ d`, "abc d"},
		{"continued line", "X=\"\\\n  a \\\n  b\"", "  a   b"},
		{"continued bare", "X=a\\\nb", "ab"},
		{"comment", "X=a # b", "a"},
		{"hash in word", "X=22#x", "22#x"},
		{"id", `X=" $(id -u root) "`, " 0 "},
		{"seq", `X=" $(seq 9 11) "`, " 9\n10\n11 "},
		{"empty seq", `X="$(seq 2 1)"`, ""},
		{"qubesdb", `X="$(qubesdb-read /qubes-gateway 2>/dev/null)" || X=none`, "10.137.0.1"},
		{"qubesdb fails", `X="$(qubesdb-read /nothing 2>/dev/null)" || X=none`, "none"},
		{"failing id caught", `X="$(id -u nobody-here 2>/dev/null)" || true`, ""},
		{"default", `X=${Y:-d}`, "d"},
		{"default of empty", `Y=; X="${Y:-d}${Y-e}"`, "d"},
		{"default unused", `Y=y; X="${Y:-d}"`, "y"},
		{"alternative", `Y=y; X="${Y:+a}${Z:+b}${Y+c}"`, "ac"},
		{"assigning default", `[ -n "${X:=d}" ]`, "d"},
		{"length", `Y=abc; X=${#Y}`, "3"},
		{"if", `if [ -n "${Y:-}" ]; then X=1; elif [[ a == a ]]; then X=2; else X=3; fi`, "2"},
		{"else", `if false; then X=1; else X=3; fi`, "3"},
		{"and or", `[ a = b ] && X=1 || X=2`, "2"},
		{"not", `if ! [ -e /nothing ]; then X=1; fi`, "1"},
		{"idiom", `[ -n "${X:-}" ] || X=d`, "d"},
		{"for", `X=; for i in 1 2 "3 4"; do X+="<$i>"; done`, "<1><2><3 4>"},
		{"for splits", "Y=\" a\tb\nc \"; X=; for i in $Y; do X+=\"<$i>\"; done", "<a><b><c>"},
		{"for joins", `Y="a b"; X=; for i in x$Y"z"; do X+="<$i>"; done`, "<xa><bz>"},
		{"for quoted empty", `X=; for i in "" ''; do X+="<$i>"; done`, "<><>"},
		{"case", `case a in b|a) X=1 ;; *) X=2 ;; esac`, "1"},
		{"case default", `case "$(id -u root)" in 1) X=1 ;; *) X=2 ;; esac`, "2"},
		{"numbers", `if [ 3 -gt 2 ] && [[ 2 -le 2 && ! 1 -eq 2 ]]; then X=1; fi`, "1"},
		{"return", "X=1\nreturn 0\nX=2", "1"},
		{"guard", "[ -d /etc ] || return 0\nX=1", "1"},
		{"block", "{ X=1; }", "1"},
		{"several on a line", "A=1 X=2", "2"},
		{"function", "f() { X=1; g; return 0; X=2; }\ng() { X+=$Y; }\nY=y\nf", "1y"},
		{"function never called", "f() { echo never; }\nX=1", "1"},
		{"array", "A=(1 \"2 3\" 4)\nA+=(5)\nX=$A; for i in \"${A[@]}\"; do X+=\"<$i>\"; done", "1<1><2 3><4><5>"},
		{"ansi", `X=$'a\tb\'\\'`, "a\tb'\\"},
		{"suffix", `Y=abc; X=${Y%c}${Y%x}`, "ababc"},
		{"prefix", `Y=abc; X=${Y#a}`, "bc"},
		{"replace", `Y=a.b.c; X=${Y/./-}${Y//./_}`, "a-b.ca_b_c"},
		{"case of letters", `Y=aB; X=${Y^^}${Y,,}`, "ABab"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := fixture(t, c.fragment)
			res, err := Evaluate(context.Background(), o)
			if err != nil {
				t.Fatal(err)
			}
			if res.Tier != Native {
				t.Errorf("evaluated by bash: %s", res.Reason)
			}
			if got := res.Vars["X"].Text; got != c.want {
				t.Errorf("X = %q, want %q", got, c.want)
			}
		})
	}
}

// TestBash holds what only bash can evaluate, with the same outcome.
func TestBash(t *testing.T) {
	for _, c := range []struct{ name, fragment, want string }{
		{"function", "f() { X=\"$1\"; }\nf abc", "abc"},
		{"all of an array", "A=(1 2 3)\nX=\"${A[*]}\"", "1 2 3"},
		{"arithmetic", "X=$((1 + 2))", "3"},
		{"here document", "read -r X <<END\nabc\nEND", "abc"},
		{"pipeline", `X="$(printf 'a\n' | tr a b)"`, "b"},
		{"while", "i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; X=$i", "3"},
		{"pattern", `Y=abc; X=${Y%[c]}`, "ab"},
		{"hexadecimal", `X=$'\x41'`, "A"},
		{"exit in a subshell", `( exit 0 ); X=1`, "1"},
		{"IFS", "IFS=,; Y=a,b; X=; for i in $Y; do X+=\"<$i>\"; done", "<a><b>"},
		{"newlines", "X=$(printf 'a\\n\\nb\\n\\n')", "a\n\nb"},
		{"element", "A=(1 2)\nA[1]=3\nX=${A[1]}", "3"},
		{"empty array", "A=()\nX=${A[0]-none}", "none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			res, err := Evaluate(context.Background(), fixture(t, c.fragment))
			if err != nil {
				t.Fatal(err)
			}
			if res.Tier != Bash || !strings.HasPrefix(res.Reason, testDir+"/a.conf:") {
				t.Errorf("tier %v, reason %q", res.Tier, res.Reason)
			}
			if got := res.Vars["X"].Text; got != c.want {
				t.Errorf("X = %q, want %q", got, c.want)
			}
		})
	}
}

// needBash makes a fragment leave the static subset.
const needBash = "((1))\n"

// TestFailures holds, for both tiers, what is an error, and where.
func TestFailures(t *testing.T) {
	for _, c := range []struct{ name, fragment, at, text string }{
		{"exit 0", "X=1\nexit 0\n", ":2", "exit is not allowed"},
		{"exit 1", "exit 1\n", ":1", "exit is not allowed"},
		{"exit bare", "exit\n", ":1", "exit is not allowed"},
		{"exec", "exec true\n", ":1", "exec is not allowed"},
		{"false", "X=1\nfalse\nY=1\n", ":2", "status 1"},
		{"failing substitution", "X=$(id -u nobody-here 2>/dev/null)\n", ":1", "status 1"},
		{"return 1", "X=1\nreturn 1\n", "", "status 1"},
		{"last line false", "X=1\n[ a = b ] && X=2\n", "", "status 1"},
		{"unset variable", "X=1\nX=$NOPE\n", ":2", "NOPE: unbound variable"},
		{"refused variable", "X=1\nif false; then\n dry_run=1\nfi\n", ":3", "assigning dry_run is refused: internal"},
		{"refused function", "main() { :; }\n", ":1", "the function main is refused: internal"},
		{"unknown command", "X=1\nno-such-command-here\n", ":2", "status 127"},
	} {
		for _, prefix := range []string{"", needBash} {
			t.Run(c.name, func(t *testing.T) {
				at := c.at
				if prefix != "" && at != "" {
					at = ":" + string(rune(at[1]+1))
				}
				o := fixture(t, prefix+c.fragment)
				o.RefuseVariable = refuse("dry_run")
				o.RefuseFunction = refuse("main")
				_, err := Evaluate(context.Background(), o)
				var ee *EvalError
				if !errors.As(err, &ee) {
					t.Fatalf("error %v", err)
				}
				if !strings.HasPrefix(err.Error(), testDir+"/a.conf"+at) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("error %q, want %s%s and %q", err, testDir+"/a.conf", at, c.text)
				}
			})
		}
	}
}

func refuse(name string) func(string) string {
	return func(n string) string {
		if n == name {
			return "internal"
		}
		return ""
	}
}

// TestNeverSuccess: a fragment of the bash tier that gets rid of the shell or
// of its options is no success.
func TestNeverSuccess(t *testing.T) {
	for _, fragment := range []string{
		"trap - ERR\nset +e\nfalse\n", "set +e\n", "set +u\n", "kill -9 $$\n", "kill $$\n", "trap 'exit 0' EXIT\nexit 0\n",
		"exec 9>&-\n", "eval 'exit 0'\n", "eval dry_run=1\n", "printf -v dry_run 1\n", "g() { exit 0; }; g\n",
		"declare -g dry_run=1\n", "builtin exit 0\n", "command exit 0\n",
	} {
		t.Run(fragment, func(t *testing.T) {
			o := fixture(t, fragment)
			o.RefuseVariable = refuse("dry_run")
			if res, err := Evaluate(context.Background(), o); err == nil {
				t.Errorf("accepted: %v", res.Vars)
			}
		})
	}
}

// TestOrder: the first fragment's failure counts, a later syntax error only
// behind it; later assignments win.
func TestOrder(t *testing.T) {
	_, err := Evaluate(context.Background(), fixture(t, "false\n", "if\n"))
	if err == nil || !strings.HasPrefix(err.Error(), testDir+"/a.conf:1: ") {
		t.Errorf("error %v", err)
	}
	_, err = Evaluate(context.Background(), fixture(t, "X=1\n", "if\n"))
	var se *SyntaxError
	if !errors.As(err, &se) || se.File != testDir+"/b.conf" || se.ExitCode != 2 || !strings.Contains(se.Text, testDir+"/b.conf: line ") {
		t.Errorf("error %#v", err)
	}
	res, err := Evaluate(context.Background(), fixture(t, "X=1\nY=\"$X\"\n", "X=2\n"))
	if err != nil || res.Vars["X"].Text != "2" || res.Vars["Y"].Text != "1" {
		t.Errorf("%v, error %v", res, err)
	}
}

// TestProvenance: each part of a value knows where it is from, in both tiers.
func TestProvenance(t *testing.T) {
	for _, prefix := range []string{"\n", needBash} {
		o := fixture(t, prefix+"X=a\n", "X+=\" b\"\n")
		o.Environ = []string{"E=env", "E2=old"}
		os.WriteFile(o.Root.Path(testDir+"/c.conf"), []byte("E2=new\nE+=more\n"), 0o644)
		res, err := Evaluate(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		x := res.Vars["X"]
		if x.Text != "a b" || len(x.Parts) != 2 || x.Parts[0].Origin.String() != testDir+"/a.conf:2" || x.Parts[1].Origin.String() != testDir+"/b.conf:1" || x.Parts[1].Text != " b" {
			t.Errorf("X = %+v", x)
		}
		e := res.Vars["E"]
		if e.Text != "envmore" || e.Parts[0].Origin.String() != "environment" || e.Parts[1].Origin.String() != testDir+"/c.conf:2" {
			t.Errorf("E = %+v", e)
		}
		if e2 := res.Vars["E2"]; e2.Text != "new" || e2.Parts[0].Origin.Line != 1 {
			t.Errorf("E2 = %+v", e2)
		}
	}
}

// TestSteeringEnvironment: what could steer bash never reaches it.
func TestSteeringEnvironment(t *testing.T) {
	evil := filepath.Join(t.TempDir(), "evil")
	os.WriteFile(evil, []byte("X=evil\nexit 0\n"), 0o644)
	o := fixture(t, needBash+"X=good\n[ -z \"${LD_PRELOAD:-}\" ]\n")
	o.Environ = []string{"BASH_ENV=" + evil, "ENV=" + evil, "SHELLOPTS=noexec", "PATH=/nowhere", "IFS=x", "LD_PRELOAD=/nothing.so", "BASH_FUNC_f%%=() { X=evil; }", "PS4=$(exit)"}
	res, err := Evaluate(context.Background(), o)
	if err != nil || res.Vars["X"].Text != "good" {
		t.Errorf("%v, error %v", res, err)
	}
}

// TestUntrusted: files that others can change are refused, with the way out.
func TestUntrusted(t *testing.T) {
	for name, spoil := range map[string]func(root fsx.Root) error{
		"writable by everybody": func(r fsx.Root) error { return os.Chmod(r.Path(testDir+"/a.conf"), 0o666) },
		"writable by a group": func(r fsx.Root) error {
			return errors.Join(os.Chown(r.Path(testDir+"/a.conf"), 0, 4), os.Chmod(r.Path(testDir+"/a.conf"), 0o664))
		},
		"owned by a user":    func(r fsx.Root) error { return os.Chown(r.Path(testDir+"/a.conf"), 1000, 0) },
		"directory writable": func(r fsx.Root) error { return os.Chmod(r.Path(testDir), 0o777) },
		"link into a user's": func(r fsx.Root) error {
			return errors.Join(r.MkdirAll("/home", 0o755), os.Chown(r.Path("/home"), 1000, 0), os.WriteFile(r.Path("/home/x"), nil, 0o644),
				os.Symlink(r.Path("/home/x"), r.Path(testDir+"/l.conf")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := fixture(t, "X=1\n")
			if err := spoil(o.Root); err != nil {
				t.Fatal(err)
			}
			if _, err := Evaluate(context.Background(), o); err == nil || !strings.Contains(err.Error(), "is refused") || strings.Contains(err.Error(), string(o.Root)) {
				t.Errorf("error %v", err)
			}
			o.AnyOwner = true
			if _, err := Evaluate(context.Background(), o); err != nil {
				t.Errorf("with AnyOwner: %v", err)
			}
		})
	}
}

// TestUnreadable: what is no readable text file is an error naming it.
func TestUnreadable(t *testing.T) {
	for name, spoil := range map[string]func(p string) error{
		"directory":     func(p string) error { return os.Mkdir(p, 0o755) },
		"dangling link": func(p string) error { return os.Symlink("/nothing/here", p) },
		"NUL":           func(p string) error { return os.WriteFile(p, []byte("X=1\nY=\x00\n"), 0o644) },
		"5 MB":          func(p string) error { return os.WriteFile(p, bytes.Repeat([]byte("#"), 5<<20), 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			o := fixture(t)
			if err := spoil(o.Root.Path(testDir + "/x.conf")); err != nil {
				t.Fatal(err)
			}
			if _, err := Evaluate(context.Background(), o); err == nil || !strings.HasPrefix(err.Error(), testDir+"/x.conf") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestEndless: a loop without end is ended, and what it started with it.
func TestEndless(t *testing.T) {
	for _, fragment := range []string{"while :; do :; done\n", "sleep 1000 &\nsleep 1000\n"} {
		o := fixture(t, fragment)
		o.Timeout = 300 * time.Millisecond
		start := time.Now()
		_, err := Evaluate(context.Background(), o)
		if err == nil || !strings.Contains(err.Error(), "took too long") {
			t.Errorf("error %v", err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("ended after %v", took)
		}
	}
}

// TestMissingAccount: id's own words on standard error.
func TestMissingAccount(t *testing.T) {
	var stderr bytes.Buffer
	o := fixture(t, "X=\"$(id -u nobody-here)\" || true\n")
	o.Stderr = &stderr
	if _, err := Evaluate(context.Background(), o); err != nil || stderr.String() != "id: 'nobody-here': no such user\n" {
		t.Errorf("error %v, standard error %q", err, stderr.String())
	}
}

// TestAccounts reads the account database as it is.
func TestAccounts(t *testing.T) {
	root := fsx.Root(t.TempDir())
	root.MkdirAll("/etc", 0o755)
	os.WriteFile(root.Path("/etc/passwd"), []byte("root:x:0:0::/root:/bin/sh\nbroken\ntor:x:102:1:::\nroot:x:5:5::/:/\n"), 0o644)
	account := Accounts(root)
	for name, want := range map[string]uint32{"root": 0, "tor": 102} {
		if uid, ok := account(name); !ok || uid != want {
			t.Errorf("%s: %d, %v", name, uid, ok)
		}
	}
	if _, ok := account("broken"); ok {
		t.Error("a broken line is an account")
	}
}
