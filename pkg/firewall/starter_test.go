// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// fakeRoot is a root with executable scripts in the place of programs.
func fakeRoot(t *testing.T, files map[string]string) fsx.Root {
	t.Helper()
	root := fsx.Root(t.TempDir())
	for path, text := range files {
		if err := os.MkdirAll(filepath.Dir(root.Path(path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root.Path(path), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// callEnv is an environment that keeps what is printed.
func callEnv(out, errOut *bytes.Buffer, argv ...string) cli.Env {
	return cli.Env{Args: argv, Environ: os.Environ(), Stdin: strings.NewReader(""), Stdout: out, Stderr: errOut}
}

func callStarter(root fsx.Root, argv ...string) outcome {
	var out, errOut bytes.Buffer
	env := callEnv(&out, &errOut, argv...)
	code := cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		return (&starter{root: root, env: env}).run(ctx)
	})
	return outcome{code, out.String(), errOut.String()}
}

const echoArgs = "#!/bin/sh\necho \"${0##*/} $*\"\n"

// TestAcceptance25_Reload without /etc/motd and with a firewall that fails:
// what is said, and the exit code.
func TestAcceptance25_Reload(t *testing.T) {
	root := fakeRoot(t, map[string]string{"/usr/bin/sudo": "#!/bin/sh\necho \"sudo $*\"\nexit 7\n"})
	o := callStarter(root, "reloadfirewall")
	if o.code != 7 || o.errOut != "ERROR: Whonix firewall reload failed with exit code '7'!\n" || !strings.HasPrefix(o.out, "sudo -- /usr/bin/whonix_firewall\n") {
		t.Errorf("%+v", o)
	}
	root = fakeRoot(t, map[string]string{"/usr/bin/sudo": echoArgs, "/etc/motd": "welcome\n"})
	o = callStarter(root, "reloadfirewall")
	if o.code != 0 || !strings.HasPrefix(o.out, "welcome\nsudo -- /usr/bin/whonix_firewall\nOK: Whonix firewall reload completed successfully.\n") || o.errOut != "" {
		t.Errorf("%+v", o)
	}
}

func TestEditors(t *testing.T) {
	const sudo, edit = "/usr/bin/sudo", "/usr/bin/gsudoedit"
	for _, c := range []struct {
		name, marker, file string
	}{
		{"firewall30default", whonix.GatewayMarker, "30_whonix_gateway_default.conf"},
		{"firewall30default", whonix.WorkstationMarker, "30_whonix_workstation_default.conf"},
		{"firewall30default", whonix.HostMarker, "30_whonix_host_default.conf"},
		{"firewall50user", whonix.GatewayMarker, "50_user.conf"},
	} {
		root := fakeRoot(t, map[string]string{sudo: echoArgs, edit: echoArgs, c.marker: ""})
		if o := callStarter(root, c.name); o.code != 0 || o.out != "gsudoedit /etc/whonix_firewall.d/"+c.file+"\n" {
			t.Errorf("%+v: %+v", c, o)
		}
	}
	if o := callStarter(fakeRoot(t, map[string]string{sudo: echoArgs, edit: "#!/bin/sh\nexit 5\n"}), "firewall50user"); o.code != 5 || o.errOut != "" {
		t.Errorf("the editor's status: %+v", o)
	}
	if o := callStarter(fakeRoot(t, map[string]string{sudo: echoArgs}), "firewall30default"); o.code != 1 || !strings.HasPrefix(o.errOut, "ERROR: Running system does not appear to be Whonix-Gateway") || o.out != "" {
		t.Errorf("no role: %+v", o)
	}
	if o := callStarter(fakeRoot(t, map[string]string{sudo: echoArgs}), "firewall50user"); o.code != 127 || !strings.Contains(o.errOut, "gsudoedit") {
		t.Errorf("no editor: %+v", o)
	}
}

// TestNoSudo: said on standard error and, where there is a desktop, in a
// window.
func TestNoSudo(t *testing.T) {
	const window = "/usr/libexec/msgcollector/generic_gui_message"
	for _, name := range []string{"firewall30default", "firewall50user"} {
		o := callStarter(fakeRoot(t, map[string]string{window: echoArgs, whonix.GatewayMarker: ""}), name)
		if o.code != 1 || o.errOut != "ERROR: sudo unavailable. Boot into sysmaint session?\n" || o.out != "generic_gui_message error sudo unavailable ERROR: sudo unavailable. Boot into sysmaint session?  ok\n" {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestStarterArguments(t *testing.T) {
	root := fakeRoot(t, map[string]string{"/usr/bin/sudo": echoArgs})
	for _, argv := range [][]string{{"reloadfirewall", "x"}, {"firewall50user", "--force"}, {"whonix-firewall-starter"}} {
		if o := callStarter(root, argv...); o.code != 2 || !strings.Contains(o.errOut, ": hint: ") || o.out != "" {
			t.Errorf("%q: %+v", argv, o)
		}
	}
}

// isolationRig runs the test with a fake scurl that answers by its arguments.
func isolationRig(t *testing.T, scurl string, reachable map[string]bool) outcome {
	t.Helper()
	root := fakeRoot(t, map[string]string{"/usr/bin/scurl": "#!/bin/sh\n" + scurl})
	var out, errOut bytes.Buffer
	env := callEnv(&out, &errOut, "stream_isolation_test")
	code := cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		return (&isolationTest{
			root: root, env: env,
			qubesDB:   func(string) (string, bool) { return "10.137.0.1", true },
			reachable: func(addr string) bool { return reachable[addr] },
		}).run(ctx)
	})
	return outcome{code, out.String(), errOut.String()}
}

func TestStreamIsolation(t *testing.T) {
	const isolated = `case "$*" in
*127.0.0.1*) exit 7 ;;
*--proxy*) echo 192.0.2.2 ;;
*) [ -n "$UWT_DEV_PASSTHROUGH" ] && echo 192.0.2.1 || echo 192.0.2.3 ;;
esac
`
	both := map[string]bool{"10.137.0.1:9117": true, "10.152.152.10:9117": true}
	o := isolationRig(t, isolated, both)
	if o.code != 0 || !strings.HasSuffix(o.errOut, "+ true OK.\n") || strings.Count(o.errOut, "--proxy socks5h://") != 3 {
		t.Errorf("%+v", o)
	}
	o = isolationRig(t, isolated, map[string]bool{"10.152.152.10:9117": true})
	if o.code != 0 || !strings.Contains(o.errOut, "10.137.0.1 cannot be reached at port 9117, not tried.") {
		t.Errorf("one gateway only: %+v", o)
	}
	if o := isolationRig(t, isolated, nil); o.code != 1 || !strings.Contains(o.errOut, "nothing was tested") {
		t.Errorf("none: %+v", o)
	}
	if o := isolationRig(t, "echo 192.0.2.1\n", both); o.code != 1 || !strings.Contains(o.errOut, "The SocksPort at 127.0.0.1 reached the Internet") {
		t.Errorf("local SocksPort works: %+v", o)
	}
	shared := strings.ReplaceAll(isolated, "192.0.2.2", "192.0.2.1")
	if o := isolationRig(t, shared, both); o.code != 1 || !strings.Contains(o.errOut, "Try again.") {
		t.Errorf("same exit: %+v", o)
	}
	if o := isolationRig(t, "exit 7\n", both); o.code != 1 || !strings.Contains(o.errOut, "exit status 7") {
		t.Errorf("no network: %+v", o)
	}
}

// TestConnects tells a listener from nobody.
func TestConnects(t *testing.T) {
	if connects("127.0.0.1:1") {
		t.Error("nobody listens there")
	}
}

var errTest = errors.New("told to fail")
