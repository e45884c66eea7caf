// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// recorder is a Runner that keeps what it was asked to load.
type recorder struct {
	mu     sync.Mutex
	loaded []string
	err    error

	abandoned int
}

func (r *recorder) Start(context.Context) (nft.Transaction, error) { return r, nil }

func (r *recorder) Abandon() { r.abandoned++ }

func (r *recorder) Commit(script []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.loaded = append(r.loaded, string(script))
	}
	return r.err
}

// rig is a machine of the given markers in a temporary root.
type rig struct {
	*program
	rec     *recorder
	flushed int
}

func newRig(t testing.TB, markers ...string) *rig {
	t.Helper()
	root := fsx.Root(t.TempDir())
	g := &rig{rec: &recorder{}}
	g.program = &program{
		root: root, nft: g.rec,
		flush:     func() error { g.flushed++; return nil },
		addresses: func() (map[string][]netip.Addr, error) { return nil, nil },
		account:   confd.Accounts(root),
		qubesDB:   func(string) (string, bool) { return "", false },

		generation: func() (nft.Generation, error) { return nft.Generation{}, errors.New("no kernel") },
	}
	for _, m := range append(markers, ipv6Dir+"/conf") {
		g.put(t, m, "")
	}
	var passwd strings.Builder
	for name, uid := range testAccounts() {
		passwd.WriteString(name + ":x:" + netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(uid)).String()[len("0.0.0.0:"):] + ":0::/:/\n")
	}
	g.put(t, "/etc/passwd", passwd.String())
	g.put(t, "/etc/services", "ssh 22/tcp\n")
	return g
}

// put writes a file of the rig.
func (g *rig) put(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(g.root.Path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.root.Path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// config writes the user's drop-in.
func (g *rig) config(t testing.TB, text string) { t.Helper(); g.put(t, userConfig, text) }

const userConfig = "/etc/whonix_firewall.d/50_user.conf"

// outcome of a run.
type outcome struct {
	code        int
	out, errOut string
}

// call runs the program by a name, with arguments and environment.
func (g *rig) call(environ []string, argv ...string) outcome {
	var out, errOut bytes.Buffer
	env := cli.Env{
		Args: argv, Environ: environ, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errOut,
		Now: func() time.Time { return time.Date(2026, 8, 1, 12, 34, 56, 0, time.UTC) },
	}
	code := cli.Run(context.Background(), env, g.run)
	return outcome{code, out.String(), errOut.String()}
}

func (g *rig) script(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(g.root.Path(scriptFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const stamp = "2026-08-01 12:34:56 - "

// TestAcceptance01 the generated script is the golden one, and is not loaded.
func TestAcceptance01_DryRun(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	o := g.call(nil, "/usr/bin/whonix_firewall", "-n")
	want := stamp + "whonix-gateway-firewall - OK: Initialize Whonix firewall procedures...\n" +
		stamp + "whonix-gateway-firewall - OK: Firewall will not be loaded because dry-run is set\n" +
		stamp + "whonix-gateway-firewall - OK: Running in full mode.\n" +
		stamp + "whonix-gateway-firewall - OK: (Full torified network access allowed.)\n" +
		stamp + "whonix-gateway-firewall - OK: Firewall will not be loaded because dry-run is set\n"
	if o.code != 0 || o.out != want || o.errOut != "" {
		t.Errorf("%+v", o)
	}
	golden, err := os.ReadFile("testdata/golden/gateway-full.nft")
	if err != nil {
		t.Fatal(err)
	}
	if g.script(t) != string(golden) || len(g.rec.loaded) > 0 {
		t.Error("not the golden script, or loaded")
	}
}

// TestAcceptance03 no marker: the known line, nothing written.
func TestAcceptance03_NoMarker(t *testing.T) {
	g := newRig(t)
	o := g.call(nil, "whonix_firewall")
	want := "ERROR: Neither file /usr/share/anon-gw-base-files/gateway nor file /usr/share/anon-ws-base-files/workstation exists! If this is a Whonix-Gateway, package anon-gw-base-files needs to be installed. If this is a Whonix-Workstation, package anon-ws-base-files needs to be installed.\n"
	if o.code != 1 || o.out != "" || o.errOut != want || g.root.Exists(stateDir) {
		t.Errorf("%+v", o)
	}
}

// TestAcceptance04 a template has the workstation's program, and the ruleset
// of templates.
func TestAcceptance04_Template(t *testing.T) {
	g := newRig(t, whonix.TemplateMarker, whonix.GatewayMarker, whonix.QubesMarker)
	o := g.call(nil, "whonix_firewall", "-n")
	golden, err := os.ReadFile("testdata/golden/template.nft")
	if err != nil {
		t.Fatal(err)
	}
	if o.code != 0 || !strings.Contains(o.out, " - whonix-workstation-firewall - ") || g.script(t) != string(golden) {
		t.Errorf("%+v\n%s", o, g.script(t))
	}
}

// TestAcceptance14 each bad drop-in: exit 1, one clear line, nothing loaded.
// What enable-firewall makes of that is TestEnable's.
func TestAcceptance14_BadDropIns(t *testing.T) {
	for _, c := range []struct{ name, text, errOut string }{
		{"exit 0", "exit 0\n", userConfig + ":1: exit is not allowed"},
		{"dry_run", "X=1\ndry_run=1\n", userConfig + ":2: assigning dry_run is refused"},
		{"syntax error", "if\n", "ERROR: Invalid config file: " + userConfig + "\n   bash_n_exit_code: 2\n   bash_n_output:\n   " + userConfig + ": line "},
		{"unset variable", "EXT_IF=$NOPE\n", userConfig + ": line 1: NOPE: unbound variable\n"},
		{"failing command", "false\n", userConfig + ":1: the command failed"},
		{"invalid port", "EXTERNAL_OPEN_PORTS='22#x'\n", userConfig + ":1: EXTERNAL_OPEN_PORTS: \"22#x\" is "},
		{"host name", "NON_TOR_GATEWAY=example.com\n", userConfig + ":1: NON_TOR_GATEWAY: \"example.com\" is not"},
		{"mode", "firewall_mode=ful\n", userConfig + ":1: firewall_mode: \"ful\" is not a mode"},
		{"set +e", "f() { :; }\ntrap - ERR; set +e\n", "switches the shell option errexit off"},
		{"internal function", "nft_output() { :; }\n", userConfig + ":1: the function nft_output is refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, whonix.GatewayMarker)
			g.config(t, c.text)
			o := g.call(nil, "whonix_firewall")
			if o.code != 1 || !strings.Contains(o.errOut, c.errOut) || len(g.rec.loaded) > 0 || g.root.Exists(scriptFile) || g.root.Exists(statusDir) {
				t.Errorf("%+v", o)
			}
			if g.rec.abandoned != 1 {
				t.Errorf("nft was abandoned %d times, want once", g.rec.abandoned)
			}
			if strings.Contains(o.errOut, string(g.root)) {
				t.Errorf("names a path below the root: %s", o.errOut)
			}
		})
	}
	g := newRig(t, whonix.GatewayMarker)
	g.config(t, "firewall_mode=ful\n")
	o := g.call(nil, "whonix_firewall")
	hashes := strings.Repeat("#", 50)
	want := stamp + "whonix-gateway-firewall - OK: Initialize Whonix firewall procedures...\n" +
		stamp + "whonix-gateway-firewall - ERROR: firewall_mode must be 'full' or 'timesync-fail-closed', got 'ful'.\n" +
		"whonix-gateway-firewall " + hashes + "\nwhonix-gateway-firewall ERROR: Whonix firewall script failed!\nwhonix-gateway-firewall " + hashes + "\n"
	if o.out != want {
		t.Errorf("standard output %q, want %q", o.out, want)
	}
}

// TestAcceptance17 who decides the mode, through the whole program.
func TestAcceptance17_Mode(t *testing.T) {
	const shipped = "firewall_mode=full\n"
	for _, c := range []struct {
		synced   bool
		argv     []string
		timesync bool
	}{
		{false, []string{"whonix_firewall"}, true},
		{true, []string{"whonix_firewall"}, false},
		{false, []string{"whonix_firewall", "--mode", "full"}, false},
	} {
		g := newRig(t, whonix.GatewayMarker)
		g.config(t, shipped)
		if c.synced {
			g.put(t, "/run/sdwdate/success", "")
		}
		o := g.call([]string{"firewall_mode=timesync-fail-closed"}, c.argv...)
		if o.code != 0 || strings.Contains(o.out, "Running in timesync-fail-closed mode.") != c.timesync || (g.flushed > 0) != c.timesync {
			t.Errorf("%+v: %+v", c, o)
		}
		if c.synced && !strings.Contains(o.out, "OK: (/run/sdwdate/success exists.)") {
			t.Errorf("%+v", o)
		}
	}
}

// TestAcceptance18 the status files of the first and of later runs.
func TestAcceptance18_StatusFiles(t *testing.T) {
	g := newRig(t, whonix.WorkstationMarker)
	there := func(first, later bool) {
		t.Helper()
		if g.root.IsFile(firstRunFile) != first || g.root.IsFile(laterRunFile) != later {
			t.Errorf("first %v, later %v", !first, !later)
		}
	}
	g.call(nil, "whonix_firewall", "-n")
	there(false, false)
	if o := g.call(nil, "whonix_firewall"); o.code != 0 || !strings.HasSuffix(o.out, "whonix-workstation-firewall - OK: Whonix firewall loaded.\n") {
		t.Errorf("%+v", o)
	}
	there(true, false)
	g.call(nil, "whonix_firewall", "-n")
	there(true, false)
	g.call(nil, "whonix_firewall")
	there(true, true)
	if loaded, _ := os.ReadFile(g.root.Path(loadedFile)); string(loaded) != g.rec.loaded[1] || g.script(t) != g.rec.loaded[1] {
		t.Error("the records are not what was loaded")
	}
}

// TestAcceptance20 idioms of users' files, and the same script from both ways
// of evaluating them.
func TestAcceptance20_Idioms(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.config(t, "NO_NAT_USERS+=\" $(id -u updatesproxycheck) \"\nINTERNAL_OPEN_PORTS+=\" $(seq 80 81) \"\n")
	if o := g.call(nil, "whonix_firewall", "-n"); o.code != 0 {
		t.Fatalf("%+v", o)
	}
	native := g.script(t)
	for _, order := range [][2]string{{"output skuid 906 counter return", "output skuid 901 counter return"}, {"eth1 tcp dport 80 counter accept", "eth1 tcp dport 9050 counter accept"}} {
		first, second := strings.Index(native, order[0]), strings.Index(native, order[1])
		if first < 0 || second < first {
			t.Errorf("%q is at %d, %q at %d", order[0], first, order[1], second)
		}
	}
	g.config(t, "ports=(80 81)\nadd() { INTERNAL_OPEN_PORTS+=\" $* \"; }\nadd \"${ports[@]}\"\nNO_NAT_USERS+=\" 906 \"\n")
	if o := g.call(nil, "whonix_firewall", "-n"); o.code != 0 || g.script(t) != native {
		t.Errorf("by bash: %+v", o)
	}
}

// TestAcceptance24 wrong arguments, to the letter.
func TestAcceptance24_Arguments(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	for _, args := range [][]string{{"-h"}, {"--help"}, {"-x"}, {"--mode"}, {"--mode", "foo"}, {"-ni"}, {""}, {"--mode=full"}, {"-n", "x"}, {"-o"}} {
		o := g.call(nil, append([]string{"whonix-gateway-firewall"}, args...)...)
		if o.code != 1 || !strings.HasPrefix(o.out, "usage: whonix-gateway-firewall [options]\n") || g.root.Exists(stateDir) {
			t.Errorf("%q: %+v", args, o)
		}
		if wantText := len(args) > 0 && args[0] == "--mode"; wantText != (o.errOut == "ERROR: --mode requires 'full' or 'timesync-fail-closed'\n") {
			t.Errorf("%q: standard error %q", args, o.errOut)
		}
	}
	if o := g.call(nil, "whonix_firewall", "-s"); o != (outcome{}) || g.root.Exists(stateDir) {
		t.Errorf("-s: %+v", o)
	}
}

// TestInfo: --info prints the variables and what is opened, in order.
func TestInfo(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.config(t, "NON_TOR_GATEWAY=\"\\\n  10.0.0.0/8 \\\n  192.168.0.0/16 \\\n\"\nWORKSTATION_ALLOW_SOCKSIFIED=0\n")
	o := g.call(nil, "whonix_firewall", "-n", "-i")
	last := -1
	for _, want := range []string{
		"OK: Running in full mode.", "INFO: ALLOW_GATEWAY_ROOT_USER=0\n", "INFO: NON_TOR_GATEWAY=10.0.0.0/8 192.168.0.0/16\n",
		"INFO: firewall_mode_detected=full\n", "INFO: info_enabled=1\n", "INFO: source_only=\n",
		"INFO: Opening External TCP port(s): NONE\n", "INFO: Opening External UDP port(s): NONE\n",
		"INFO: WORKSTATION_ALLOW_SOCKSIFIED='0', Socks Ports will not be opened\n",
	} {
		at := strings.Index(o.out, want)
		if at <= last {
			t.Errorf("%q is at %d, not behind %d in\n%s", want, at, last, o.out)
		}
		last = at
	}
}

// TestFailedLoad: what nft refuses fails the run, with banner, without records
// of a load.
func TestFailedLoad(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.rec.err = errors.New("no such luck")
	o := g.call(nil, "whonix_firewall")
	if o.code != 1 || !strings.Contains(o.errOut, " - ERROR: no such luck\n") || !strings.Contains(o.out, "script failed!") || g.root.Exists(loadedFile) || g.root.Exists(statusDir) {
		t.Errorf("%+v", o)
	}
}

// TestWithoutRoot: --check-config and --output need no rights, write nothing of
// ours, and say the same of bad input.
func TestWithoutRoot(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	if o := g.call(nil, "whonix_firewall", "--check-config"); o.code != 0 || !strings.Contains(o.out, "The configuration is valid. Nothing was changed.") || g.root.Exists(stateDir) {
		t.Errorf("%+v", o)
	}
	golden, err := os.ReadFile("testdata/golden/gateway-full.nft")
	if err != nil {
		t.Fatal(err)
	}
	if o := g.call(nil, "whonix_firewall", "--output", "-"); o.code != 0 || o.out != string(golden) || g.root.Exists(stateDir) {
		t.Errorf("%+v", o)
	}
	file := filepath.Join(t.TempDir(), "out.nft")
	o := g.call(nil, "whonix_firewall", "-o", file)
	if got, _ := os.ReadFile(file); o.code != 0 || string(got) != string(golden) || len(g.rec.loaded) > 0 {
		t.Errorf("%+v", o)
	}
	g.config(t, "EXT_IF='a b/c'\n")
	if o := g.call(nil, "whonix_firewall", "--check-config"); o.code != 1 || !strings.Contains(o.errOut, userConfig+":1: EXT_IF: \"b/c\"") {
		t.Errorf("%+v", o)
	}
}

// TestEnvironment: settings may come by the environment, nftables_cmd may not.
func TestEnvironment(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.config(t, "EXT_IF=eth7\nEXTERNAL_OPEN_PORTS+=\" 81 \"\n")
	o := g.call([]string{"EXT_IF=eth9", "EXTERNAL_OPEN_PORTS=80", "nftables_cmd=touch /tmp/x"}, "whonix_firewall", "-n")
	for _, want := range []string{"iifname eth7 tcp dport 80 counter accept", "iifname eth7 tcp dport 81 counter accept"} {
		if !strings.Contains(g.script(t), want) {
			t.Errorf("no %q", want)
		}
	}
	if !strings.Contains(o.errOut, "WARNING: environment: nftables_cmd is ignored") {
		t.Errorf("%+v", o)
	}
	if o := g.call([]string{"DIR_PORT=x"}, "whonix_firewall", "-n"); o.code != 1 || !strings.Contains(o.errOut, "ERROR: environment: DIR_PORT: \"x\"") {
		t.Errorf("%+v", o)
	}
}

// TestOldDirectory: files in the directory that is no longer read are told.
func TestOldDirectory(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.put(t, "/rw/config/whonix_firewall.d/x.conf", "exit 1\n")
	if o := g.call(nil, "whonix_firewall", "-n"); o.code != 0 || !strings.Contains(o.errOut, "WARNING: /rw/config/whonix_firewall.d/x.conf: ") {
		t.Errorf("%+v", o)
	}
}

// TestMissingAccountsAreSaid: id's words on standard error, and no failure.
func TestMissingAccountsAreSaid(t *testing.T) {
	g := newRig(t, whonix.GatewayMarker)
	g.put(t, "/etc/passwd", "root:x:0:0::/:/\n")
	g.account = confd.Accounts(g.root)
	if o := g.call(nil, "whonix_firewall", "-n"); o.code != 0 || !strings.HasPrefix(o.errOut, "id: 'clearnet': no such user\nid: 'notunnel': no such user\n") {
		t.Errorf("%+v", o)
	}
}

// BenchmarkCheckConfig is the whole way from fragments to script, in process.
func BenchmarkCheckConfig(b *testing.B) {
	g := newRig(b, whonix.GatewayMarker)
	for _, name := range []string{"gateway", "workstation", "host"} {
		text, err := os.ReadFile("../../etc/whonix_firewall.d/30_whonix_" + name + "_default.conf")
		if err != nil {
			b.Fatal(err)
		}
		g.put(b, "/etc/whonix_firewall.d/30_whonix_"+name+"_default.conf", string(text))
	}
	for b.Loop() {
		if o := g.call(nil, "whonix_firewall", "--check-config"); o.code != 0 {
			b.Fatalf("%+v", o)
		}
	}
}
