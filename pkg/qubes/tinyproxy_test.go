// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/whonix"
)

// TestPatchTinyproxy: Tor is the one upstream in the end, or it is an error
// and the file stays (defect 41).
func TestPatchTinyproxy(t *testing.T) {
	const block = tinyproxyBegin + "\n" + upstreamLine + "\n" + tinyproxyEnd + "\n"
	for in, want := range map[string]string{
		"Port 8082\n":                           "Port 8082\n" + block,
		"Port 8082":                             "Port 8082\n" + block,
		"":                                      block,
		"Port 8082\n" + block:                   "Port 8082\n" + block,
		block + block:                           block + tinyproxyBegin + "\n" + tinyproxyEnd + "\n",
		"# Upstream http 192.0.2.1:80\n":        "# Upstream http 192.0.2.1:80\n" + block,
		"  upstream  SOCKS5  127.0.0.1:9104\n":  "  upstream  SOCKS5  127.0.0.1:9104\n",
		"Logfile \"caf\xe9\"\n":                 "Logfile \"caf\xe9\"\n" + block,
		"Upstream socks5 127.0.0.1:91040\n":     "",
		block + "upstream http 192.0.2.1:80\n":  "",
		"Upstream none \".example\"\n" + block:  "",
		"\tUPSTREAM\tnone \"192.0.2.0/24\"\n":   "",
		"No Upstream \"example.org\"\n" + block: "",
		"ReversePath \"/\" \"http://x/\"\n":     "",
		upstreamLine + " \"example.org\"\n":     "",
		upstreamLine + "\x00\n":                 "",
	} {
		m := newMachine(t, whonix.GatewayMarker)
		m.write(tinyproxyConf, in)
		before := m.state()
		err := patchTinyproxy(m.root)
		after := m.state()
		switch {
		case m.read(tinyproxyConf) != in:
			t.Errorf("%q: another package's file was changed", in)
		case want == "" && (err == nil || after != before || !strings.Contains(err.Error(), tinyproxyConf+":")):
			t.Errorf("%q: %v, or something was written", in, err)
		case want != "" && (err != nil || m.read(tinyproxyRun) != want):
			t.Errorf("%q: %v, %q", in, err, m.read(tinyproxyRun))
		}
		if want == "" {
			continue
		}
		if err := patchTinyproxy(m.root); err != nil || m.state() != after {
			t.Errorf("%q: again: %v, or written for nothing", in, err)
		}
		if again, err := withUpstream([]byte(want)); err != nil || string(again) != want {
			t.Errorf("%q: a file that an older version had patched: %v, %q", in, err, again)
		}
	}
}

// TestPatchTinyproxyFails: no file, and one that is none, keep the proxy from
// being started.
func TestPatchTinyproxyFails(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	if err := patchTinyproxy(m.root); err == nil || !strings.Contains(err.Error(), tinyproxyConf) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.MkdirAll(m.root.Path(tinyproxyConf), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := patchTinyproxy(m.root); err == nil || !strings.Contains(err.Error(), tinyproxyConf) {
		t.Errorf("a directory: %v", err)
	}
	m = newMachine(t, whonix.GatewayMarker)
	m.write(tinyproxyConf, "Port 8082\n")
	m.write(filepath.Dir(tinyproxyRun), "in the way")
	if err := patchTinyproxy(m.root); err == nil || !strings.Contains(err.Error(), filepath.Dir(tinyproxyRun)) {
		t.Errorf("a file in the place of the directory: %v", err)
	}
	m = newMachine(t, whonix.GatewayMarker)
	m.write(tinyproxyConf, strings.Repeat("#", sizeMax+1))
	if err := patchTinyproxy(m.root); !errors.Is(err, fsx.ErrTooLarge) {
		t.Errorf("a file without end: %v", err)
	}
}

// TestAcceptance23_Tinyproxy: in a template nothing is changed, and the proxy is
// not started.
func TestAcceptance23_Tinyproxy(t *testing.T) {
	m := newMachine(t, whonix.GatewayMarker)
	m.write(whonix.TemplateMarker, "")
	m.write(tinyproxyConf, "Port 8082\n")
	before := m.state()
	if err := patchTinyproxy(m.root); code(err) != -1 || m.state() != before || !strings.Contains(err.Error(), "template") {
		t.Errorf("%v, or something was written", err)
	}
}

// tinyproxyStock is what Qubes ships, as far as it matters, with files of the
// test's.
const tinyproxyStock = `User nobody
Group nogroup
Port 8082
Timeout 60
DefaultErrorFile "%[1]s/default.html"
LogFile "%[1]s/log"
PidFile "%[1]s/pid"
MaxClients 50
DisableViaHeader Yes
Allow 127.0.0.1
ConnectPort 443
Filter "%[1]s/blacklist"
`

// TestTinyproxyGoesThroughTor: Debian's tinyproxy, started as the unit starts it,
// asks Tor for names as they are, and has the page that templates look for.
func TestTinyproxyGoesThroughTor(t *testing.T) {
	t.Parallel()
	m := newMachine(t, whonix.GatewayMarker)
	page, err := os.ReadFile(top + "/scripts/qubes-whonix/default.html")
	if err != nil {
		t.Fatal(err)
	}
	m.write("/default.html", string(page))
	m.write("/blacklist", "10.137.255.254\n127.0.0.1\n")
	for _, name := range []string{"/log", "/pid"} {
		m.write(name, "")
		if err := os.Chmod(m.root.Path(name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for dir := string(m.root); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.write(tinyproxyConf, fmt.Sprintf(tinyproxyStock, m.root))
	if err := patchTinyproxy(m.root); err != nil {
		t.Fatal(err)
	}
	ns, err := netlab.New("gateway")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var tor *socksPort
	var served *httptest.Server
	cmd := exec.Command("/usr/bin/tinyproxy", "-d", "-c", m.root.Path(tinyproxyRun))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
		err = ns.Do(func() error {
			c, err = (&net.Dialer{}).DialContext(ctx, network, address)
			return err
		})
		return c, err
	}, Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: localProxy})}}
	err = ns.Do(func() error {
		served = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "from %s", r.Host) }))
		tor = newSocksPortAt(t, net.JoinHostPort(whonix.LoopbackIP, whonix.AptGetPortText), func(ctx context.Context, network, _ string) (c net.Conn, err error) {
			err = ns.Do(func() error {
				c, err = (&net.Dialer{}).DialContext(ctx, network, served.Listener.Addr().String())
				return err
			})
			return c, err
		})
		return cmd.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer served.Close()
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	get := func(where string) (string, error) {
		answer, err := client.Get(where)
		if err != nil {
			return "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return string(text), err
	}
	end := time.Now().Add(time.Minute)
	own, err := get("http://127.0.0.1:8082/") // through itself: its filter refuses, with its page
	for ; err != nil && time.Now().Before(end); own, err = get("http://127.0.0.1:8082/") {
		time.Sleep(10 * time.Millisecond) // nothing tells that it listens
	}
	if err != nil || !strings.Contains(own, proxyMeta) {
		t.Fatalf("its page: %q, %v\n%s", own, err, m.read("/log"))
	}
	if text, err := get("http://deb.example/x"); err != nil || text != "from deb.example" {
		t.Errorf("%q, %v\n%s", text, err, m.read("/log"))
	}
	if asked, _ := tor.seen(); !slices.Equal(asked, []string{"deb.example"}) {
		t.Errorf("Tor was asked for %q", asked)
	}
}

// FuzzUpstream: a configuration that is accepted has one upstream, and comes out
// of a second time as it is.
func FuzzUpstream(f *testing.F) {
	for _, seed := range []string{"", tinyproxyStock, upstreamLine, "upstream\tSOCKS5 127.0.0.1:9104\r\n", "No Upstream \"x\"\n", "#Upstream none\n \v\fUpstream\xe9"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := withUpstream(text)
		if err != nil {
			return
		}
		found := 0
		for line := range strings.Lines(string(out)) {
			if words := strings.Fields(line); len(words) > 0 && isUpstream(words[0]) {
				found++
			}
		}
		if again, err := withUpstream(out); found != 1 || err != nil || string(again) != string(out) {
			t.Fatalf("%q: %q has %d; %v, %q", text, out, found, err, again)
		}
	})
}
