// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/netlab"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// safeBuffer may be written while it is read.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// watchRig is a running watcher in a namespace and a root of its own, with a
// systemctl that writes down what it is asked.
type watchRig struct {
	t         *testing.T
	root      fsx.Root
	namespace *netlab.Namespace
	calls     *os.File // each call of systemctl, a line
	ready     *net.UnixConn
	errOut    safeBuffer
	stop      context.CancelFunc
	code      chan int
}

// startWatcher starts a watcher and waits until it is ready. before, which may
// be nil, is called right before.
func startWatcher(t *testing.T, status string, before func(w *watchRig)) *watchRig {
	t.Helper()
	w := &watchRig{t: t, code: make(chan int, 1)}
	w.root = fakeRoot(t, map[string]string{"/etc/passwd": "sdwdate:x:905:905::/:/\n", "/etc/group": "sdwdate:x:906:\n"})
	fifo := w.root.Path("/calls")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\necho \"$*\" > " + fifo + "\ncase \"$*\" in *status*) " + status + " ;; esac\n"
	if err := os.MkdirAll(w.root.Path("/usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.root.Path("/usr/bin/systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.calls, err = os.OpenFile(fifo, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.calls.Close() })
	socket := filepath.Join(t.TempDir(), "notify")
	if w.ready, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.ready.Close() })
	if w.namespace, err = netlab.New("watched"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.namespace.Close)
	if before != nil {
		before(w)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop = cancel
	t.Cleanup(cancel)
	env := cli.Env{Args: []string{"firewall-restarter"}, Environ: []string{"NOTIFY_SOCKET=" + socket}, Stdin: strings.NewReader(""), Stdout: &w.errOut, Stderr: &w.errOut}
	shutter := newShutter(fsx.Host)
	shutter.root = w.root
	go func() {
		_ = w.namespace.Do(func() error {
			w.code <- cli.Run(ctx, env, func(ctx context.Context, env cli.Env) error {
				return (&watcher{shutter: shutter, env: env, policy: nft.ChainPolicy, hasTable: nft.HasTable}).run(ctx)
			})
			return nil
		})
	}()
	return w
}

func (w *watchRig) waitReady() {
	w.t.Helper()
	buf := make([]byte, 64)
	_ = w.ready.SetReadDeadline(time.Now().Add(quick))
	n, err := w.ready.Read(buf)
	if err != nil || string(buf[:n]) != "READY=1" {
		w.t.Fatalf("not ready: %q, %v: %s", buf[:n], err, w.errOut.String())
	}
}

// next is the next call of systemctl; empty if there is none in time.
func (w *watchRig) next(within time.Duration) string {
	_ = w.calls.SetReadDeadline(time.Now().Add(within))
	var line []byte
	for buf := make([]byte, 1); ; {
		if _, err := w.calls.Read(buf); err != nil {
			return string(line)
		}
		if buf[0] == '\n' {
			return string(line)
		}
		line = append(line, buf[0])
	}
}

const (
	callStatus = "--no-pager --no-block status whonix-firewall"
	callReload = "--no-pager --no-block reload whonix-firewall"
)

// exactlyOneReload expects one status call, one reload, and nothing more.
func (w *watchRig) exactlyOneReload() {
	w.t.Helper()
	for _, want := range []string{callStatus, callReload, ""} {
		within := quick
		if want == "" {
			within = silent
		}
		if got := w.next(within); got != want {
			w.t.Errorf("systemctl %q, want %q", got, want)
		}
	}
}

func (w *watchRig) create(path string) {
	w.t.Helper()
	if err := os.WriteFile(w.root.Path(path), nil, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// TestAcceptance21_Watcher a file that appears, in whatever way, brings exactly
// one status call and one reload.
func TestAcceptance21_Watcher(t *testing.T) {
	for name, appear := range map[string]func(w *watchRig){
		"created":           func(w *watchRig) { w.create(firstSuccess) },
		"updates proxy":     func(w *watchRig) { w.create(secureProxyFile) },
		"other files first": func(w *watchRig) { w.create(sdwdateDir + "/status"); w.create(firstSuccess) },
		"renamed into place": func(w *watchRig) {
			w.create("/run/tmp")
			if err := os.Rename(w.root.Path("/run/tmp"), w.root.Path(firstSuccess)); err != nil {
				t.Fatal(err)
			}
		},
		"directory deleted and recreated": func(w *watchRig) {
			if err := os.RemoveAll(w.root.Path(sdwdateDir)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(w.root.Path(sdwdateDir), 0o755); err != nil {
				t.Fatal(err)
			}
			w.create(firstSuccess)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWatcher(t, "true", nil)
			w.waitReady()
			appear(w)
			w.exactlyOneReload()
		})
	}
	t.Run("already there", func(t *testing.T) {
		w := startWatcher(t, "true", func(w *watchRig) {
			if err := os.MkdirAll(w.root.Path(sdwdateDir), 0o755); err != nil {
				t.Fatal(err)
			}
			w.create(firstSuccess)
		})
		w.exactlyOneReload()
	})
	t.Run("unit not active", func(t *testing.T) {
		w := startWatcher(t, "exit 3", nil)
		w.waitReady()
		w.create(firstSuccess)
		for _, want := range []string{callStatus, ""} {
			if got := w.next(silent); got != want {
				t.Errorf("systemctl %q, want %q", got, want)
			}
		}
	})
}

// TestWatcherRace is D28: a file created at any moment of the start is not
// missed.
func TestWatcherRace(t *testing.T) {
	const rounds = 20
	for i := range rounds {
		w := startWatcher(t, "true", nil)
		for range i * 200 { // a little later each time
			_ = w.root.Exists("/")
		}
		_ = os.MkdirAll(w.root.Path(sdwdateDir), 0o755)
		w.create(firstSuccess)
		if got := w.next(quick); got != callStatus {
			t.Fatalf("round %d: systemctl %q", i, got)
		}
		if got := w.next(quick); got != callReload {
			t.Fatalf("round %d: systemctl %q", i, got)
		}
		w.stop()
		<-w.code
	}
}

// TestWatcherEnds with the code a service expects of SIGTERM.
func TestWatcherEnds(t *testing.T) {
	w := startWatcher(t, "true", nil)
	w.waitReady()
	w.stop()
	if code := <-w.code; code != 143 {
		t.Errorf("exit code %d: %s", code, w.errOut.String())
	}
}

// TestWatcherOwner is D31: the directory is given to sdwdate, and nothing in
// it, nor what a link in its place leads to.
func TestWatcherOwner(t *testing.T) {
	owner := func(w *watchRig, path string) (uid, gid uint32) {
		var st unix.Stat_t
		if err := unix.Stat(w.root.Path(path), &st); err != nil {
			t.Fatal(err)
		}
		return st.Uid, st.Gid
	}
	w := startWatcher(t, "true", func(w *watchRig) {
		if err := os.MkdirAll(w.root.Path(sdwdateDir), 0o755); err != nil {
			t.Fatal(err)
		}
		w.create(sdwdateDir + "/inside")
	})
	w.waitReady()
	if uid, gid := owner(w, sdwdateDir); uid != 905 || gid != 906 {
		t.Errorf("directory: %d:%d", uid, gid)
	}
	if uid, gid := owner(w, sdwdateDir+"/inside"); uid != 0 || gid != 0 {
		t.Errorf("file in it: %d:%d", uid, gid)
	}
	w = startWatcher(t, "true", func(w *watchRig) {
		for _, dir := range []string{"/run", "/etc/secret"} {
			if err := os.MkdirAll(w.root.Path(dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(w.root.Path("/etc/secret"), w.root.Path(sdwdateDir)); err != nil {
			t.Fatal(err)
		}
	})
	w.waitReady()
	if uid, _ := owner(w, "/etc/secret"); uid != 0 {
		t.Errorf("behind a link: %d", uid)
	}
}

// TestWatcherGuards is D6: whoever takes the tables away, or their policy, the
// network is shut again and a reload is asked for.
func TestWatcherGuards(t *testing.T) {
	const stock = "flush ruleset\ntable inet filter {\n chain input { type filter hook input priority filter; }\n chain forward { type filter hook forward priority filter; }\n chain output { type filter hook output priority filter; }\n}\n"
	for name, spoil := range map[string]string{
		"flush ruleset":         "flush ruleset\n",
		"Debian's own file":     stock,
		"one table":             "delete table inet nat\n",
		"a policy":              "chain inet filter output { policy accept; }\n",
		"a chain without rules": "flush chain inet filter output\ndelete chain inet filter output\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := startWatcher(t, "true", func(w *watchRig) { load(t, w.namespace, whonix.Gateway) })
			w.waitReady()
			start := time.Now()
			loadText(t, w.namespace, spoil)
			if got := w.next(quick); got != callReload {
				t.Fatalf("systemctl %q, want %q: %s", got, callReload, w.errOut.String())
			}
			t.Logf("shut and told within %v, nft's own time included", time.Since(start))
			_ = w.namespace.Do(func() error {
				for _, c := range []nft.Chain{input, forward, output} {
					if p, err := nft.ChainPolicy(c); p != dropPolicy || err != nil {
						t.Errorf("%s: policy %q, %v", c, p, err)
					}
				}
				return nil
			})
			expect(t, "loopback", w.namespace.TCP(0, "127.0.0.1:1", silent), netlab.Forbidden, netlab.Silent)
		})
	}
}

// TestWatcherLeavesLoadsAlone: our own loads delete and recreate the tables,
// which is no reason to shut anything.
func TestWatcherLeavesLoadsAlone(t *testing.T) {
	w := startWatcher(t, "true", func(w *watchRig) { load(t, w.namespace, whonix.Gateway) })
	w.waitReady()
	for range 3 {
		load(t, w.namespace, whonix.Gateway)
	}
	if got := w.next(silent); got != "" {
		t.Errorf("systemctl %q", got)
	}
}
