// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
)

// boot runs the generator as systemd does.
func (m *machine) boot() error {
	m.stderr.Reset()
	if err := os.RemoveAll(m.root.Path(bootUnits)); err != nil {
		m.t.Fatal(err)
	}
	dirs := []string{bootUnits, bootUnits + ".early", bootUnits + ".late"}
	env := cli.Env{Args: append([]string{"/usr/lib/systemd/system-generators/" + bootName}, dirs...),
		Environ: []string{"GATEWAY_IP=192.0.2.1", "file_port_tuples=port#1"}, Stdout: &m.stdout, Stderr: &m.stderr}
	return generateAtBoot(context.Background(), env, m.root)
}

// optedIn runs the generator as an administrator does who has opted in.
func (m *machine) optedIn() error {
	g := m.generator()
	g.when, g.units = atBoot, bootUnits
	return g.run(context.Background())
}

func (m *machine) list(dir string) []string {
	entries, _ := os.ReadDir(m.root.Path(dir))
	var out []string
	for _, e := range entries {
		if !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// TestBootOnlyIfAsked: without the file there is nothing to see of it.
func TestBootOnlyIfAsked(t *testing.T) {
	m := newMachine(t)
	m.write(userDropIn, "touch "+m.root.Path("/started")+"\n")
	if err := m.boot(); err != nil || m.root.Exists(bootUnits) || m.root.Exists("/started") || m.stderr.Len() > 0 {
		t.Errorf("%v %q", err, m.stderr.String())
	}
}

// TestBoot: the units are those of a system run, but for their origin; sockets
// are enabled, shipped ones that are not wanted masked.
func TestBoot(t *testing.T) {
	m := newMachine(t)
	m.write(optIn, "")
	if err := m.boot(); err != nil || m.stderr.Len() > 0 {
		t.Fatalf("%v %s", err, m.stderr.String())
	}
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	if names := m.list(bootUnits); len(names) != 40 {
		t.Errorf("%d units", len(names))
	}
	for _, name := range m.list(bootUnits) {
		boot, system := m.read(bootUnits+"/"+name), m.read(systemUnits+"/"+name)
		if !slices.Equal(effective(boot), effective(system)) || !strings.Contains(boot, "generator at boot.\n") {
			t.Errorf("%s: %s", name, boot)
		}
	}
	links := m.list(bootUnits + wants)
	if len(links) != 20 {
		t.Errorf("%d sockets are enabled", len(links))
	}
	for _, l := range links {
		if _, err := os.Stat(m.root.Path(bootUnits + wants + "/" + l)); err != nil {
			t.Errorf("%v", err)
		}
	}
	m.write(shippedUnits+"/"+unitPrefix+"port_9102.socket", "")
	m.write(userDropIn, "file_port_tuples=port#7777\n")
	if err := m.boot(); err != nil {
		t.Fatal(err)
	}
	want := []string{unitPrefix + "port_7777.service", unitPrefix + "port_7777.socket", unitPrefix + "port_9102.socket"}
	if got := m.list(bootUnits); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if to, _ := os.Readlink(m.root.Path(bootUnits + "/" + unitPrefix + "port_9102.socket")); to != ownMask {
		t.Errorf("what is not wanted leads to %q", to)
	}
}

// TestBootInQubes: the database is not there yet, and is not asked; the address
// is found out when a service starts, unless a drop-in says it.
func TestBootInQubes(t *testing.T) {
	m := newMachine(t)
	m.write(optIn, "")
	m.write("/usr/bin/qubesdb-read", "#!/bin/sh\ntouch "+m.root.Path("/asked")+"\n")
	if err := os.Chmod(m.root.Path("/usr/bin/qubesdb-read"), 0o755); err != nil {
		t.Fatal(err)
	}
	service := bootUnits + "/" + unitPrefix + "port_9050.service"
	for dropIn, want := range map[string]string{
		"":                                  "EnvironmentFile=-" + environmentFile + "\nExecStartPre=+/usr/bin/env --ignore-environment " + settingsPath + "\nExecStart=" + relayPath + " ${GATEWAY_IP}:9050\n",
		"GATEWAY_IP=10.137.0.9\n":           "hint\nExecStart=" + relayPath + " 10.137.0.9:9050\n",
		"x=$(qubesdb-read /name) || true\n": "ExecStart=" + relayPath + " ${GATEWAY_IP}:9050\n",
	} {
		m.write(userDropIn, dropIn)
		if err := m.boot(); err != nil {
			t.Fatalf("%q: %v %s", dropIn, err, m.stderr.String())
		}
		if text := strings.ReplaceAll(m.read(service), hint, "hint"); !strings.Contains(text, want) {
			t.Errorf("%q: %s", dropIn, text)
		}
	}
	if m.root.Exists("/asked") {
		t.Error("the database was asked")
	}
	if text := m.read(bootUnits + "/" + unitPrefix + "port6_9050.service"); !strings.Contains(text, " ${GATEWAY_IP6}:9050\n") {
		t.Errorf("%s", text)
	}
}

// TestBootBroken: a drop-in that is broken or takes too long leaves what is
// shipped as it is; each line says who speaks.
func TestBootBroken(t *testing.T) {
	m := newMachine(t)
	m.write(optIn, "")
	for text, want := range map[string]string{
		"if true\n":                   "Invalid config file: " + userDropIn,
		"exit 0\n":                    "",
		"file_port_tuples=port#x:1\n": "ERROR: " + userDropIn + ":1: port#x:1",
		"read -r x < /dev/zero\n":     "",
	} {
		m.write(userDropIn, text)
		begin := time.Now()
		err := m.boot()
		if err == nil || want != "" && !strings.HasPrefix(m.stderr.String(), bootName+": "+want) {
			t.Errorf("%q: %v %q", text, err, m.stderr.String())
		}
		if units := m.list(bootUnits); len(units) > 0 && !strings.Contains(text, "port#x") {
			t.Errorf("%q: %q", text, units)
		}
		const patience = 30 * time.Second
		if took := time.Since(begin); took > patience {
			t.Errorf("%q: %v", text, took)
		}
	}
	if err := generateAtBoot(context.Background(), cli.Env{Args: []string{bootName}, Stderr: &m.stderr}, m.root); cli.Code(err) != cli.CodeUsage {
		t.Errorf("without directories: %v", err)
	}
}

// TestOptedIn: the program brings the running system where the next boot would,
// and leaves no unit that would hide the boot's.
func TestOptedIn(t *testing.T) {
	m := newMachine(t)
	if err := m.generate(); err != nil {
		t.Fatal(err)
	}
	mask := systemUnits + "/" + unitPrefix + "port_9102.socket"
	if err := os.Remove(m.root.Path(mask)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(os.DevNull, m.root.Path(mask)); err != nil {
		t.Fatal(err)
	}
	m.write(optIn, "")
	m.calls = nil
	if err := m.optedIn(); err != nil {
		t.Fatal(err)
	}
	if left := m.list(systemUnits); !slices.Equal(left, []string{filepath.Base(mask)}) {
		t.Errorf("left: %q", left)
	}
	if m.count("daemon-reload") != 1 || m.count("enable") != 0 || m.count("restart ") != 19 {
		t.Errorf("%q", m.calls)
	}
	if err := m.boot(); err != nil {
		t.Fatal(err)
	}
	m.calls = nil
	if err := m.optedIn(); err != nil || len(m.calls) > 0 {
		t.Errorf("again: %v %q", err, m.calls)
	}
}

// generator is one as on a running system.
func (m *machine) generator(environ ...string) *generator {
	return &generator{
		env:  cli.Env{Args: []string{generatorPath}, Environ: environ, Stdout: &m.stdout, Stderr: &m.stderr},
		root: m.root, when: forSystem, units: systemUnits, qubesdb: confd.QubesDB,
		control: func(_ context.Context, args ...string) error {
			m.calls = append(m.calls, strings.Join(args, " "))
			if strings.Contains(strings.Join(args, " "), "failing") {
				return errFailing
			}
			return nil
		},
	}
}
