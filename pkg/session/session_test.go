// SPDX-License-Identifier: GPL-3.0-or-later

package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"whonix-networking/pkg/fsx"
)

// place is a directory of fragments and what sourcing them says.
type place struct {
	t    *testing.T
	dir  string
	said *os.File
	warn []string
	o    Options
}

func newPlace(t *testing.T, files map[string]string) *place {
	t.Helper()
	p := &place{t: t, dir: t.TempDir()}
	if err := os.MkdirAll(filepath.Join(p.dir, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(p.dir, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if p.said, err = os.Create(filepath.Join(p.dir, "said")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.said.Close() })
	p.o = Options{
		Root: fsx.Root(p.dir), Dirs: []string{"/etc"}, Name: "/usr/libexec/uwt/uwtwrapper", Function: "source_config_folder",
		Environ: []string{"PATH=/usr/bin:/bin", "HOME=/root", "KNOWN=1"}, Arrays: []string{"switch"},
		Names: []string{"global", "answer"}, Hooks: []string{"hook"}, Stderr: p.said,
		Preset: map[string]string{"SCRIPTNAME": "uwtwrapper"},
		Warn:   func(m string) { p.warn = append(p.warn, m) },
	}
	return p
}

func (p *place) source() (*Session, error) {
	p.t.Helper()
	s, err := Source(context.Background(), p.o)
	if s != nil {
		p.t.Cleanup(s.Close)
	}
	return s, err
}

func (p *place) mustSource() *Session {
	p.t.Helper()
	s, err := p.source()
	if err != nil {
		p.t.Fatalf("%v; said: %s", err, p.text())
	}
	return s
}

func (p *place) text() string {
	data, err := os.ReadFile(p.said.Name())
	if err != nil {
		p.t.Fatal(err)
	}
	return string(data)
}

// TestPlain: what users write is read without a shell.
func TestPlain(t *testing.T) {
	p := newPlace(t, map[string]string{
		"30_default.conf": "#!/bin/bash\n\n## text $(x) `y`\nglobal=\"1\"\n",
		"50_user.conf":    "switch[\"/usr/bin/a\"]=\"0\" # why\nswitch[/usr/bin/b]=1; switch['c d']='x y'\n\texport NEW=a'b'\"c\"/d KNOWN=2\nglobal=0",
		"60.conf~":        "exit 7\n",
		".70.conf":        "exit 7\n",
	})
	s := p.mustSource()
	if s.Reason != "" || s.Vars["global"] != "0" || !maps.Equal(s.Arrays["switch"], map[string]string{"/usr/bin/a": "0", "/usr/bin/b": "1", "c d": "x y"}) {
		t.Errorf("%+v", s.State)
	}
	if want := []string{"PATH=/usr/bin:/bin", "HOME=/root", "KNOWN=2", "NEW=abc/d"}; !slices.Equal(s.Environ, want) {
		t.Errorf("%q, want %q", s.Environ, want)
	}
	for name, want := range map[string]string{"global": "/etc/50_user.conf:4", "switch[/usr/bin/b]": "/etc/50_user.conf:2", "HOME": "environment"} {
		if got := s.Origins[name].String(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestShell: every idiom the contract names, in bash.
func TestShell(t *testing.T) {
	for name, c := range map[string]struct {
		text   string
		global string
		want   map[string]string
	}{
		"compound":            {"switch=( [k]=v )", "", map[string]string{"k": "v"}},
		"compound, added":     {"switch[a]=1\nswitch+=( [k]=v )", "", map[string]string{"a": "1", "k": "v"}},
		"loop":                {"for x in a b; do switch[/usr/bin/$x]=0; done", "", map[string]string{"/usr/bin/a": "0", "/usr/bin/b": "0"}},
		"appended":            {"switch[a]=1; switch[a]+=2", "", map[string]string{"a": "12"}},
		"arguments":           {"global=$#:$2; shift; set -- x", "2:b  c", map[string]string{}},
		"local":               {"local x=3; global=$x", "3", map[string]string{}},
		"names":               {`global="$0 ${BASH_SOURCE[0]##*/} ${FUNCNAME[0]} ${FUNCNAME[1]} $SCRIPTNAME ${i##*/}"`, "/usr/libexec/uwt/uwtwrapper x.conf source source_config_folder uwtwrapper x.conf", map[string]string{}},
		"declared local":      {"declare -A switch; switch[a]=1", "", map[string]string{}},
		"false last command":  {"global=1; [ 1 = 2 ] && global=2", "1", map[string]string{}},
		"return 0":            {"global=1\nreturn 0\nglobal=2", "1", map[string]string{}},
		"function":            {"f() { local v=$1; global=$v; }\nf 5", "5", map[string]string{}},
		"unset":               {"global=1; switch[a]=1; unset global 'switch[a]'", "", map[string]string{}},
		"nounset is off":      {`global="x$nothing"`, "x", map[string]string{}},
		"carriage return":     {"global=0\r\n", "0\r", map[string]string{}},
		"nullglob":            {"set -- /nowhere/*; global=$#", "0", map[string]string{}},
		"input":               {"read -r x || global=none", "none", map[string]string{}},
		"words in a value":    {"global=$(echo \"a  b\")", "a  b", map[string]string{}},
		"mark":                {"\xef\xbb\xbfglobal=$((1+1))", "2", map[string]string{}},
		"array by itself":     {"switch=$((1+0))", "", map[string]string{"0": "1"}},
		"known descriptors":   {"exec 3</dev/null 4>/dev/null 9>&1; global=1", "1", map[string]string{}},
		"IFS":                 {"IFS=x; global=axb; switch[axb]=x$((1))", "axb", map[string]string{"axb": "x1"}},
		"shadowed builtins":   {"printf() { echo no; }; local() { echo no; }; global=$((1))", "1", map[string]string{}},
		"a value with lines":  {"global=$'a\\nb'", "a\nb", map[string]string{}},
		"arrays of other":     {"x=(1 2); global=${#x[@]}", "2", map[string]string{}},
		"environment of bash": {"global=${BASH_ENV-}${POSIXLY_CORRECT-}$(type -t evil || true)", "", map[string]string{}},
	} {
		p := newPlace(t, map[string]string{"x.conf": c.text + "\n"})
		p.o.Args = []string{"a", "b  c"}
		p.o.Environ = append(p.o.Environ, "BASH_ENV=/nowhere", "POSIXLY_CORRECT=1", "SHELLOPTS=xtrace", "BASH_FUNC_evil%%=() { echo; }")
		s, err := p.source()
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, p.text())
			continue
		}
		got := s.Arrays["switch"]
		if s.Reason == "" || s.Vars["global"] != c.global || len(got)+len(c.want) > 0 && !maps.Equal(got, c.want) {
			t.Errorf("%s: %q %v, want %q %v", name, s.Vars["global"], got, c.global, c.want)
		}
	}
}

// TestFailures: an unguarded failure anywhere ends it, and says where.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct{ text, where, command string }{
		"command":      {"global=$((1))\nfalse\n", "/etc/x.conf:2", "false"},
		"substitution": {"x=$(false)", "/etc/x.conf:1", "x=$(false)"},
		"unknown":      {"\nno-such-command", "/etc/x.conf:2", "no-such-command"},
		"in function":  {"f() {\nfalse\n}\nf", "/etc/x.conf:2", "false"},
		"syntax":       {"global=$((1))\nif true\n", "", "/bin/bash --norc --noprofile -n \"$i\""},
		"errexit off":  {"set +e\nfalse\nglobal=1", "/etc/x.conf:2", "false"},
		"pipeline":     {"false | true", "/etc/x.conf:1", "true"},
	} {
		p := newPlace(t, map[string]string{"x.conf": c.text})
		_, err := p.source()
		var failed *Failed
		if !errors.As(err, &failed) || c.where != "" && failed.Origin.String() != c.where || failed.Command != c.command {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := newPlace(t, map[string]string{"x.conf": "return 3\n"})
	if _, err := p.source(); err == nil {
		t.Error("a file that returns a failure is none")
	}
	p = newPlace(t, map[string]string{"x.conf": "global=$((1))\nif true\n"})
	if _, err := p.source(); err == nil || !strings.Contains(p.text(), "x.conf: line 3: syntax error") {
		t.Errorf("%v: %s", err, p.text())
	}
}

// TestEnds: exit, exec and signals are told with their status.
func TestEnds(t *testing.T) {
	for text, status := range map[string]int{"exit 42": 42, "exit": 0, "exit 255": 255, "exec false": 1, "kill -TERM $$": 143} {
		p := newPlace(t, map[string]string{"a.conf": "global=1\n", "x.conf": text, "y.conf": "exit 7\n"})
		_, err := p.source()
		var ended *Ended
		if !errors.As(err, &ended) || ended.Status != status || ended.File != "/etc/x.conf" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestEffects: what a fragment does to its process, it does to ours.
func TestEffects(t *testing.T) {
	t.Chdir("/")
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &before); err != nil {
		t.Fatal(err)
	}
	mask := syscall.Umask(0o022)
	defer syscall.Umask(mask)
	p := newPlace(t, map[string]string{"x.conf": "cd /usr; umask 077; ulimit -Sc 0; export ADDED=1 KNOWN=2; unset HOME; : $((1))\n"})
	s := p.mustSource()
	if err := s.Adopt(); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_CORE, &before)
	dir, err := os.Getwd()
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		t.Fatal(err)
	}
	got := syscall.Umask(0o022)
	if err != nil || dir != "/usr" || got != 0o077 || core.Cur != 0 {
		t.Errorf("%v: in %s, umask %o, core %d", err, dir, got, core.Cur)
	}
	env := slices.DeleteFunc(slices.Clone(s.Environ), func(kv string) bool { return strings.Contains(kv, "PWD=") })
	if want := []string{"PATH=/usr/bin:/bin", "KNOWN=2", "ADDED=1"}; !slices.Equal(env, want) {
		t.Errorf("%q, want %q", env, want)
	}
}

// TestHook: a function that a fragment defines runs with what was set.
func TestHook(t *testing.T) {
	p := newPlace(t, map[string]string{"x.conf": "hook() { answer=\"$1 $parent\"; switch[x]=1; }\n"})
	p.o.Args = []string{"first"}
	s := p.mustSource()
	if !slices.Equal(s.Defined, []string{"hook"}) {
		t.Fatalf("%v", s.Defined)
	}
	if err := s.Call("hook", map[string]string{"parent": "a=b 'c'\n"}); err != nil {
		t.Fatal(err)
	}
	if s.Vars["answer"] != "first a=b 'c'\n" || s.Arrays["switch"]["x"] != "1" {
		t.Errorf("%q %v", s.Vars["answer"], s.Arrays)
	}
	p = newPlace(t, map[string]string{"x.conf": "hook() { exit 9; }\n"})
	s = p.mustSource()
	var ended *Ended
	if err := s.Call("hook", nil); !errors.As(err, &ended) || ended.Status != 9 {
		t.Errorf("%v", err)
	}
}

// TestFiles: what can be passed over is, with a warning; what cannot be read
// ends it.
func TestFiles(t *testing.T) {
	p := newPlace(t, map[string]string{"50.conf": "global=1\n", "crlf.conf": "answer=0\r\n", "bom.conf": "\xef\xbb\xbfx=1\n"})
	if err := os.Mkdir(filepath.Join(p.dir, "etc/dir.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(p.dir, "etc/link.conf")); err != nil {
		t.Fatal(err)
	}
	s := p.mustSource()
	if s.Vars["global"] != "1" || s.Vars["answer"] != "0\r" || len(p.warn) != 4 {
		t.Errorf("%v %q", s.Vars, p.warn)
	}
	p = newPlace(t, map[string]string{"x.conf": "global=1\n"})
	p.o.OnlyRoot = true
	if err := os.Chmod(filepath.Join(p.dir, "etc/x.conf"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := p.source(); err == nil || !strings.Contains(err.Error(), "/etc/x.conf") {
		t.Errorf("a file that everybody can write: %v", err)
	}
}

// TestOrigins: also with bash each value knows its file.
func TestOrigins(t *testing.T) {
	p := newPlace(t, map[string]string{"10.conf": "global=1\nswitch[a]=1\n", "20.conf": "for x in a b; do\n switch[$x]=0\ndone\n", "30.conf": "#\nglobal=2\n"})
	p.o.Origins = true
	s := p.mustSource()
	for name, want := range map[string]string{"global": "/etc/30.conf:2", "switch[b]": "/etc/20.conf:2"} {
		if got := s.Origins[name].String(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestPreview runs nothing.
func TestPreview(t *testing.T) {
	p := newPlace(t, map[string]string{"10.conf": "global=1\nexit 3\nwhile true; do sleep 1; done\nswitch[a]=0\n"})
	st := Preview(p.o)
	if st.Vars["global"] != "1" || st.Arrays["switch"]["a"] != "0" || st.Origins["switch[a]"].Line != 4 {
		t.Errorf("%+v", st)
	}
}

// TestPlainIsBash holds the plain reading to what bash makes of the same text.
func TestPlainIsBash(t *testing.T) {
	pieces := []string{"global", "switch", "KNOWN", "answer", "=", "=", "=", "[", "]", "\"", "\"", "'", "'", " ", "\n", "\n", ";", "#", "export ", "a", "/usr/bin/x",
		"0", "1", "\t", ",", ":", "%", "@", "+", "-", "é", "\\", "[\"k\"]=", "[/x]=", "global=0\n", "switch[a]=1 ", "export KNOWN=3\n"}
	taken := 0
	rapid.Check(t, func(rt *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 1, 14).Draw(rt, "pieces"), "")
		if _, err := plain([]byte(text), []string{"switch"}); err != nil {
			return
		}
		taken++
		p := newPlace(t, map[string]string{"x.conf": text})
		fast := p.mustSource()
		forced := newPlace(t, map[string]string{"x.conf": text, "y.conf": ":\n"})
		slow, err := forced.source()
		if err != nil {
			rt.Fatalf("%q: bash says %v: %s", text, err, forced.text())
		}
		if fast.Reason != "" || slow.Reason == "" {
			rt.Fatalf("%q: %q %q", text, fast.Reason, slow.Reason)
		}
		a, b := fmt.Sprintf("%q %q %v", fast.Vars["global"], fast.Vars["answer"], fast.Arrays["switch"]), fmt.Sprintf("%q %q %v", slow.Vars["global"], slow.Vars["answer"], slow.Arrays["switch"])
		if a != b || !slices.Equal(fast.Environ, slow.Environ) {
			rt.Fatalf("%q: plainly %s %q; bash %s %q", text, a, fast.Environ, b, slow.Environ)
		}
	})
	if taken == 0 {
		t.Error("nothing generated was plain")
	}
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte("switch[\"/usr/bin/a\"]=\"0\" # why\nexport A=b; c=d\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, a := range plainLines(text, []string{"switch"}) {
			if a.name == "" || a.element && a.key == "" || strings.ContainsAny(a.value, "\x00\n") {
				t.Errorf("%q: %+v", text, a)
			}
		}
	})
}
