// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// enableRig is enable-firewall with what it does to the network replaced.
type enableRig struct {
	*enabler
	byNft, byNetlink, byLinks int
	nftErr, netlinkErr        error
	linksErr                  error
	drops                     bool // what the kernel says
}

func (g *enableRig) Start(context.Context) (nft.Transaction, error) { return g, nil }

func (g *enableRig) Abandon() {}

func (g *enableRig) Commit([]byte) error {
	g.byNft++
	return g.nftErr
}

func newEnableRig(t *testing.T, program string, extra map[string]string) *enableRig {
	t.Helper()
	files := map[string]string{whonix.GatewayMarker: "", "/proc/sys/net/ipv6/x": ""}
	if program != "" {
		files[firewallProgram] = "#!/bin/sh\n" + program
	}
	for path, text := range extra {
		files[path] = text
	}
	g := &enableRig{drops: true}
	root := fakeRoot(t, files)
	g.enabler = &enabler{
		shutter: &shutter{
			root: root, nft: g,
			native:   func(nft.Script) error { g.byNetlink++; return g.netlinkErr },
			linksOff: func() error { g.byLinks++; return g.linksErr },
		},
		policy: func(nft.Chain) (string, error) {
			if g.drops {
				return dropPolicy, nil
			}
			return "", nil
		},
	}
	return g
}

func (g *enableRig) call(args ...string) outcome {
	var out, errOut bytes.Buffer
	env := callEnv(&out, &errOut, append([]string{"enable-firewall"}, args...)...)
	return outcome{cli.Run(context.Background(), env, g.run), out.String(), errOut.String()}
}

// failed reports whether both status files are there.
func (g *enableRig) failed() bool { return g.root.IsFile(failedFile) && g.root.IsFile(failedFileQubes) }

// loads is a whonix_firewall that leaves the record of a load.
func loads(root fsx.Root) string {
	dir := root.Path(stateDir)
	return "mkdir -p " + dir + "\necho x > " + dir + "/new\nmv " + dir + "/new " + dir + "/loaded.nft\n"
}

// TestEnableFailures is the part of acceptance 14 that is enable-firewall's:
// however whonix_firewall fails, the network is shut, both files are there, and
// the exit code is 1.
func TestEnableFailures(t *testing.T) {
	for _, c := range []struct {
		name, program, said string
	}{
		{"exit 1", "exit 1\n", "exit status 1"},
		{"killed", "kill -9 $$\n", "ended by signal 9 (SIGKILL)"},
		{"nothing loaded", "exit 0\n", "ended with success but has loaded nothing"},
		{"missing", "", "no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newEnableRig(t, c.program, nil)
			o := g.call()
			if o.code != 1 || !strings.Contains(o.errOut, c.said) || !g.failed() || g.byNft != 1 || g.byNetlink != 0 {
				t.Errorf("%+v, shut by nft %d times", o, g.byNft)
			}
		})
	}
	g := newEnableRig(t, "exit 0\n", nil)
	if err := os.WriteFile(g.root.Path(firewallProgram), []byte("#!/bin/sh\n"+loads(g.root)), 0o755); err != nil {
		t.Fatal(err)
	}
	g.drops = false
	if o := g.call(); o.code != 1 || !strings.Contains(o.errOut, "does not drop by default") || !g.failed() {
		t.Errorf("record without chains: %+v", o)
	}
	g = newEnableRig(t, "exit 0\n", nil)
	if err := g.root.Remove(whonix.GatewayMarker); err != nil {
		t.Fatal(err)
	}
	if o := g.call(); o.code != 1 || !strings.Contains(o.errOut, "no role") || !g.failed() || g.byNft != 1 {
		t.Errorf("no role: %+v", o)
	}
}

// TestAcceptance15_FailureForgotten a later success removes both files.
func TestAcceptance15_FailureForgotten(t *testing.T) {
	g := newEnableRig(t, "exit 1\n", nil)
	g.call()
	if !g.failed() {
		t.Fatal("no status files")
	}
	if err := os.WriteFile(g.root.Path(firewallProgram), []byte("#!/bin/sh\n"+loads(g.root)), 0o755); err != nil {
		t.Fatal(err)
	}
	if o := g.call(); o.code != 0 || g.root.Exists(failedFile) || g.root.Exists(failedFileQubes) || g.byNft != 1 {
		t.Errorf("%+v", o)
	}
}

// TestShutByWhateverWorks is D5: nft, else netlink, else the links.
func TestShutByWhateverWorks(t *testing.T) {
	g := newEnableRig(t, "exit 1\n", nil)
	g.nftErr = nft.ErrNoNft
	if o := g.call(); o.code != 1 || g.byNetlink != 1 || g.byLinks != 0 || !strings.Contains(o.errOut, "over netlink") {
		t.Errorf("%+v", o)
	}
	g.netlinkErr = errTest
	if o := g.call(); o.code != 1 || g.byLinks != 1 || !strings.Contains(o.errOut, "by taking its links down") {
		t.Errorf("%+v", o)
	}
	g.linksErr = errTest
	if o := g.call(); o.code != 1 || !strings.Contains(o.errOut, "THE NETWORK MAY BE OPEN") {
		t.Errorf("%+v", o)
	}
}

// TestEarly: a firewall that is loaded stays, otherwise everything is shut, and
// nothing is called a failure.
func TestEarly(t *testing.T) {
	g := newEnableRig(t, "", nil)
	if o := g.call("--early"); o.code != 0 || g.byNft != 0 {
		t.Errorf("loaded: %+v", o)
	}
	g.drops = false
	if o := g.call("--early"); o.code != 0 || g.byNft != 1 || g.root.Exists(failedFile) {
		t.Errorf("not loaded: %+v", o)
	}
}

func TestEnableArguments(t *testing.T) {
	g := newEnableRig(t, "exit 1\n", nil)
	for _, args := range [][]string{{"x"}, {"--early", "x"}, {""}, {"-n"}} {
		if o := g.call(args...); o.code != 2 || g.byNft != 0 || g.root.Exists(failedDir) || o.out != "" {
			t.Errorf("%q: %+v", args, o)
		}
	}
	if o := g.call("--help"); o.code != 0 || !strings.HasPrefix(o.out, "usage: enable-firewall") {
		t.Errorf("%+v", o)
	}
}

// TestLockdown: in the kernel, nothing passes, loopback included, by either
// way; and a load opens again.
func TestLockdown(t *testing.T) {
	for name, shut := range map[string]func() error{
		"nft": func() error {
			return nft.Load(context.Background(), nft.NewExec(fsx.Host), lockdownScript(true).Bytes())
		},
		"netlink": func() error { return nft.LoadNetlink(lockdownScript(true)) },
	} {
		t.Run(name, func(t *testing.T) {
			topo := buildNetwork(t)
			gw := topo.Gateway.Namespace
			load(t, gw, whonix.Gateway)
			startTor(t, topo)
			expect(t, "before", gw.TCP(uidTor, addr(netlab.ServerIP, 80), quick), netlab.Answered)
			if err := gw.Do(shut); err != nil {
				t.Fatal(err)
			}
			for what, o := range map[string]netlab.Outcome{
				"Tor outwards":         gw.TCP(uidTor, addr(netlab.ServerIP, 80), silent),
				"Tor outwards, IPv6":   gw.TCP(uidTor, addr(netlab.ServerIP6, 80), silent),
				"loopback":             gw.TCP(0, "127.0.0.1:9050", silent),
				"loopback, IPv6":       gw.TCP(0, "[::1]:9050", silent),
				"from the Workstation": topo.Workstation.Namespace.TCP(0, addr(whonix.GatewayIP, 9050), silent),
			} {
				expect(t, what, o, netlab.Forbidden, netlab.Silent)
			}
			for _, c := range []nft.Chain{input, forward, output} {
				_ = gw.Do(func() error {
					if p, err := nft.ChainPolicy(c); p != dropPolicy || err != nil {
						t.Errorf("%s: policy %q, %v", c, p, err)
					}
					return nil
				})
			}
			if rules := listRuleset(t, gw); strings.Contains(rules, "accept\n") && !strings.Contains(rules, "table arp") {
				t.Errorf("a rule accepts:\n%s", rules)
			}
			load(t, gw, whonix.Gateway)
			expect(t, "afterwards", gw.TCP(uidTor, addr(netlab.ServerIP, 80), quick), netlab.Answered)
		})
	}
}

// TestLinksDown: the last resort takes every link down but loopback.
func TestLinksDown(t *testing.T) {
	topo := buildNetwork(t)
	if err := topo.Gateway.Namespace.Do(linksDown); err != nil {
		t.Fatal(err)
	}
	expect(t, "outwards", topo.Gateway.Namespace.TCP(0, addr(netlab.ServerIP, 80), silent), netlab.NoRoute)
	l, err := topo.Gateway.Namespace.Listen(0, "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	expect(t, "loopback", topo.Gateway.Namespace.TCP(0, "127.0.0.1:80", silent), netlab.Connected)
}
