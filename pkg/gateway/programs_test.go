// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/whonix"
)

// built are the programs themselves, as they are installed, built when the
// first test wants one.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gateway-test-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", dir, "whonix-networking/cmd/tor-config-sane", "whonix-networking/cmd/repair-torrc",
		"whonix-networking/cmd/anon-verify", "whonix-networking/cmd/anon-log")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := built(); dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// installed puts a program into the machine, by a name of its own, and returns
// its path there.
func (m *machine) installed(program, name string) string {
	m.Helper()
	dir, err := built()
	if err != nil {
		m.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, program))
	if err != nil {
		m.Fatal(err)
	}
	path := "/run/" + name
	m.write(path, string(data))
	if err := os.Chmod(m.root.Path(path), 0o755); err != nil {
		m.Fatal(err)
	}
	return path
}

// chrooted is a program of the machine's, which sees nothing but the machine.
func (m *machine) chrooted(path string, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: path, Args: append([]string{path}, args...), Dir: "/", Env: []string{}, SysProcAttr: &syscall.SysProcAttr{Chroot: string(m.root)}}
}

// bestOf repeats what depends on a clock: on a machine with much to do one of a
// few attempts has to keep the limits.
func bestOf(t *testing.T, attempts int, try func() error) {
	t.Helper()
	var err error
	for range attempts {
		if err = try(); err == nil {
			return
		}
	}
	t.Error(err)
}

// TestAcceptance05_KilledProgram: the program itself, killed at any point of its
// life, leaves the complete old or the complete new list.
func TestAcceptance05_KilledProgram(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	generator := m.installed("tor-config-sane", "generate-tor-service-defaults-torrc-anondist")
	generate := func(base string) string {
		m.write(listenersBase, base)
		if out, err := m.chrooted(generator).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return m.read(listenersPath)
	}
	bases := []string{ListenersBase(), ListenersBase() + "# changed\n"}
	begin := time.Now()
	want := []string{generate(bases[1]), generate(bases[0])}
	want[0], want[1] = want[1], want[0]
	life := time.Since(begin) / 2
	const kills = 60
	before := want[0]
	replaced := 0
	n := 0
	for ; n < kills || (replaced == 0 || replaced == n) && n < 10*kills; n++ {
		next := 1 - n%2
		m.write(listenersBase, bases[next])
		cmd := m.chrooted(generator)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(2 * life)) // where it is killed is the point, not readiness
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		got := m.read(listenersPath)
		if got != before && got != want[next] {
			t.Fatalf("kill %d left a part: %d bytes", n, len(got))
		}
		if got != before {
			replaced++
		}
		before = got
	}
	t.Logf("killed %d times within %v; the list was new after %d", n, 2*life, replaced)
	if replaced == 0 || replaced == n {
		t.Error("it was never killed before, or never after, it had replaced the list")
	}
	if got := generate(bases[1]); got != want[1] {
		t.Error("afterwards the list is not made")
	}
}

// TestAcceptance07_Wait: the program takes 10 s for a link-local address alone
// (defect 6), and ends within 2 s of a global one's becoming bindable; it
// succeeds both times.
func TestAcceptance07_Wait(t *testing.T) {
	m := newTorMachine(t, "gw-waits")
	dir, err := built()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	wait := func() (time.Duration, time.Time, error) {
		said.Reset()
		begin := time.Now()
		err := m.ns.Do(func() error {
			cmd := &exec.Cmd{Path: filepath.Join(dir, "tor-config-sane"), Args: []string{"tor-wait-for-network"}, Env: []string{}, Stderr: &said}
			return cmd.Run()
		})
		return time.Since(begin), time.Now(), err
	}
	says := func(text string) {
		t.Helper()
		if !strings.Contains(said.String(), "tor-wait-for-network: INFO: "+text) {
			t.Errorf("no %q in\n%s", text, said.String())
		}
	}
	bestOf(t, 3, func() error {
		took, _, err := wait()
		if err != nil || took < 9*time.Second || took > 11*time.Second {
			return fmt.Errorf("a link-local address: %v after %v", err, took)
		}
		return nil
	})
	says("Non-loopback IPv6 address 'fe80::")
	says("no global IPv6 address of 'eth1' became bindable in time.")
	bestOf(t, 3, func() error {
		bindableAt := make(chan time.Time, 1)
		go func() {
			time.Sleep(2 * time.Second) // what the acceptance asks for, not readiness
			m.ip("addr", "add", whonix.GatewayIP6+"/96", "dev", "eth1")
			address := netip.MustParseAddr(whonix.GatewayIP6)
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				can := false
				if err := m.ns.Do(func() error { can = bindable(address); return nil }); err != nil || can {
					break
				}
			}
			bindableAt <- time.Now()
		}()
		took, ended, err := wait()
		since := ended.Sub(<-bindableAt)
		m.ip("addr", "del", whonix.GatewayIP6+"/96", "dev", "eth1")
		if err != nil || since > 2*time.Second || took < 2*time.Second {
			return fmt.Errorf("a global address: %v after %v, %v after it could be bound", err, took, since)
		}
		return nil
	})
	says("Non-loopback IPv6 address '" + whonix.GatewayIP6 + "' dev 'eth1' is bindable.")
	if err := m.ns.Sysctl("ipv6/conf/all/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := wait(); err != nil {
		t.Error(err)
	}
	says("IPv6 is disabled, not waiting.")
}

// TestAcceptance10_Program: the program itself names file and line, exits 1,
// and leaves standard input alone.
func TestAcceptance10_Program(t *testing.T) {
	m := newTorMachine(t, "gw-verifies")
	verify := m.installed("anon-verify", "anon-verify")
	m.write(userTorrcDir+"/50_user.conf", "# mine\nSocksPortt 1")
	m.write(listenersPath, "SocksPort 127.0.0.1:9050\n")
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := typed.WriteString("typed"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	err = m.ns.Do(func() error {
		cmd := m.inside(ctx, verify)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &out // typed stays open: a reader would wait
		return cmd.Run()
	})
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() != 1 {
		t.Errorf("%v", err)
	}
	if !strings.Contains(out.String(), "\n"+userTorrcDir+"/50_user.conf:2:SocksPortt 1\n") {
		t.Errorf("%s", out.String())
	}
	typed.Close()
	if left, err := io.ReadAll(in); err != nil || string(left) != "typed" {
		t.Errorf("standard input was read: %q is left, %v", left, err)
	}
}

// TestAcceptance11_SelfInclude: the program itself ends within 2 s for a file
// that includes itself, in every way.
func TestAcceptance11_SelfInclude(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	parser := m.installed("anon-verify", "torrc-parser")
	const self = userTorrcDir + "/50_user.conf"
	for name, text := range map[string]string{
		"once": "%include " + self + "\n", "twice": strings.Repeat("%include "+self+"\n", 2), "a thousand times": strings.Repeat("%include "+self+"\n", 1000),
		"a pattern": "%include " + userTorrcDir + "/*.conf\n%include " + userTorrcDir + "/5*\n", "its directory": strings.Repeat("%include "+userTorrcDir+"\n", 3),
	} {
		m.write(self, text)
		bestOf(t, 3, func() error {
			begin := time.Now()
			out, _ := m.chrooted(parser, "-vv", self).Output()
			if took := time.Since(begin); took > 2*time.Second || !bytes.Contains(out, []byte("files are used")) {
				return fmt.Errorf("%s: %v, %d bytes", name, took, len(out))
			}
			return nil
		})
	}
}

// TestAcceptance12_Program: the program itself, as a member of the group
// debian-tor and nobody else, without a journal that it may read.
func TestAcceptance12_Program(t *testing.T) {
	m := newMachine(t)
	program := m.installed("anon-log", "anon-log")
	m.write(torLog, "Nov 25 12:00:00.000 [notice] Opened Socks listener connection (ready) on 127.0.0.1:9050\nNov 25 12:00:01.000 [notice] Bootstrapped 100% (done): Done\n")
	const tor, member, stranger = 105, 12345, 12346
	if err := errors.Join(os.Chmod(m.root.Path(torLog), 0o640), os.Chown(m.root.Path(torLog), 102, tor)); err != nil {
		t.Fatal(err)
	}
	run := func(groups ...uint32) (string, error) {
		cmd := m.chrooted(program)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: member, Gid: member, Groups: groups}
		out, err := cmd.Output()
		return string(out), err
	}
	const want = "tor.service:\ntor@default.service:\n" + torLog + ":\nNov 25 12:00:01.000 [notice] Bootstrapped 100% (done): Done\n"
	if out, err := run(tor); err != nil || out != want {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run(stranger); err == nil || strings.Contains(out, "Bootstrapped") {
		t.Errorf("a stranger: %v\n%s", err, out)
	}
}
