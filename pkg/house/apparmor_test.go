// SPDX-License-Identifier: GPL-3.0-or-later

//go:build vmtest

package house

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests of this file run in the virtual machine of scripts/vmtest, under
// Debian's kernel: they load every profile of AppArmor that is shipped, let its
// programs work, and fail for whatever is denied.

// long is how long anything may take in an emulated machine.
const long = 2 * time.Minute

// armor is the enforced profiles, and what the kernel tells of them.
type armor struct {
	t       *testing.T
	kmsg    int
	markers int
	tested  map[string]bool // profiles
}

// marker is confined too: what it is denied tells that everything before it was told.
const marker = "/bin/marker"

func newArmor(t *testing.T) *armor {
	t.Helper()
	if enabled, err := os.ReadFile("/sys/module/apparmor/parameters/enabled"); err != nil || string(enabled) != "Y\n" {
		t.Fatalf("this is no kernel with AppArmor: %q, %v", enabled, err)
	}
	if err := unix.Mount("securityfs", "/sys/kernel/security", "securityfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	busybox, err1 := os.ReadFile("/bin/busybox")
	err2 := os.WriteFile(marker, busybox, 0o755)
	err3 := os.WriteFile("/etc/apparmor.d/marker", []byte("profile marker "+marker+" { "+marker+" mr, }\n"), 0o644)
	kmsg, err4 := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	_, err5 := unix.Seek(kmsg, 0, unix.SEEK_END)
	if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
		t.Fatal(err)
	}
	a := &armor{t: t, kmsg: kmsg, tested: map[string]bool{}}
	files, err := filepath.Glob("/etc/apparmor.d/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if fi, err := os.Stat(file); err != nil || fi.IsDir() {
			continue
		}
		if out, err := exec.Command(apparmorParser(t), "--replace", "--skip-cache", file).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", file, err, out)
		}
	}
	return a
}

func apparmorParser(t *testing.T) string {
	t.Helper()
	for _, dir := range []string{"/sbin", "/usr/sbin"} {
		if _, err := os.Stat(dir + "/apparmor_parser"); err == nil {
			return dir + "/apparmor_parser"
		}
	}
	t.Fatal("there is no apparmor_parser")
	return ""
}

// profiles are those that the kernel enforces, but for the test's own.
func (a *armor) profiles() []string {
	data, err := os.ReadFile("/sys/kernel/security/apparmor/profiles")
	if err != nil {
		a.t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(data)) {
		name, mode, _ := strings.Cut(strings.TrimSpace(line), " ")
		if mode != "(enforce)" {
			a.t.Errorf("the profile %s is in the mode %s", name, mode)
		}
		if name != "marker" {
			names = append(names, name)
		}
	}
	return names
}

// account is who a program runs as; as its unit has it, without new privileges or
// with them.
type account struct {
	uid, gid        uint32
	caps            []uintptr
	noNewPrivileges bool
}

// process is a confined program that runs.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	out  *output
	done chan error
}

// output is what a program has printed so far.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts a program, and holds that it is confined by the profile from its
// first instruction on.
func (a *armor) start(t *testing.T, profile string, as account, env []string, words ...string) *process {
	t.Helper()
	a.tested[profile] = true
	p := &process{t: t, cmd: exec.Command(words[0], words[1:]...), out: &output{changed: make(chan struct{})}, done: make(chan error, 1)}
	p.cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Credential: &syscall.Credential{Uid: as.uid, Gid: as.gid}, AmbientCaps: as.caps}
	label := make(chan string)
	go func() {
		runtime.LockOSThread() // for ever: the thread gets no privileges back
		var err error
		if as.noNewPrivileges {
			err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		}
		if err = errors.Join(err, p.cmd.Start()); err != nil {
			label <- err.Error()
			return
		}
		pid := p.cmd.Process.Pid
		var status unix.WaitStatus
		_, err1 := unix.Wait4(pid, &status, 0, nil) // exec has stopped it
		current, err2 := os.ReadFile(fmt.Sprintf("/proc/%d/attr/current", pid))
		if err := errors.Join(err1, err2, unix.PtraceDetach(pid)); err != nil {
			label <- err.Error()
			return
		}
		label <- strings.TrimSpace(string(current))
		p.done <- p.cmd.Wait()
	}()
	if got := <-label; got != profile+" (enforce)" {
		t.Fatalf("%s is confined by %q and not by %s", strings.Join(words, " "), got, profile)
	}
	return p
}

// says waits until the program has printed something.
func (p *process) says(pattern string) {
	p.t.Helper()
	re, limit := regexp.MustCompile(pattern), time.After(long)
	for {
		p.out.mu.Lock()
		changed, found := p.out.changed, re.Match(p.out.text.Bytes())
		p.out.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case err := <-p.done:
			p.done <- err
			if !re.MatchString(p.out.String()) {
				p.t.Fatalf("it ended (%v) and did not say %s:\n%s", err, pattern, p.out)
			}
			return
		case <-limit:
			p.t.Fatalf("it does not say %s:\n%s", pattern, p.out)
		}
	}
}

// ended tells whether it has.
func (p *process) ended() bool {
	select {
	case err := <-p.done:
		p.done <- err
		return true
	default:
		return false
	}
}

// ends waits for the exit code, which has to be one of some.
func (p *process) ends(codes ...int) {
	p.t.Helper()
	select {
	case err := <-p.done:
		var exit *exec.ExitError
		code := 0
		if errors.As(err, &exit) {
			code = exit.ExitCode()
			if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				code = 128 + int(status.Signal())
			}
		} else if err != nil {
			p.t.Fatal(err)
		}
		if !slices.Contains(codes, code) {
			p.t.Errorf("%s: exit code %d:\n%s", strings.Join(p.cmd.Args, " "), code, p.out)
		}
	case <-time.After(long):
		_ = p.cmd.Process.Kill()
		p.t.Fatalf("%s does not end:\n%s", strings.Join(p.cmd.Args, " "), p.out)
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// run is start and ends.
func (a *armor) run(t *testing.T, profile string, as account, words ...string) string {
	t.Helper()
	p := a.start(t, profile, as, nil, words...)
	p.ends(0)
	return p.out.String()
}

// allowed fails for every denial since the last call but those that are expected.
func (a *armor) allowed(t *testing.T, expected ...string) {
	t.Helper()
	a.markers++
	name := "/tmp/marker-" + strconv.Itoa(a.markers)
	if err := os.WriteFile(name, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(marker)
	cmd.Args = []string{"cat", name}
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Fatalf("AppArmor does not confine: %s", out)
	}
	for end := time.Now().Add(long); ; {
		record := make([]byte, 8<<10)
		n, err := unix.Read(a.kmsg, record)
		switch {
		case errors.Is(err, unix.EAGAIN) && time.Now().Before(end):
			// The kernel tells it by a thread of its own.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(a.kmsg), Events: unix.POLLIN}}, 1000)
			continue
		case err != nil:
			t.Fatalf("the log of the kernel: %v", err)
		}
		_, text, _ := strings.Cut(string(record[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		if !strings.Contains(text, `apparmor="DENIED"`) {
			continue
		}
		if strings.Contains(text, `name="`+name+`"`) {
			return
		}
		if !slices.ContainsFunc(expected, func(e string) bool { return regexp.MustCompile(e).MatchString(text) }) {
			t.Errorf("denied: %s", text)
		}
	}
}

// TestAppArmor is one test, as what the programs do builds on one machine.
func TestAppArmor(t *testing.T) {
	a := newArmor(t)
	t.Run("OnionGrater", a.onionGrater)
	t.Run("URLToUnixtime", a.urlToUnixtime)
	t.Run("Sdwdate", a.sdwdate)
	t.Run("Firewall", a.firewall)
	for _, name := range a.profiles() {
		if !a.tested[name] {
			t.Errorf("no program was tested under the profile %s", name)
		}
	}
}
