// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl/tortest"
)

// nobody is the account that the daemon runs as in these tests.
const nobody = 65534

// chroot is a small system with the real programs in it.
type chroot struct {
	root  fsx.Root
	pools [poolCount][]string
}

// build compiles the programs.
func build(t testing.TB, dir string, programs ...string) {
	t.Helper()
	for _, p := range programs {
		cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir+"/", "../../cmd/"+p)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

func newChroot(t testing.TB) *chroot {
	t.Helper()
	c := &chroot{root: fsx.Root(t.TempDir())}
	if err := os.Chmod(string(c.root), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/usr/libexec/sdwdate", "/usr/bin", "/run/sdwdate", "/run/tor", "/var/lib/sdwdate", "/dev", confDir} {
		if err := c.root.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	build(t, c.root.Path("/usr/libexec/sdwdate"), "sdwdate")
	build(t, c.root.Path("/usr/bin"), "url-to-unixtime")
	if err := unix.Mknod(c.root.Path("/dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/dev/null", "/run/sdwdate", "/var/lib/sdwdate"} {
		if err := os.Chown(c.root.Path(p), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(c.root.Path("/dev/null"), 0o666); err != nil {
		t.Fatal(err)
	}
	for pool := range poolCount {
		for i := range 3 {
			c.pools[pool] = append(c.pools[pool], "http://"+onionName(pool*1000+i))
		}
	}
	return c
}

// configure writes the configuration for a proxy.
func (c *chroot) configure(t testing.TB, proxy net.Addr, more string) {
	t.Helper()
	host, port, err := net.SplitHostPort(proxy.String())
	if err != nil {
		t.Fatal(err)
	}
	text := "PROXY_IP=" + host + "\nPROXY_PORT=" + port + "\n" + more
	for i, name := range []string{"ZERO", "ONE", "TWO"} {
		text += "SDWDATE_POOL_" + name + "=(\n\"" + strings.Join(c.pools[i], "\"\n\"") + "\"\n)\n"
	}
	if err := os.WriteFile(c.root.Path(confDir+"/30_default.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tor is a control port at Tor's socket, whose consensus is of now.
func (c *chroot) tor(t testing.TB) {
	t.Helper()
	l, err := net.Listen("unix", c.root.Path(controlSocket))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(c.root.Path(controlSocket), 0o777); err != nil {
		t.Fatal(err)
	}
	tor := &tortest.Tor{Methods: "NULL"}
	now := time.Now().UTC()
	tor.Answer("GETINFO dormant", "250-dormant=0", "250 OK")
	tor.Answer("GETINFO status/circuit-established", "250-status/circuit-established=1", "250 OK")
	tor.Answer("GETINFO status/bootstrap-phase", `250-status/bootstrap-phase=NOTICE BOOTSTRAP PROGRESS=100 TAG=done`, "250 OK")
	tor.Answer("GETINFO consensus/valid-after", "250-consensus/valid-after="+now.Add(-time.Hour).Format(humanTime), "250 OK")
	tor.Answer("GETINFO consensus/valid-until", "250-consensus/valid-until="+now.Add(2*time.Hour).Format(humanTime), "250 OK")
	tor.AnswerRaw("EXTENDCIRCUIT 0", "250 EXTENDED 9\r\n650 CIRC 9 BUILT\r\n")
	tor.Serve(l)
	t.Cleanup(tor.Close)
}

// command is the daemon's program in the small system.
func (c *chroot) command(ctx context.Context, before []string, args ...string) *exec.Cmd {
	argv := append(before, "chroot", fmt.Sprintf("--userspec=%d:%d", nobody, nobody), string(c.root), "/usr/libexec/sdwdate/sdwdate")
	argv = append(argv, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/run/sdwdate", "GOMAXPROCS=1"} // as the unit has it
	return cmd
}

// tellsTime serves the right time, plus an offset.
func tellsTime(offset time.Duration) func(asked, net.Conn) {
	return func(_ asked, c net.Conn) {
		readRequest(c)
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nDate: %s\r\n\r\n", time.Now().Add(offset).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"))
	}
}

func difference(t testing.TB, log string) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`new time difference               : ([+-][0-9.]+)`).FindStringSubmatch(log)
	if m == nil {
		t.Fatalf("no difference in\n%s", tailOf(log, 6000))
	}
	seconds, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(seconds * float64(time.Second))
}

// TestAcceptance24_DryRun: the real programs, watched: the difference is found,
// nothing sets or slews the clock, nobody but Tor is contacted.
func TestAcceptance24_DryRun(t *testing.T) {
	c := newChroot(t)
	const ahead = 7 * time.Minute
	p := newProxy(t, tellsTime(ahead))
	c.configure(t, p.Addr(), "")
	c.tor(t)
	trace := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := c.command(ctx, []string{"strace", "-f", "-qq", "-s", "300", "-o", trace, "-e", "trace=network,clock_settime,settimeofday,adjtimex,clock_adjtime,execve"}, "--dry-run", "--once")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if d := difference(t, string(out)); (d - ahead).Abs() > 5*time.Second {
		t.Errorf("difference %v", d)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	port := p.Addr().(*net.TCPAddr).Port
	connects := 0
	for line := range strings.Lines(string(data)) {
		switch {
		case strings.Contains(line, "settime"), strings.Contains(line, "settimeofday"), strings.Contains(line, "adj") && !strings.Contains(line, "modes=0"):
			t.Errorf("the clock: %s", line)
		case strings.Contains(line, "nscd"): // chroot(1), which looks up the account
		case strings.Contains(line, "connect("):
			connects++
			if !strings.Contains(line, fmt.Sprintf(`sin_port=htons(%d), sin_addr=inet_addr("127.0.0.1")`, port)) && !strings.Contains(line, `sun_path="/run/tor/control"`) {
				t.Errorf("a connection elsewhere: %s", line)
			}
		case strings.Contains(line, "sendto(") && strings.Contains(line, "sin_"), strings.Contains(line, "SOCK_DGRAM"):
			t.Errorf("a datagram: %s", line)
		}
	}
	if connects < 5 || len(p.seen()) < 3 {
		t.Errorf("%d connections, %d requests", connects, len(p.seen()))
	}
	if entries, _ := os.ReadDir(c.root.Path("/run/sdwdate")); len(entries) != 0 {
		t.Errorf("files were written: %v", entries)
	}
}

// TestMemory: the daemon is small, also at the end of a round, with the shipped
// servers.
func TestMemory(t *testing.T) {
	rss := measureRound(t).rss
	t.Logf("resident at most %d KiB", rss)
	if rss > 15<<10 {
		t.Errorf("%d KiB are resident, more than 15 MiB", rss)
	}
}

// figures of a round.
type figures struct {
	rss   int           // KiB, the daemon's most
	cpu   time.Duration // of the daemon and its children
	start time.Duration // of that: until the configuration is read
}

// measureRound runs the real programs with the shipped configuration; the last
// answer is withheld until the memory was measured.
func measureRound(t testing.TB) (f figures) {
	t.Helper()
	c := newChroot(t)
	ready, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	n := 0
	serve := tellsTime(0)
	p := newProxyTB(t, func(a asked, conn net.Conn) {
		mu.Lock()
		n++
		late := n > 2
		mu.Unlock()
		if late {
			once.Do(func() { close(ready) })
			<-release
		}
		serve(a, conn)
	})
	shipped, err := os.ReadFile("../../etc/sdwdate.d/30_default.conf")
	if err != nil {
		t.Fatal(err)
	}
	c.configure(t, p.Addr(), "SDWDATE_POOLS_RESET=true\n")
	data, _ := os.ReadFile(c.root.Path(confDir + "/30_default.conf"))
	settings, _, _ := bytes.Cut(data, []byte("SDWDATE_POOLS_RESET"))
	text := append(settings, bytes.ReplaceAll(shipped, []byte("https://"), []byte("http://"))...)
	if err := os.WriteFile(c.root.Path(confDir+"/30_default.conf"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	c.tor(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := c.command(ctx, nil, "--dry-run", "--once")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ready:
	case <-ctx.Done():
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	close(release)
	if waitErr := cmd.Wait(); err != nil || waitErr != nil {
		t.Fatalf("%v, %v\n%s", err, waitErr, out.String())
	}
	check := c.command(ctx, nil, "--check-config")
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f.start = check.ProcessState.UserTime() + check.ProcessState.SystemTime()
	f.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatalf("%s", status)
	}
	f.rss, _ = strconv.Atoi(string(m[1]))
	return f
}

// originalCheckout names a checkout of the original, whose cost is then measured
// in the same run: github.com/Kicksecure/sdwdate, with python3-requests,
// python3-socks and python3-dateutil installed.
const originalCheckout = "SDWDATE_ORIGINAL"

// BenchmarkRound is the processor time of a round with the real programs: what
// `--dry-run --once` costs, and that less a start of the daemon, which happens
// once a boot and is measured as `--check-config`. Beside it, where there is one,
// is what the original spends on the three processes alone that fetch the three
// times of its round; what its daemon, three connections to Tor and three runs of
// a shell script add is left out.
func BenchmarkRound(b *testing.B) {
	var whole, start, original time.Duration
	rss := 0
	for range b.N {
		f := measureRound(b)
		whole += f.cpu
		start += f.start
		rss = max(rss, f.rss)
		if dir := os.Getenv(originalCheckout); dir != "" {
			original += originalRequests(b, dir)
		}
	}
	each := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 / float64(b.N) }
	b.ReportMetric(each(whole), "cpu-ms/run")
	b.ReportMetric(each(whole-start), "cpu-ms/round")
	b.ReportMetric(float64(rss)/1024, "MiB")
	if original > 0 {
		b.ReportMetric(each(original), "original-cpu-ms/round")
		b.ReportMetric(float64(original)/float64(whole-start), "times-less")
	}
}

// originalRequests is what the original's requests of a round cost, all of which
// must succeed.
func originalRequests(b *testing.B, dir string) time.Duration {
	p := newProxyTB(b, tellsTime(0))
	defer p.Close()
	p.method = 0 // it offers no other
	host, port, err := net.SplitHostPort(p.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	var total time.Duration
	for pool := range poolCount {
		cmd := exec.Command("/usr/bin/python3", "-su", filepath.Join(dir, "usr/bin/url_to_unixtime"), host, port, "http://"+onionName(pool), "true")
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		out, err := cmd.Output()
		if err != nil || len(bytes.TrimSpace(out)) != 10 {
			b.Fatalf("%v: %s %v", cmd.Args, out, err)
		}
		total += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	return total
}

// TestAcceptance21_Powerless: a child has no capability while its parent has one
// that exec would pass on.
func TestAcceptance21_Powerless(t *testing.T) {
	if os.Getenv("SDWDATE_TEST_PARENT") != "" {
		var out bytes.Buffer
		cmd := exec.Command("/bin/cat", "/proc/self/status")
		cmd.Stdout = &out
		start := startPowerless
		if os.Getenv("SDWDATE_TEST_PARENT") == "all" {
			if err := dropAmbient(); err != nil {
				t.Fatal(err)
			}
			start = (*exec.Cmd).Start
		}
		if err := start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		own, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("PARENT\n%s\nCHILD\n%s\n", own, out.String())
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "test")
	for d := dir; d != "/" && d != "/tmp"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(program, data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, way := range []string{"one", "all"} {
		powerless(t, program, way)
	}
}

// powerless runs TestAcceptance21_Powerless as a parent with a capability.
func powerless(t *testing.T, program, way string) {
	// CAP_SYS_TIME is what the daemon has; tests give it up, so another stands
	// for it.
	cmd := exec.Command(program, "-test.run=^TestAcceptance21_Powerless$", "-test.v")
	cmd.Env = append(os.Environ(), "SDWDATE_TEST_PARENT="+way)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, AmbientCaps: []uintptr{unix.CAP_NET_RAW}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	parent, child, _ := strings.Cut(string(out), "\nCHILD\n")
	for _, set := range []string{"CapPrm", "CapEff", "CapAmb"} {
		value := func(text string) string {
			m := regexp.MustCompile(`(?m)^` + set + `:\s+([0-9a-f]+)$`).FindStringSubmatch(text)
			if m == nil {
				t.Fatalf("no %s in\n%s", set, text)
			}
			return strings.TrimLeft(m[1], "0")
		}
		if way == "all" && value(child) == "2000" && withCgo {
			continue
		}
		if set != "CapAmb" && value(parent) != "2000" || value(child) != "" {
			t.Errorf("%s: parent %q, child %q", set, value(parent), value(child))
		}
	}
}

// newProxyTB is newProxy for benchmarks too.
func newProxyTB(t testing.TB, serve func(asked, net.Conn)) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l, method: 2, serve: serve}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Minute))
				p.converse(c)
			}()
		}
	}()
	return p
}

// fetcherProgram makes a shell script the fetcher.
func fetcherProgram(t *testing.T, script string) string {
	t.Helper()
	root := fsx.Root(t.TempDir())
	write(t, root, "/fetcher", "#!/bin/sh\n"+script+"\n")
	if err := os.Chmod(root.Path("/fetcher"), 0o755); err != nil {
		t.Fatal(err)
	}
	return root.Path("/fetcher")
}

// outcomes carries out orders, and returns what became of each, by its number.
func outcomes(t *testing.T, k *children, orders []order) map[int]outcome {
	t.Helper()
	k.start(orders, how{Method: "auto"})
	defer k.stop()
	all := map[int]outcome{}
	for range orders {
		out, ok := k.wait(context.Background(), realClock().Sample().Boot+time.Minute)
		if _, again := all[out.ID]; !ok || again {
			t.Fatalf("%+v, %v, after %v", out, ok, all)
		}
		all[out.ID] = out
	}
	return all
}

// TestChildren: what becomes of children that hang, print too much or nonsense,
// or are missing. Whatever they do, there is one outcome for each order.
func TestChildren(t *testing.T) {
	const line = `{"n":%d,"exit":%d,"stdout":"%s","stderr":"%s"}` + "\n"
	told := func(n, exit int, stdout, stderr string) string {
		return fmt.Sprintf("printf '%s\\n' '"+strings.TrimSpace(line)+"'\n", "%s", n, exit, stdout, stderr)
	}
	orders := []order{{ID: 5, Source: source{URL: "http://x"}}, {ID: 6, Source: source{URL: "http://y"}}}
	for name, c := range map[string]struct {
		script string
		limit  time.Duration
		good   func(five, six outcome) bool
	}{
		"hangs":        {"sleep 1000 & sleep 1000", 200 * time.Millisecond, func(a, b outcome) bool { return a.TimedOut && a.Exit != 0 && b.TimedOut }},
		"hangs in one": {told(1, 0, "ok", "") + "sleep 1000", 5 * time.Second, func(a, b outcome) bool { return a.TimedOut && !b.TimedOut && b.Exit == 0 && string(b.Stdout) == "ok" }},
		"fails": {"echo err >&2; exit 6", time.Minute, func(a, b outcome) bool {
			return a.Exit == 6 && string(a.Stderr) == "err\n" && b.Exit == 6 && !b.TimedOut
		}},
		"dies":         {told(0, 0, "ok", "") + "kill -9 $$", time.Minute, func(a, b outcome) bool { return a.Exit == 0 && string(a.Stdout) == "ok" && b.Exit == notKilled }},
		"in any order": {told(1, 5, "", "late") + told(0, 0, "ok", ""), time.Minute, func(a, b outcome) bool { return string(a.Stdout) == "ok" && b.Exit == 5 && string(b.Stderr) == "late" }},
		"says nothing": {"exit 0", time.Minute, func(a, b outcome) bool { return len(a.Stdout) == 0 && len(b.Stdout) == 0 && a.Exit == 0 }},
		"twice":        {told(0, 0, "ok", "") + told(0, 0, "no", "") + told(1, 0, "yes", ""), time.Minute, func(a, b outcome) bool { return string(a.Stdout) == "ok" && string(b.Stdout) == "yes" }},
		"of others":    {told(2, 0, "ok", "") + told(0, 0, "ok", ""), time.Minute, func(a, b outcome) bool { return len(a.Stdout) == 0 && len(b.Stdout) == 0 }},
		"negative":     {told(-1, 0, "ok", ""), time.Minute, func(a, b outcome) bool { return len(a.Stdout) == 0 }},
		"odd exit":     {told(0, -1, "ok", "") + told(1, 0, "ok", ""), time.Minute, func(a, b outcome) bool { return len(a.Stdout) == 0 && len(b.Stdout) == 0 }},
		"prints much":  {"head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2", time.Minute, func(a, b outcome) bool { return a.Exit == 0 && len(a.Stdout) == 0 && len(a.Stderr) == stderrMax }},
		"a line of much": {told(0, 0, strings.Repeat("x", 3*stdoutMax), strings.Repeat("y", 3*stderrMax)), time.Minute,
			func(a, b outcome) bool { return len(a.Stdout) == stdoutMax && len(a.Stderr) == stderrMax }},
		"no line": {`printf '{"n":0'`, time.Minute, func(a, b outcome) bool { return len(a.Stdout) == 0 && a.Exit == 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newChildren(fetcherProgram(t, c.script), realClock())
			k.limit = c.limit
			if all := outcomes(t, k, orders); !c.good(all[5], all[6]) {
				t.Errorf("%+v\n%s\n%s", all, all[5].Stdout, all[6].Stdout)
			}
		})
	}
	k := newChildren("/nonexistent", realClock())
	for id, out := range outcomes(t, k, orders) {
		if out.Exit == 0 || !strings.HasPrefix(string(out.Stderr), "connect error: ") {
			t.Errorf("%d, one that is missing: %+v", id, out)
		}
	}
}

// TestChildPerPool: a process asks servers of one pool only, those that are asked
// together, and is told nothing but what it needs.
func TestChildPerPool(t *testing.T) {
	k := newChildren(fetcherProgram(t, `echo "$# $*" >&2; env >&2; exit 1`), realClock())
	var orders []order
	for i := range 6 {
		orders = append(orders, order{ID: i, Pool: i % poolCount, Source: source{URL: fmt.Sprintf("http://%d", i)}})
	}
	for id, out := range outcomes(t, k, orders) {
		want := fmt.Sprintf("7 --each --json --method=auto invalid IP 0 http://%d http://%d\n", id%poolCount, id%poolCount+poolCount)
		if got := string(out.Stderr); !strings.HasPrefix(got, want) || strings.Contains(got, "HOME=") {
			t.Errorf("%d: want %q, got %q", id, want, got)
		}
	}
}

func realClock() clock.Clock { return clock.System() }

// spent is the processor time of all processes that were started and have ended.
func spent(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRequests is the processor time of the six requests of a round, in
// their processes, as the daemon starts them.
func BenchmarkRequests(b *testing.B) {
	dir := b.TempDir()
	build(b, dir, "url-to-unixtime")
	p := newProxyTB(b, tellsTime(0))
	k := newChildren(dir+"/url-to-unixtime", realClock())
	proxy := p.Addr().(*net.TCPAddr).AddrPort()
	var orders []order
	for i := range poolCount * atOnce {
		orders = append(orders, order{ID: i, Pool: i % poolCount, Source: source{URL: "http://" + onionName(i)}})
	}
	before := spent(b)
	b.ResetTimer()
	for range b.N {
		k.start(orders, how{Proxy: proxy, Method: "auto"})
		for range orders {
			if out, ok := k.wait(context.Background(), realClock().Sample().Boot+time.Minute); !ok || out.Exit != 0 {
				b.Fatalf("%+v", out)
			}
		}
		k.running.Wait()
	}
	b.ReportMetric(float64((spent(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/round")
}

// TestSystemCalls: the unit lets the programs make every call that they make.
func TestSystemCalls(t *testing.T) {
	allowed := map[string]bool{"execve": true} // of chroot(1), too
	var expand func(set string)
	expand = func(set string) {
		for _, word := range strings.Fields(must(t, "systemd-analyze", "syscall-filter", set))[1:] {
			if strings.HasPrefix(word, "@") {
				expand(word)
			}
			allowed[word] = true
		}
	}
	m := regexp.MustCompile(`(?m)^SystemCallFilter=(.*)$`).FindStringSubmatch(shipped(t, "systemd/system/sdwdate.service"))
	for _, set := range append(strings.Fields(m[1]), "@default") {
		expand(set)
	}
	c := newChroot(t)
	p := newProxy(t, tellsTime(0))
	c.configure(t, p.Addr(), "")
	c.tor(t)
	trace := filepath.Join(t.TempDir(), "trace")
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if out, err := c.command(ctx, []string{"strace", "-f", "-qq", "-o", trace}, "--dry-run", "--once").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	data, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ = bytes.Cut(data, []byte(`execve("/usr/libexec/sdwdate/sdwdate"`)) // before it is chroot(1)
	made := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed)`).FindAllSubmatch(data, -1) {
		made[string(m[1])] = true
	}
	for call := range made {
		if !allowed[call] {
			t.Errorf("%s is not let through", call)
		}
	}
	if len(made) < 20 {
		t.Errorf("only %d calls were seen", len(made))
	}
}
