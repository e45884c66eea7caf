// SPDX-License-Identifier: GPL-3.0-or-later

package torrc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// disk is the real file system.
type disk struct{}

func (disk) Read(path string) ([]byte, error)       { return os.ReadFile(path) }
func (disk) Match(pattern string) ([]string, error) { return filepath.Glob(pattern) }
func (disk) Dir(path string) ([]string, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fs.ErrInvalid
	}
	entries, err := os.ReadDir(path)
	var out []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			out = append(out, filepath.Join(path, e.Name()))
		}
	}
	return out, err
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		" # nothing\n\n":                      "",
		"SocksPort 9050":                      "1 SocksPort=9050",
		"  SocksPort\t9050  # here\n":         "1 SocksPort=9050",
		"SocksPort 9050\r\nLog x\r\n":         "1 SocksPort=9050|2 Log=x",
		"+SocksPort 1\n/Log\n":                "1 +SocksPort=1|2 /Log=",
		"A b\\\nc # d\\\ne\nF g":              "1 A=bc e|4 F=g",
		"A b \\\n# a comment\nc\n":            "1 A=b c",
		`A "b # \"c\"\x41\101\n"` + "\nB c\n": "1 A=b # \"c\"AA\n|2 B=c",
		`A "b" # c` + "\n\nD e":               "1 A=b|3 D=e",
		"A#b\n":                               "1 A=",
		`DataDirectory "/a b/c"`:              "1 DataDirectory=/a b/c",
		`A b "c"`:                             `1 A=b "c"`,
		"%include /etc/x*":                    "1 %include=/etc/x*",
	} {
		lines, err := Parse("f", []byte(text))
		var got []string
		for _, l := range lines {
			got = append(got, fmt.Sprintf("%d %s%s=%s", l.Origin.Line, [...]string{"", "+", "/"}[l.Mode], l.Key, l.Value))
		}
		if err != nil || strings.Join(got, "|") != want {
			t.Errorf("%q: %q, %v, want %q", text, strings.Join(got, "|"), err, want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for text, want := range map[string]string{
		"\nA \"b\n":     "f:2: Invalid escape sequence in quoted string",
		`A "\q"`:        "f:1: Invalid escape sequence in quoted string",
		`A "\x00"`:      "f:1: Invalid escape sequence in quoted string",
		`A "\400"`:      "f:1: Invalid escape sequence in quoted string",
		`A "b`:          "f:1: Invalid escape sequence in quoted string",
		"A \"b\" c\n":   "f:1: Excess data after quoted string",
		"A b\nC d\x00e": "f:2: there is a NUL byte",
	} {
		if lines, err := Parse("f", []byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, %v, want %q", text, lines, err, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestInclude(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/inc/b.conf", "Nickname b\n")
	write(t, dir+"/inc/a.conf", "Nickname a\n")
	write(t, dir+"/inc/.hidden", "Nickname hidden\n")
	write(t, dir+"/inc/sub/c", "Nickname c\n")
	write(t, dir+"/self", "%include "+dir+"/self\n")
	write(t, dir+"/twice", "%include "+dir+"/twice\n%include "+dir+"/twice\n")
	write(t, dir+"/bad", "A \"b\n")
	for value, want := range map[string]string{
		dir + "/inc":        "a b",
		dir + "/inc/a.conf": "a",
		dir + "/inc/*":      "a b c",
		dir + "/inc/*.conf": "a b",
		dir + "/inc/?.conf": "a b",
		dir + "/inc/.h*":    "hidden",
		dir + "/none*":      "",
	} {
		write(t, dir+"/torrc", "%include "+value+"\n")
		lines, err := Load(disk{}, dir+"/torrc")
		var got []string
		for _, l := range lines {
			got = append(got, l.Value)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v, want %q", value, got, err, want)
		}
	}
	for value, want := range map[string]string{
		dir + "/none":  "/torrc:1: Error reading included configuration file or directory: ",
		"":             "/torrc:1: Error reading included configuration file or directory: \"\": no file is named",
		dir + "/self":  "nested too deeply",
		dir + "/twice": "nested too deeply",
		dir + "/bad":   "/bad:1: Invalid escape sequence",
	} {
		write(t, dir+"/torrc", "%include \""+value+"\"\n")
		if _, err := Load(disk{}, dir+"/torrc"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", value, err, want)
		}
	}
}

// TestIncludeTooMuch: wide and not deep is too much as well.
func TestIncludeTooMuch(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/torrc", strings.Repeat("%include "+dir+"/x\n", 100))
	write(t, dir+"/x", strings.Repeat("%include "+dir+"/y\n", 100))
	write(t, dir+"/y", "Nickname y\n")
	if _, err := Load(disk{}, dir+"/torrc"); err == nil || !strings.Contains(err.Error(), "too much is included") {
		t.Errorf("%v", err)
	}
}

func TestMerge(t *testing.T) {
	parse := func(text string) []Line {
		lines, err := Parse("f", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	for _, c := range []struct {
		defaults, file, args, key, want string
	}{
		{"SocksPort 1", "SocksPort 2\nsocksport 3", "", "SocksPort", "2 3"},
		{"SocksPort 1", "", "", "SocksPort", "1"},
		{"SocksPort 1", "+SocksPort 2", "__SocksPort 3", "SocksPort", "3"},
		{"SocksPort 1", "+SocksPort 2", "+__socksport 3", "SocksPort", "1 2 3"},
		{"SocksPort 1", "/SocksPort", "", "SocksPort", ""},
		{"", "+SocksPort 2\nSocksPort 3", "", "SocksPort", "2 3"},
		{"DataDirectory a", "DATADIRECTORY b\ndatadirectory c", "", "DataDirectory", "c"},
		{"DataDirectory a", "", "DataDirectory d", "DataDirectory", "d"},
		{"DataDirectory a", "DataDirectory", "", "DataDirectory", ""},
		{"SocksPort 1", "SocksPort", "", "SocksPort", "1"},
		{"", "ControlPortWriteToFile x\nControlPort 1", "", "ControlPort", "1"},
		{"", "DataDirectoryGroupReadable 1", "", "DataDirectory", ""},
		{"", "PidF x", "", "PidFile", "x"},
	} {
		var got []string
		config := Merge(parse(c.defaults), parse(c.file), parse(c.args))
		for _, l := range config.All(c.key) {
			got = append(got, l.Value)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q %q %q: %q, want %q", c.defaults, c.file, c.args, got, c.want)
		}
	}
}

func TestName(t *testing.T) {
	for key, want := range map[string]string{
		"SOCKSport": "SocksPort", "Socks": "Socks4Proxy", "TRANS": "TransListenAddress", "__controlport": "__ControlPort", "PortForwarding": "PortForwarding",
		"Foo": "", "": "", "SocksPortX": "",
	} {
		if got, ok := Name(key); got != want || ok != (want != "") {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// TestOptionsAsTor: the lists are those of Debian's Tor, if that is of the same
// version; of another, of the same series, no option may be missing.
func TestOptionsAsTor(t *testing.T) {
	version, err := exec.Command("tor", "--quiet", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	for arg, list := range map[string]string{"--list-torrc-options": OptionList(), "--list-deprecated-options": DeprecatedList()} {
		out, err := exec.Command("tor", "--quiet", arg).Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(version), "Tor version "+TorVersion) && string(out) != list {
			t.Errorf("%s: %s", arg, cmp.Diff(list, string(out)))
		}
		for name := range strings.FieldsSeq(string(out)) {
			if _, ok := Name(name); !ok && strings.HasPrefix(string(version), "Tor version 0.4.9.") {
				t.Errorf("Tor has an option %s", name)
			}
		}
	}
}

// asTor is what Debian's Tor reads from a configuration: a value, quoted if it
// has to be, or not ok.
func asTor(t *testing.T, path string) (string, bool) {
	t.Helper()
	cmd := exec.Command("tor", "--dump-config", "short", "--defaults-torrc", "/nonexistent", "-f", path, "--quiet")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	out, err := cmd.Output()
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(out)) {
		if v, ok := strings.CutPrefix(line, "ContactInfo "); ok {
			v = strings.TrimSuffix(v, "\n")
			if strings.HasPrefix(v, `"`) {
				v, _, _ = Unquote(v)
			}
			return v, true
		}
	}
	return "", true
}

// TestGrammarAsTor: what a value is, Debian's Tor says.
func TestGrammarAsTor(t *testing.T) {
	path := t.TempDir() + "/torrc"
	// No option begins with z or q: what follows an end of the line is none.
	piece := rapid.SampledFrom([]string{"z", "q", " ", "\t", "#", "\\\n", "\\", `"`, `\"`, `\n`, `\x41`, `\101`, `\q`, "\r", "z q", "\n", "ContactInfo "})
	rapid.Check(t, func(rt *rapid.T) {
		text := "ContactInfo " + strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(rt, "pieces"), "") + "\n"
		write(t, path, text)
		lines, err := Parse("f", []byte(text))
		_, unknown := Unknown(lines)
		got := Merge(lines).Value("ContactInfo")
		want, ok := asTor(t, path)
		if ok != (err == nil && !unknown) || ok && got != want {
			rt.Fatalf("%q: %q, %v, unknown %v; Tor says %q, %v", text, got, err, unknown, want, ok)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"SocksPort 9050 # x\n", "A \"b\\x41\\101\" \r\n", "A b\\\n# c\nd\n", "+A b\n/C\n%include x\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		lines, err := Parse("f", text)
		var syntax *SyntaxError
		if err != nil && (!errors.As(err, &syntax) || syntax.Origin.Line < 1) {
			t.Fatalf("%v", err)
		}
		last := 1
		for _, l := range lines {
			if strings.ContainsAny(l.Key, blank) || strings.ContainsRune(l.Key+l.Value, 0) || l.Origin.Line < last {
				t.Fatalf("%q", l)
			}
			last = l.Origin.Line
			_, _ = ParseListener(l.Key, l.Value)
			_, _ = ParseLog(l.Value)
		}
		_ = Merge(lines)
	})
}

func TestListener(t *testing.T) {
	for value, want := range map[string]Listener{
		"0":                                   {None: true},
		"auto":                                {},
		"9050":                                {Port: 9050},
		"SocksPort=24883":                     {Port: 24883},
		"127.0.0.1:9050 IsolateDestAddr":      {Host: "127.0.0.1", Port: 9050, Flags: []string{"IsolateDestAddr"}},
		"0.0.0.0:1":                           {Host: "0.0.0.0", Port: 1},
		"[::1]:auto":                          {Host: "::1"},
		"localhost:5":                         {Host: "localhost", Port: 5},
		"unix:/run/x WorldWritable":           {Path: "/run/x", Flags: []string{"WorldWritable"}},
		`unix:"/a b\x41" GroupWritable X`:     {Path: "/a bA", Flags: []string{"GroupWritable", "X"}},
		`SocksPort=unix:"/a b" WorldWritable`: {Path: "/a b", Flags: []string{"WorldWritable"}},
	} {
		got, err := ParseListener("SocksPort", value)
		if len(got.Flags) == 0 {
			got.Flags = nil
		}
		if err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %+v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "abc", "1,2", "9050,bind=0.0.0.0", "99999", "-1", "127.0.0.1", "127.0.0.1:0", "::1:9", "a b:1", "1.2.3.4:5,6", "h/x:1", "unix:", `unix:"a`, `unix:"a"b`, ":9", "*:9"} {
		if got, err := ParseListener("SocksPort", value); err == nil {
			t.Errorf("%q is %+v", value, got)
		}
	}
}

func TestLog(t *testing.T) {
	for value, want := range map[string]string{
		"notice":                       "stdout notice warn err",
		"notice STDOUT":                "stdout notice warn err",
		"err stderr":                   "stderr err",
		"debug-info notice-err syslog": "syslog debug info notice warn err",
		"notice-notice file /a b":      "file /a b notice",
		"[net, ~dir]info [handshake]debug file x": "file x debug info notice warn err",
	} {
		l, err := ParseLog(value)
		got := strings.TrimSpace(l.To + " " + l.Path)
		for s := Debug; s <= Err; s++ {
			if l.Wants(s) {
				got += " " + s.String()
			}
		}
		if err != nil || got != want {
			t.Errorf("%s: %q, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "foo", "notice,warn", "notice file", "file /x", "notice-", "warn-info", "stdout", "[x"} {
		if l, err := ParseLog(value); err == nil {
			t.Errorf("%q is %+v", value, l)
		}
	}
}

func TestArgs(t *testing.T) {
	for _, c := range []struct{ args, command, operand, torrc, first string }{
		{"-f x", "", "", "x", "-f x"},
		{"--torrc-file x --defaults-torrc y", "", "", "x", "--torrc-file x --defaults-torrc y"},
		{"-f a -f b", "", "", "b", "-f a -f b"},
		{"--verify-config -f x", "--verify-config", "", "x", "--verify-config -f x"},
		{"--defaults-torrc d -f x --RunAsDaemon 0 --verify-config", "--verify-config", "", "x", "--verify-config --defaults-torrc d -f x --RunAsDaemon 0"},
		{"--ContactInfo --verify-config --SocksPort 1", "", "", "", "--ContactInfo --verify-config --SocksPort 1"},
		{"-f --verify-config", "", "", "--verify-config", "-f --verify-config"},
		{"--hash-password --version", "--hash-password", "--version", "", "--hash-password --version"},
		{"SocksPort 1 --list-fingerprint", "--list-fingerprint", "", "", "--list-fingerprint --SocksPort 1"},
		{"--list-fingerprint rsa SocksPort 1", "--list-fingerprint", "rsa", "", "--list-fingerprint rsa --SocksPort 1"},
		{"--dump-config --quiet", "--dump-config", "", "", "--dump-config --quiet"},
		{"--verify-config --keygen", "--keygen", "", "", "--keygen"},
		{"--keygen --version --verify-config -h", "-h", "", "", "-h"},
		{"--nt-service --service -f x --verify-config", "--verify-config", "", "x", "--verify-config -f x"},
		{"-version 1 --verify-config", "--verify-config", "", "", "--verify-config --VERSION 1"},
		{"+__SocksPort 1 --/Log --verify-config", "--verify-config", "", "", "--verify-config --+__SocksPort 1 --/Log"},
	} {
		a, err := ParseArgs(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		command := a.Command
		if command == nil {
			command = &Word{}
		}
		if first := strings.Join(a.CommandFirst(), " "); command.Text != c.command || command.Operand != c.operand || a.Torrc != c.torrc || first != c.first {
			t.Errorf("%s: command %+v, torrc %q, %q", c.args, command, a.Torrc, first)
		}
	}
	for _, args := range []string{"-f", "foo", "--hash-password", "--SocksPort", "-f x --torrc-file y", "--verify-config --ContactInfo"} {
		if a, err := ParseArgs(strings.Fields(args)); err == nil {
			t.Errorf("%s: %+v", args, a)
		}
	}
}

// TestCommandFirst: whatever the command line, one with a command has it at the
// begin, and means the same (defect 17).
func TestCommandFirst(t *testing.T) {
	words := rapid.SampledFrom([]string{"--verify-config", "-f", "x", "--SocksPort", "1", "--quiet", "-version", "--keygen", "version", "--list-fingerprint", "--+Log", "/A", "--", "-", "",
		"--hash-password", "--dump-config", "short", "--ContactInfo", "--defaults-torrc", "-service", "service", "--/x", "f", "-verify-config", "--version", "-h", "h"})
	rapid.Check(t, func(t *rapid.T) {
		args := rapid.SliceOfN(words, 0, 9).Draw(t, "args")
		a, err := ParseArgs(args)
		if err != nil {
			return
		}
		first := a.CommandFirst()
		b, err := ParseArgs(first)
		if err != nil {
			t.Fatalf("%q: %q: %v", args, first, err)
		}
		if a.Command != nil && (first[0] != a.Command.Text || b.Command == nil) {
			t.Fatalf("%q: %q", args, first)
		}
		sameKey := func(x, y Line) bool { return x.Mode == y.Mode && strings.EqualFold(x.Key, y.Key) && x.Value == y.Value }
		if !cmp.Equal(a.Command, b.Command) || a.Torrc != b.Torrc || a.Defaults != b.Defaults || a.Quiet != b.Quiet || !slices.EqualFunc(a.Config, b.Config, sameKey) {
			t.Fatalf("%q: %q: %+v %+v", args, first, a, b)
		}
		if again := b.CommandFirst(); !slices.Equal(again, first) {
			t.Fatalf("%q: %q", first, again)
		}
	})
}

func FuzzArgs(f *testing.F) {
	f.Add("--verify-config\x00-f\x00x")
	f.Add("--ContactInfo\x00--verify-config\x00--SocksPort\x0019999")
	f.Fuzz(func(t *testing.T, joined string) {
		a, err := ParseArgs(strings.Split(joined, "\x00"))
		if err != nil || a.Command == nil {
			return
		}
		if first := a.CommandFirst(); first[0] != a.Command.Text {
			t.Fatalf("%q", first)
		}
	})
}
