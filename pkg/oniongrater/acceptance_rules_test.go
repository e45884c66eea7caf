// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// merge runs the merger below a root and returns what it says.
func merge(t *testing.T, root fsx.Root, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, bad bytes.Buffer
	env := cli.Env{Args: append([]string{"onion-grater-merger", "--root", string(root)}, args...), Stdout: &out, Stderr: &bad}
	if got := cli.Code(Merge(t.Context(), env)); got != code {
		t.Fatalf("exit code %d, want %d\n%s", got, code, bad.String())
	}
	return out.String(), bad.String()
}

// shipped is the filter that the merger makes of the default profile and the
// examples named, loaded as the proxy does.
func shipped(t *testing.T, names ...string) *Filter {
	t.Helper()
	root := fsx.Root(t.TempDir())
	for i, file := range shippedProfiles(t) {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			write(t, root, systemProfiles+"/"+filepath.Base(file), string(data))
		}
		for _, name := range names {
			if strings.HasSuffix(file, "_"+name+".yml") {
				write(t, root, localProfiles+"/"+filepath.Base(file), string(data))
			}
		}
	}
	if _, stderr := merge(t, root, 0); stderr != "" {
		t.Fatal(stderr)
	}
	return loaded(t, root)
}

// loaded is the one filter below a root, of which nothing is wrong.
func loaded(t *testing.T, root fsx.Root) *Filter {
	t.Helper()
	filters := Load(root, func(text string) { t.Error(text) })
	if len(filters) != 1 {
		t.Fatalf("%d filters", len(filters))
	}
	return filters[0]
}

// TestAcceptance01_DefaultRules: the rule side of the rows 4 to 32.
func TestAcceptance01_DefaultRules(t *testing.T) {
	f := shipped(t)
	asked(t, f, map[string]string{
		"GETINFO version": "GETINFO version", "GETINFO net/listeners/socks": "GETINFO net/listeners/socks", "GETINFO status/circuit-established": "GETINFO status/circuit-established",
		"GETINFO consensus/valid-after": "GETINFO consensus/valid-after", "GETINFO address": "", "GETINFO version config-file": "", "SIGNAL NEWNYM": "SIGNAL NEWNYM", "signal NEWNYM": "signal NEWNYM",
		"SIGNAL newnym": "", "SIGNAL SHUTDOWN": "", "GETCONF __OwningControllerProcess": "GETCONF __OwningControllerProcess", "getconf __owningcontrollerprocess": "getconf __owningcontrollerprocess",
		"GETCONF __OwningControllerProcess SocksPort": "", "SETCONF __OwningControllerProcess=1": "", "SETCONF": "", "DROPOWNERSHIP": "", "USEFEATURE VERBOSE_NAMES": "", "GETINFO version ": "",
		"GETINFO": "", "GETINFO config/names": "", ".": "", "AUTHCHALLENGE SAFECOOKIE 00": "", "GETINFO version\x00": "",
	})
	for _, name := range []string{"STREAM", "SIGNAL", "CONF_CHANGED", "STATUS_SERVER", "CIRC"} {
		if e, ok := f.Event(name); !ok || !e.Suppress {
			t.Errorf("%s: %v %v", name, e, ok)
		}
	}
	if _, ok := f.Event("BW"); ok {
		t.Error("BW is allowed")
	}
	d, _ := f.Match("GETINFO", "net/listeners/socks", client())
	for line, want := range map[string]string{`250-net/listeners/socks="127.0.0.1:9050"`: `250-net/listeners/socks="127.0.0.1:9150"`, "250-net/listeners/socks=": "250-net/listeners/socks=", "250 OK": "250 OK"} {
		if got, _ := d.RewriteLine(line, client()); got != want {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// TestAcceptance02_ExampleRules: the rule side of the rows 42 to 72, and of the
// events in 78 to 83.
func TestAcceptance02_ExampleRules(t *testing.T) {
	const id, key = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid", "QUJD+/=="
	const ca = "10.152.152.11"
	for name, lines := range map[string]map[string]string{
		"bisq": {
			"GETINFO status/bootstrap-phase": "GETINFO status/bootstrap-phase", "ADD_ONION NEW:ED25519-V3 Port=9999,9999": "ADD_ONION NEW:ED25519-V3 Port=9999," + ca + ":9999",
			"ADD_ONION ED25519-V3:" + key + " Port=9999,9999": "ADD_ONION ED25519-V3:" + key + " Port=9999," + ca + ":9999", "ADD_ONION NEW:ED25519-V3 Port=9999,127.0.0.1:9999": "",
			"ADD_ONION NEW:ED25519-V3 Port=22,22": "ADD_ONION NEW:ED25519-V3 Port=22," + ca + ":22", "ADD_ONION NEW:ED25519-V3 Port=9999,9999 Flags=Detach": "", "ADD_ONION NEW:ED25519-V3 Port=9999,9999\vPort=22,127.0.0.1:22": "",
			"add_onion NEW:ED25519-V3 Port=9999,9999": "ADD_ONION NEW:ED25519-V3 Port=9999," + ca + ":9999", "ADD_ONION NEW:ED25519-V3 Port=80,192.0.2.7:80#,9": "", "ADD_ONION NEW:ED25519-V3 Port=80,192.0.2.7:80\x00,9": "",
			"DEL_ONION foo": "DEL_ONION foo", "DEL_ONION foo bar": "", "HSFETCH aaaa SERVER=x": "HSFETCH aaaa SERVER=x", "SETCONF DisableNetwork=1": "local: 250 OK", "SETCONF DisableNetwork=1 ProtocolWarnings=1": "", "SETCONF DisableNetwork": "",
		},
		"bitcoind":             {"ADD_ONION NEW:ED25519-V3 Port=8333,127.0.0.1:8334": "ADD_ONION NEW:ED25519-V3 Port=8333," + ca + ":8334 Flags=DiscardPK", "ADD_ONION NEW:ED25519-V3 Port=8333,127x0x0x1:8334": ""},
		"lnd":                  {"ADD_ONION NEW:ED25519-V3 Port=9735,9735 ": "ADD_ONION NEW:ED25519-V3 Port=9735," + ca + ":9735", "ADD_ONION NEW:ED25519-V3 Port=9735,9735": "ADD_ONION NEW:ED25519-V3 Port=9735," + ca + ":9735", "ADD_ONION NEW:ED25519-V3 Port=9735,9735  ": ""},
		"onion_authentication": {"onion_client_auth_add " + id + " x25519:k": "onion_client_auth_add " + id + " x25519:k", "ONION_CLIENT_AUTH_ADD " + id + " x25519:k Flags=Permanent": "ONION_CLIENT_AUTH_ADD " + id + " x25519:k Flags=Permanent", "ONION_CLIENT_AUTH_VIEW": ""},
		"onionshare": {
			"ADD_ONION NEW:ED25519-V3 Port=80,17600": "ADD_ONION NEW:ED25519-V3 Port=80," + ca + ":17600", "ADD_ONION NEW:ED25519-V3 Port=80,17700": "", "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=80,17646 ClientAuthV3=K": "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=80," + ca + ":17646 ClientAuthV3=K",
			"ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=1,1 ClientAuthV3=K": "ADD_ONION NEW:ED25519-V3 Flags=V3Auth Port=1," + ca + " ClientAuthV3=K", "ADD_ONION NEW:BEST Flags=BasicAuth Port=80,17600 ClientAuth=onionshare": "ADD_ONION NEW:BEST Flags=BasicAuth Port=80," + ca + ":17600 ClientAuth=onionshare",
			"GETINFO onions/current": "GETINFO onions/current", "GETCONF hiddenservicesinglehopmode": "GETCONF hiddenservicesinglehopmode", "GETCONF HiddenServiceSingleHopMode": "",
		},
		"haveno":   {"AUTHCHALLENGE SAFECOOKIE 00ff": "AUTHCHALLENGE SAFECOOKIE 00ff", "ADD_ONION NEW:X Port=9999,9#": ""},
		"cwtch":    {"GETCONF DisableNetwork": "GETCONF DisableNetwork", "GETINFO network-liveness": "GETINFO network-liveness", "ADD_ONION ED25519-V3:" + key + " Flags=DiscardPK,Detach Port=9878,[::]:15000": "ADD_ONION ED25519-V3:" + key + " Flags=DiscardPK,Detach Port=9878," + ca + ":15000"},
		"ricochet": {"GETINFO status/circuit-established status/bootstrap-phase net/listeners/socks": "GETINFO status/circuit-established status/bootstrap-phase net/listeners/socks", "ADD_ONION NEW:ED25519-V3 Port=9878,127.0.0.1:11009": "ADD_ONION NEW:ED25519-V3 Port=9878," + ca + ":11009"},
		"zeronet":  {"ADD_ONION NEW:ED25519-V3 port=15441": "ADD_ONION NEW:ED25519-V3 port=15441," + ca + ":15441"},
		"wahay":    {"ADD_ONION NEW:BEST Port=8181,127.0.0.1:8181 Port=64738,127.0.0.1:64738": "ADD_ONION NEW:BEST Port=8181," + ca + ":8181 Port=64738," + ca + ":64738 Flags=DiscardPK"},
	} {
		f := shipped(t, name)
		asked(t, f, lines)
		if e, ok := f.Event("STREAM"); !ok || !e.Suppress {
			t.Errorf("%s: streams are shown", name)
		}
	}
	for _, c := range []struct{ profile, line, want string }{
		{"onionshare", "650 HS_DESC CREATED A UNKNOWN UNKNOWN D", "650 HS_DESC CREATED A redacted redacted redacted"}, {"onionshare", "650 HS_DESC CREATED A UNKNOWN UNKNOWN D REPLICA=1", "650 HS_DESC CREATED A UNKNOWN UNKNOWN redacted REPLICA=1"},
		{"onionshare", "650 HS_DESC UPLOAD A UNKNOWN $FP~n D HSDIR_INDEX=H", "650 HS_DESC UPLOAD A UNKNOWN redacted redacted"}, {"onionshare", "650 HS_DESC UPLOADED A UNKNOWN $FP~n", "650 HS_DESC UPLOADED A UNKNOWN redacted"},
		{"onionshare", "650 HS_DESC REQUESTED A NO_AUTH $FP~n D", ""}, {"bisq", "650 HS_DESC FAILED A NO_AUTH $FP~n D REASON=NOT_FOUND", "650 HS_DESC FAILED A redacted redacted redacted REASON=NOT_FOUND"}, {"bisq", "650 HS_DESC CREATED A UNKNOWN UNKNOWN D", ""},
	} {
		e, _ := shipped(t, c.profile).Event("HS_DESC")
		text, verdict := e.Rewrite(c.line, client())
		if text != c.want || (verdict == Dropped) != (c.want == "") || verdict == Unchanged || verdict == Malformed {
			t.Errorf("%s: %q: %q, %d", c.profile, c.line, text, verdict)
		}
	}
}

// TestAcceptance05_RuleBytes: no byte but printable ASCII gets into an argument; and
// Python's blanks are not in \S, whatever RE2 thinks.
func TestAcceptance05_RuleBytes(t *testing.T) {
	const text = `NEW:(\S+) Port=9999,(\S+)`
	f := one(t, "- commands: {ADD_ONION: [{pattern: '"+text+"', replacement: 'NEW:{} Port=9999,{client-address}:{}'}], ANY: ['(?s).*']}")
	p, err := compilePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	for c := range 256 {
		if c >= ' ' && c <= '~' {
			continue
		}
		for _, arguments := range []string{"NEW:a" + string([]byte{byte(c)}) + "b Port=9999,1", "NEW:a Port=9999,1" + string([]byte{byte(c)}) + "Port=22,127.0.0.1:22"} {
			for _, name := range []string{"ADD_ONION", "ANY"} {
				if _, ok := f.Match(name, arguments, client()); ok {
					t.Errorf("%s %q is allowed", name, arguments)
				}
			}
			if strings.ContainsRune("\t\n\v\f\r\x1c\x1d\x1e\x1f", rune(c)) && p.match(arguments) != nil {
				t.Errorf("%q matches", arguments)
			}
		}
	}
	asked(t, f, map[string]string{"ADD_ONION NEW:a Port=9999,1": "ADD_ONION NEW:a Port=9999,10.152.152.11:1", "ANY a b": "ANY a b"})
}

// TestAcceptance06_LoadErrors: a construct that cannot be used is named with its
// place; the command is disabled, not only the rule; others work.
func TestAcceptance06_LoadErrors(t *testing.T) {
	for _, construct := range []string{
		"(?=x)", "(?!x)", "(?<=x)", "(?<!x)", `(a)\1`, "(?P<n>a)(?P=n)", "(a)(?(1)b)", "a*+", "a++", "a?+", "(?>a)", "a{1001}", "(?x)a", "(?#a)", "(?a)b", "(?u)b", "(?L)b",
		"[[:alpha:]]", "(?U)a", `\Qa\E`, `\pL`, `a\z`, `\C`, "(?<n>a)", "a**", "a(?i)b", `\y`, `\u00e9`,
	} {
		root := fsx.Root(t.TempDir())
		write(t, root, FilterDir+"/x.yml", "- name: y\n  hosts: ['*']\n  commands:\n    GETINFO:\n    - 'version'\n    - '"+construct+"'\n    - '.*'\n    SIGNAL:\n    - 'NEWNYM'\n")
		var told []string
		filters := Load(root, func(text string) { told = append(told, text) })
		if len(told) != 1 || len(filters) != 1 {
			t.Errorf("%s: %q", construct, told)
			continue
		}
		for _, part := range []string{FilterDir + "/x.yml:6: error: ", "filter x:", "command GETINFO, rule 2:", "the command is disabled"} {
			if !strings.Contains(told[0], part) {
				t.Errorf("%s: %q lacks %q", construct, told[0], part)
			}
		}
		asked(t, filters[0], map[string]string{"GETINFO version": "", "GETINFO x": "", "SIGNAL NEWNYM": "SIGNAL NEWNYM"})
	}
}

// TestAcceptance08_Alternatives: the end binds to all alternatives.
func TestAcceptance08_Alternatives(t *testing.T) {
	asked(t, one(t, "- commands: {A: ['aa|bb']}"), map[string]string{"A aabbb": "", "A aa": "A aa", "A bb": "A bb", "A bbaa": "", "A aa trailing": ""})
}

// TestAcceptance09_Assignments: each assignment is held against the values of
// its option; rows 15 and 75 of the table.
func TestAcceptance09_Assignments(t *testing.T) {
	f := one(t, "- confs: {bridge: ['.*'], foo: ['', '1', '2'], q: ['\"0\"', '\"1\"'], none: , scalar: 'x'}")
	lines := map[string]string{
		`SETCONF bridge="a b" SocksPort=9`: "", `SETCONF bridge=x SocksPort=9`: "", `SETCONF bridge="a b`: "", `SETCONF bridge="a b"c`: "", `SETCONF bridge="a \" SocksPort=9`: "", `SETCONF bridge`: "", `SETCONF none=1`: "", `SETCONF none`: "",
		`SETCONF foo=1Foo=2`: "", `SETCONF foo=3`: "", `SETCONF foo=1 `: "", `SETCONF foo="1"`: "", `SETCONF foo 1`: "", `SETCONF =1`: "", `SETCONF f-o=1`: "", "SETCONF foo=1\tfoo=2": "", "SETCONF foo=1\vfoo=2": "", `SETCONF q=1`: "", `GETCONF foo bridge`: "", `GETCONF `: "", `GETCONF other`: "",
	}
	for _, same := range []string{
		`SETCONF bridge="a b" Bridge=c`, `SETCONF bridge="a \" SocksPort=9"`, `SETCONF bridge=`, `SETCONF foo`, `SETCONF foo=`, `SETCONF FOO=1 Foo=2`, `SETCONF foo=1  foo=2`, `SETCONF q="0" q="1"`, `SETCONF foo bridge=x foo=`, `SETCONF scalar=x`, `setconf foo=1`, `GETCONF FOO`, `getconf none`,
	} {
		lines[same] = same
	}
	asked(t, f, lines)
}

// TestAcceptance21_Order: priority and name are those of the original.
func TestAcceptance21_Order(t *testing.T) {
	root := fsx.Root(t.TempDir())
	for _, path := range []string{systemProfiles + "/30_a", systemProfiles + "/40_b", localProfiles + "/20_c", localProfiles + "/90_d"} {
		write(t, root, path+".yml", "- commands: {A: ["+filepath.Base(path)+"]}\n")
	}
	write(t, root, localProfiles+"/.hidden.yml", "- commands: {A: [hidden]}\n")
	write(t, root, localProfiles+"/99_e.yaml", "- commands: {A: [yaml]}\n")
	merge(t, root, 0)
	text, err := os.ReadFile(root.Path(mergedFile))
	if err != nil {
		t.Fatal(err)
	}
	want := mergedHeader + "- commands:\n    A:\n    - '40_b'\n    - '30_a'\n    - '90_d'\n    - '20_c'\n  name: 'merged_filter_files:  40_b.yml 30_a.yml 90_d.yml 20_c.yml'\n"
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	merge(t, everythingEnabled(t), 0)
}

// TestAcceptance21_AllCombinations: whichever examples are enabled, they merge
// and load without a warning, and none makes Tor's streams visible.
func TestAcceptance21_AllCombinations(t *testing.T) {
	files := shippedProfiles(t)
	known := patterns{}
	var sources []*value
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, problems, document := compile(file, data, known)
		if len(problems) > 0 || document == nil {
			t.Fatal(problems)
		}
		sources = append(sources, document)
	}
	examples := len(files) - 1
	for set := range 1 << examples {
		chosen := sources[:1:1]
		for i := range examples {
			if set&(1<<i) != 0 {
				chosen = append(chosen, sources[i+1])
			}
		}
		text := emit(merged(chosen, "x", func(text string) { t.Error(text) }))
		filters, problems, _ := compile(mergedFile, []byte(text), known)
		if len(filters) != 1 || len(problems) > 0 {
			t.Fatalf("set %b: %v", set, problems)
		}
		if e, ok := filters[0].Event("STREAM"); !ok || !e.Suppress {
			t.Fatalf("set %b: streams are shown", set)
		}
		if e, ok := filters[0].Event("HS_DESC"); ok {
			if text, verdict := e.Rewrite("650 HS_DESC SOMETHING new", client()); verdict != Dropped {
				t.Fatalf("set %b: an unknown event became %q", set, text)
			}
		}
	}
}

// TestAcceptance22_BadSources: a bad source is named and left out; what cannot
// be written leaves the old filter as it was.
func TestAcceptance22_BadSources(t *testing.T) {
	const good = "- commands: {A: [good]}\n"
	bad := systemProfiles + "/40_bad.yml"
	for name, text := range map[string]string{
		"empty": "", "comments only": "# nothing\n", "null": "---\n", "not a list": "a: b\n", "not a mapping": "- a\n", "bad YAML": "- a: [\n", "tab": "- a:\n\t- b\n", "two documents": "- {}\n---\n- {}\n", "tag": "- !!python/object:x {}\n", "alias": "- *a\n", "loop": "- &a {x: *a}\n", "hosts": "- hosts: \n",
		"regex": "- commands: {A: ['(?=x)']}\n", "regex in response": "- commands: {A: [{pattern: a, response: [{pattern: '(', replacement: ''}]}]}\n", "replacement": "- commands: {A: [{pattern: a, replacement: '{}'}]}\n", "no UTF-8": "- a: \xff\n", "too large": strings.Repeat("#", fileMax+1), "bomb": bomb(),
	} {
		root := fsx.Root(t.TempDir())
		write(t, root, mergedFile, "old")
		write(t, root, localProfiles+"/30_good.yml", good)
		write(t, root, bad, text)
		refused(t, root, bad, name)
	}
	for name, make := range map[string]func(string) error{
		"dangling link": func(p string) error { return os.Symlink("/nowhere", p) }, "directory": func(p string) error { return os.Mkdir(p, 0o755) }, "pipe": func(p string) error { return unix.Mkfifo(p, 0o644) }, "link to itself": func(p string) error { return os.Symlink(filepath.Base(p), p) },
	} {
		root := fsx.Root(t.TempDir())
		write(t, root, localProfiles+"/30_good.yml", good)
		if err := errors.Join(os.MkdirAll(root.Path(systemProfiles), 0o755), make(root.Path(bad))); err != nil {
			t.Fatal(err)
		}
		refused(t, root, bad, name)
	}
	root := fsx.Root(t.TempDir())
	write(t, root, localProfiles+"/30_good.yml", good)
	write(t, root, "/etc/onion-grater.d", "no folder")
	if _, stderr := merge(t, root, 1); stderr != "" {
		t.Errorf("%q", stderr)
	}
	unwritable(t)
}

// refused runs the merger where one source is bad.
func refused(t *testing.T, root fsx.Root, bad, name string) {
	t.Helper()
	_, stderr := merge(t, root, 0)
	if !strings.HasPrefix(stderr, "Error in loading "+bad+": ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%s: %q", name, stderr)
	}
	f := loaded(t, root)
	asked(t, f, map[string]string{"A good": "A good"})
	if _, stderr := merge(t, root, 1, "--check"); !strings.Contains(stderr, bad) {
		t.Errorf("%s: --check says %q", name, stderr)
	}
}

// unwritable takes the right to write away, in two ways that also hold for
// root: the folder is mounted read-only, or the file's place is taken by a
// folder that is not empty.
func unwritable(t *testing.T) {
	t.Helper()
	readOnly := fsx.Root(t.TempDir())
	write(t, readOnly, localProfiles+"/30_good.yml", "- {}\n")
	write(t, readOnly, mergedFile, "old")
	const script = `mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" --root "$3"`
	cmd := exec.Command("unshare", "--mount", "sh", "-c", script, "sh", readOnly.Path(FilterDir), built(t, "whonix-networking/cmd/onion-grater-merger"), string(readOnly))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 1 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "read-only file system") {
		t.Errorf("%d, %q, %v", code, out, err)
	}
	if data, err := os.ReadFile(readOnly.Path(mergedFile)); err != nil || string(data) != "old" {
		t.Errorf("%q, %v", data, err)
	}
	root := fsx.Root(t.TempDir())
	write(t, root, localProfiles+"/30_good.yml", "- {}\n")
	write(t, root, mergedFile+"/old", "old")
	merge(t, root, 1)
	entries, err := os.ReadDir(root.Path(FilterDir))
	if data, _ := os.ReadFile(root.Path(mergedFile + "/old")); err != nil || len(entries) != 1 || string(data) != "old" {
		t.Errorf("%v, %v, %q", entries, err, data)
	}
}

// bomb is a short file whose aliases unfold to a million values.
func bomb() string {
	text := "- a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i <= 6; i++ {
		prev := fmt.Sprintf("*a%d", i-1)
		text += fmt.Sprintf("  a%d: &a%d [%s]\n", i, i, strings.Join([]string{prev, prev, prev, prev, prev, prev, prev, prev, prev, prev}, ", "))
	}
	return text
}

// TestAcceptance23_Suppress: an event stays suppressed unless the file of the
// higher priority says false.
func TestAcceptance23_Suppress(t *testing.T) {
	for _, c := range []struct {
		high, low string
		suppress  bool
	}{
		{"CIRC: {suppress: true}", "CIRC: ", true}, {"CIRC: ", "CIRC: {suppress: true}", true}, {"CIRC: {suppress: true}", "CIRC: {suppress: false}", true}, {"CIRC: {suppress: false}", "CIRC: {suppress: true}", false},
		{"CIRC: {suppress: }", "CIRC: {suppress: true}", true}, {"CIRC: {}", "circ: {suppress: on}", true}, {"circ: {suppress: yes}", "CIRC: {response: []}", true}, {"BW: ", "CIRC: {suppress: true}", true},
	} {
		root := fsx.Root(t.TempDir())
		write(t, root, systemProfiles+"/10_high.yml", "- events: {"+c.high+"}\n")
		write(t, root, localProfiles+"/90_low.yml", "- events: {"+c.low+"}\n")
		if _, stderr := merge(t, root, 0); stderr != "" {
			t.Error(stderr)
		}
		if e, ok := loaded(t, root).Event("CIRC"); !ok || e.Suppress != c.suppress {
			t.Errorf("%s over %s: %v %v", c.high, c.low, e, ok)
		}
	}
}

// TestOwnHosts: a profile that says so is not united with the others, and what
// it allows stays with its own hosts (defect 35).
func TestOwnHosts(t *testing.T) {
	root := fsx.Root(t.TempDir())
	write(t, root, systemProfiles+"/30_default.yml", "- {hosts: ['*'], commands: {GETINFO: ['version']}, events: {CIRC: {suppress: true}}}\n")
	write(t, root, localProfiles+"/40_one.yml", "- {hosts: ['10.152.152.11'], combine: true, commands: {GETINFO: ['address']}, events: {CIRC: }}\n")
	write(t, root, localProfiles+"/50_two.yml", "- {hosts: ['10.152.152.12'], combine: on, commands: {getinfo: ['.*']}}\n")
	if _, stderr := merge(t, root, 0); stderr != "" {
		t.Error(stderr)
	}
	var hosts []string
	var mine []*Filter
	for _, f := range Load(root, func(text string) { t.Error(text) }) {
		hosts = append(hosts, f.Name+" "+strings.Join(f.Hosts, ","))
		if f.Hosts[0] == "*" || f.Hosts[0] == client().ClientAddress {
			mine = append(mine, f)
		}
	}
	want := []string{"30_autogenerated/merged_filter_files:  30_default.yml 50_two.yml 40_one.yml *", "30_autogenerated/50_two 10.152.152.12", "30_autogenerated/40_one 10.152.152.11"}
	if diff := cmp.Diff(want, hosts); diff != "" {
		t.Error(diff)
	}
	f, ok := Unite(mine)
	if !ok {
		t.Fatal("they are not united")
	}
	asked(t, f, map[string]string{"GETINFO version": "GETINFO version", "GETINFO address": "GETINFO address", "GETINFO config-file": ""})
	if e, ok := f.Event("CIRC"); !ok || !e.Suppress {
		t.Error("an event that the default suppresses is shown")
	}
	stdout, _ := merge(t, root, 0, "--explain", "GETINFO", "address")
	for _, part := range []string{"the profiles (hosts *): filtered", "40_one (hosts 10.152.152.11): allowed by " + localProfiles + "/40_one.yml:1; Tor gets: GETINFO address\n"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("%q lacks %q", stdout, part)
		}
	}
}
