// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"whonix-networking/pkg/cli"
)

func (m *machine) anonLog(journal string, err error) error {
	l := &logReader{m.root, m.env("anon-log"), func(context.Context, string) (string, error) { return journal, err }}
	return l.run(context.Background())
}

// TestAcceptance12_Log: what Tor says after it has started is shown, to members
// of its group too, and without the noise of listeners (defect 18).
func TestAcceptance12_Log(t *testing.T) {
	m := newMachine(t)
	m.write(torLog, `Nov 25 12:00:00.000 [notice] Tor 0.4.9.11 opening new log file.
Nov 25 12:00:00.000 [notice] Opening Socks listener on 127.0.0.1:9050
Nov 25 12:00:00.000 [notice] Opened Socks listener connection (ready) on 127.0.0.1:9050
Nov 25 12:00:00.000 [notice] Opened HTTP tunnel listener connection (ready) on 127.0.0.1:9190
Nov 25 12:00:00.000 [notice] Opened Transparent pf/netfilter listener connection (ready) on 127.0.0.1:9041
Nov 25 12:00:00.000 [notice] Opening Control listener on /run/tor/control
Nov 25 12:00:00.000 [notice] Opened Control listener connection (ready) on /run/tor/control
Nov 25 12:00:00.000 [notice] New control connection opened.
Nov 25 12:00:01.000 [notice] Bootstrapped 100% (done): Done
Nov 25 12:00:02.000 [warn] Could not bind to 10.152.152.10:9050: Address already in use.
`)
	if err := os.Chmod(m.root.Path(torLog), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(m.root.Path(torLog), 102, 105); err != nil {
		t.Fatal(err)
	}
	if err := m.anonLog("", errors.New("no rights")); err != nil {
		t.Error(err)
	}
	const want = "tor.service:\ntor@default.service:\n" + torLog + ":\nNov 25 12:00:01.000 [notice] Bootstrapped 100% (done): Done\nNov 25 12:00:02.000 [warn] Could not bind to 10.152.152.10:9050: Address already in use.\n"
	if m.stdout.String() != want {
		t.Errorf("%s", m.stdout.String())
	}
	cmd := exec.Command("cat", m.root.Path(torLog)) // what a member of the group may
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345, Groups: []uint32{105}}}
	for dir := m.root.Path("/run/tor"); dir != "/tmp"; dir = dir[:strings.LastIndex(dir, "/")] {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v %s", err, out)
	}
}

// TestLogUnreadable: it fails only if there is nothing to read, and says why.
func TestLogUnreadable(t *testing.T) {
	m := newMachine(t)
	if err := m.anonLog("x [notice] Read configuration file \"a\".\nkept\n", nil); err != nil || strings.Count(m.stdout.String(), "kept\n") != 2 || strings.Contains(m.stdout.String(), "Read conf") {
		t.Errorf("%v %s", err, m.stdout.String())
	}
	if err := m.anonLog("", errors.New("no rights")); cli.Code(err) != 1 {
		t.Errorf("%v", err)
	}
	for _, want := range []string{"ERROR: Running command:\njournalctl --boot --no-pager --output cat -u tor@default.service\nfailed! This program needs to be run as root:\nsudo /usr/libexec/anon-log\nor this user '", "'systemd-journal'.", "Exiting.\n", torLog} {
		if !strings.Contains(m.stderr.String(), want) {
			t.Errorf("no %q in %s", want, m.stderr.String())
		}
	}
}

// TestInfo: what counts of APT's sources, and the version or that there is none
// (defect 46).
func TestInfo(t *testing.T) {
	m := newMachine(t)
	m.write(dpkgStatus, "Package: tor\nStatus: deinstall ok config-files\nVersion: 0.1\n\nPackage: torsocks\nStatus: install ok installed\nVersion: 2\n")
	run := func() string {
		m.stdout.Reset()
		if err := info(m.root, m.env("anon-info")); err != nil {
			t.Error(err)
		}
		return m.stdout.String()
	}
	if got := run(); got != "INFO: "+sourcesPath+" does not exist.\nINFO: version of the 'tor' package: not installed\n" {
		t.Errorf("%s", got)
	}
	m.write(sourcesPath2020, "# deb x\ndeb https://deb.torproject.org/torproject.org bookworm main\n\n")
	m.write(dpkgStatus, "Package: tor\nStatus: install ok installed\nVersion: 0.4.9.11-1\n")
	if got := run(); got != "INFO: "+sourcesPath2020+" uncommented lines:\ndeb https://deb.torproject.org/torproject.org bookworm main\nINFO: version of the 'tor' package: 0.4.9.11-1\n" {
		t.Errorf("%s", got)
	}
	m.write(sourcesPath, "# deb\nTypes: deb\nURIs: https://a\n https://b\nSuites: x\nComponents: main\nSigned-By: /usr/share/deb.gpg\n more\nEnabled: no\n\n\nTypes: deb-src\n")
	if got := run(); got != "INFO: "+sourcesPath+" uncommented lines:\nTypes: deb\nURIs: https://a\n https://b\nSuites: x\nComponents: main\nEnabled: no\n\nTypes: deb-src\nINFO: version of the 'tor' package: 0.4.9.11-1\n" {
		t.Errorf("%s", got)
	}
}
