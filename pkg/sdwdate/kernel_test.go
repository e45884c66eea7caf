// SPDX-License-Identifier: GPL-3.0-or-later

//go:build vmtest

package sdwdate

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/clock/clocktest"
	"whonix-networking/pkg/fsx"
)

// The tests of this file change the clock. They run in the virtual machine of
// scripts/vmtest, under Debian's kernel, and hold what the simulation promises
// against it.

// asProgram makes this binary sclockadj when it is called so, and asDaemon the
// daemon.
const (
	asProgram = "sclockadj"
	asDaemon  = "sdwdate"
)

func init() {
	switch filepath.Base(os.Args[0]) {
	case asProgram:
		os.Exit(cli.Main(Sclockadj))
	case asDaemon:
		os.Exit(cli.Bare(kernelDaemon))
	}
}

// kernelDaemon is sdwdate on this machine, with its clock, files and signals, and
// with servers that all say that the clock is behind by its argument.
func kernelDaemon(ctx context.Context, env cli.Env) error {
	offset, err := time.ParseDuration(env.Args[1])
	if err != nil {
		return err
	}
	system := clock.System()
	d := &daemon{
		env: env, root: fsx.Host, clock: system, draw: cryptoDraw, state: "/var/lib/sdwdate", db: hostQubesdb(fsx.Host),
		log:    &logger{out: env.Stderr, raw: env.Stdout, now: env.Now},
		status: statusFolder{root: fsx.Host, path: statusDir}, transport: &direct{clock: system, offset: offset, seen: func() {}},
		hangup: make(chan os.Signal, 1), dead: graveyard{},
		ready: func(context.Context) (int, string) { return prepared, "" },
		ask: func(context.Context) (window, error) {
			return window{time.Unix(1, 0), time.Unix(builtinCeiling, 0)}, nil
		},
	}
	if err := d.equip(); err != nil {
		return err
	}
	return d.live(ctx, false)
}

// kernel is the machine's clock. What it gains on CLOCK_MONOTONIC_RAW is what
// was done to it.
type kernel struct {
	clock.Clock
	start clock.Sample
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	if !clocktest.Own() {
		t.Fatal("this machine's clock is not to be changed")
	}
	if err := fsx.Host.MkdirAll(statusDir, 0o755); err != nil {
		t.Fatal(err)
	}
	k := &kernel{Clock: clock.System()}
	t.Cleanup(func() {
		if err := errors.Join(k.SetTick(clock.NormalTick), k.SingleShot(0), k.SetStatus(unix.STA_UNSYNC), fsx.Host.Remove(clock.LeasePath)); err != nil {
			t.Error(err)
		}
	})
	k.normal(t)
	k.start = k.Sample()
	return k
}

// gained is what CLOCK_REALTIME has gained since the start.
func (k *kernel) gained() time.Duration {
	now := k.Sample()
	return now.Real.Sub(k.start.Real) - (now.Raw - k.start.Raw)
}

func (k *kernel) discipline(t *testing.T) clock.Discipline {
	t.Helper()
	d, err := k.Discipline()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// normal fails unless the kernel has its rate back.
func (k *kernel) normal(t *testing.T) {
	t.Helper()
	d := k.discipline(t)
	left, err := k.SingleShotLeft()
	if err != nil || d.Tick != clock.NormalTick || d.Frequency != 0 || d.Steered() || left != 0 || fsx.Host.Exists(clock.LeasePath) {
		t.Errorf("%+v, left %v, lease %v, %v", d, left, fsx.Host.Exists(clock.LeasePath), err)
	}
}

// pass lets time pass.
func (k *kernel) pass(t *testing.T, d time.Duration) {
	t.Helper()
	w, err := k.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if wake, err := w.Wait(context.Background(), d); wake != clock.Elapsed || err != nil {
		t.Fatalf("%v, %v", wake, err)
	}
}

// near fails unless the clock gained what it should have.
func (k *kernel) near(t *testing.T, want, band time.Duration) {
	t.Helper()
	if got := k.gained(); (got - want).Abs() > band {
		t.Errorf("gained %v, want %v ± %v", got, want, band)
	} else {
		t.Logf("gained %v, want %v", got, want)
	}
}

// observer reads the clock about 1000 times a second.
type observer struct {
	stop chan struct{}
	done sync.WaitGroup

	samples int
	back    time.Duration // the farthest way back
	rate    float64       // the highest, in parts per million, over a second
}

func observe(k *kernel) *observer {
	o := &observer{stop: make(chan struct{})}
	o.done.Add(1)
	go o.run(k)
	return o
}

func (o *observer) run(k *kernel) {
	defer o.done.Done()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	last := k.Now()
	mark := k.Sample()
	for {
		select {
		case <-o.stop:
			return
		case <-tick.C:
		}
		now := k.Now()
		o.samples++
		o.back = max(o.back, last.Sub(now))
		last = now
		if s := k.Sample(); s.Raw-mark.Raw > time.Second && s.Spread < 100*time.Microsecond {
			gained := s.Real.Sub(mark.Real) - (s.Raw - mark.Raw)
			o.rate = max(o.rate, float64(gained.Abs())/float64(s.Raw-mark.Raw)*1e6)
			mark = s
		}
	}
}

// end stops observing, and holds what was seen against the limits. The rate is
// measured with the noise of reading a clock in an emulated machine.
func (o *observer) end(t *testing.T, ppm float64) {
	t.Helper()
	close(o.stop)
	o.done.Wait()
	t.Logf("%d samples, at most %.0f ppm, back by %v", o.samples, o.rate, o.back)
	if o.back > 0 || o.samples < 100 || o.rate > ppm*1.05+300 {
		t.Errorf("%d samples, at most %.0f ppm (%.0f allowed), back by %v", o.samples, o.rate, ppm, o.back)
	}
}

// program is a running sclockadj.
type program struct {
	*exec.Cmd
	out bytes.Buffer
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{Cmd: &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{asProgram}, args...)}}
	p.Stdout, p.Stderr = &p.out, &p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// ended waits for the end and returns the exit code, negative for a signal.
func (p *program) ended() int {
	_ = p.Wait()
	return p.ProcessState.ExitCode()
}

// slewing waits until the rate is changed.
func (k *kernel) slewing(t *testing.T) {
	t.Helper()
	for deadline := k.Sample().Raw + time.Minute; k.discipline(t).Tick == clock.NormalTick; {
		if k.Sample().Raw > deadline {
			t.Fatal("the rate was never changed")
		}
		k.pass(t, 10*time.Millisecond)
	}
}

// TestKernelStep: steps are exact, told to those who watch, and leave nothing
// behind.
func TestKernelStep(t *testing.T) {
	k := newKernel(t)
	s, err := clock.NewSlewer(clock.Options{Clock: k, Policy: clock.Daemon(), Root: fsx.Host, Lease: clock.LeasePath, Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	w, err := k.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var total time.Duration
	for _, by := range []time.Duration{time.Hour, -90 * time.Minute, 1500 * time.Millisecond, -1500 * time.Millisecond, 12345 * time.Microsecond} {
		if err := s.Jump(by); err != nil {
			t.Fatal(err)
		}
		total += by
		k.near(t, total, time.Millisecond)
		if wake, err := w.Wait(context.Background(), time.Minute); wake != clock.Stepped || err != nil {
			t.Errorf("%v: the watch says %v, %v", by, wake, err)
		}
	}
	if d := k.discipline(t); d.Status&unix.STA_NANO != 0 {
		t.Errorf("status %#x", d.Status)
	}
	if wake, change, err := s.Wait(context.Background(), time.Millisecond); wake != clock.Elapsed || err != nil {
		t.Errorf("our own steps are foreign: %v, %+v, %v", wake, change, err)
	}
	by := unix.NsecToTimespec(k.Now().Add(time.Minute).UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &by); err != nil {
		t.Fatal(err)
	}
	wake, change, err := s.Wait(context.Background(), time.Minute)
	if wake != clock.Stepped || (change.Step-time.Minute).Abs() > 50*time.Millisecond || change.Suspended != 0 || err != nil {
		t.Errorf("a foreign step: %v, %+v, %v", wake, change, err)
	}
	k.normal(t)
}

// TestKernelSlew: the program, from its start to its end.
func TestKernelSlew(t *testing.T) {
	for _, c := range []struct {
		ns     string
		offset time.Duration
	}{{"100000000", 100 * time.Millisecond}, {"-100000000", -100 * time.Millisecond}, {"2000000", 2 * time.Millisecond}, {"-2000000", -2 * time.Millisecond}} {
		k := newKernel(t)
		o := observe(k)
		p := start(t, c.ns)
		if code := p.ended(); code != 0 || p.out.Len() != 0 {
			t.Errorf("%s: exit %d, %s", c.ns, code, &p.out)
		}
		o.end(t, 5000)
		k.near(t, c.offset, time.Millisecond)
		k.normal(t)
	}
}

// TestKernelSlewOneSecond: 1 s within four minutes.
func TestKernelSlewOneSecond(t *testing.T) {
	k := newKernel(t)
	o := observe(k)
	p := start(t, "1000000000")
	if code := p.ended(); code != 0 {
		t.Errorf("exit %d, %s", code, &p.out)
	}
	took := k.Sample().Raw - k.start.Raw
	t.Logf("took %v", took)
	if took > 4*time.Minute {
		t.Errorf("took %v", took)
	}
	o.end(t, 5000)
	k.near(t, time.Second, time.Millisecond)
	k.normal(t)
}

// TestKernelSlewFast: the highest rate of the daemon, and the kernel's.
func TestKernelSlewFast(t *testing.T) {
	for _, c := range []struct {
		ppm    int
		offset time.Duration
	}{{50000, time.Second}, {100000, -time.Second}} {
		k := newKernel(t)
		policy := clock.Policy{PPM: c.ppm, MaxPPM: c.ppm, Within: time.Hour}
		s, err := clock.NewSlewer(clock.Options{Clock: k, Policy: policy, Root: fsx.Host, Lease: clock.LeasePath, Log: func(string) {}})
		if err != nil {
			t.Fatal(err)
		}
		o := observe(k)
		if _, err := s.Start(c.offset); err != nil {
			t.Fatal(err)
		}
		for {
			left, err := s.Left()
			if err != nil {
				t.Fatal(err)
			}
			if left == 0 && !s.Active() {
				break
			}
			if wake, _, err := s.Wait(context.Background(), time.Second); wake != clock.Elapsed || err != nil {
				t.Fatalf("%v, %v", wake, err)
			}
		}
		o.end(t, float64(c.ppm))
		k.near(t, c.offset, 2*time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		k.normal(t)
	}
}

// TestKernelKill: a process that is killed in the midst leaves the rate
// changed, as the kernel has it; --restore or the next start undo it.
func TestKernelKill(t *testing.T) {
	for _, restart := range []bool{false, true} {
		k := newKernel(t)
		p := start(t, "10000000000")
		k.slewing(t)
		if err := p.Process.Signal(unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := p.ended(); code != -1 {
			t.Fatalf("exit %d, %s", code, &p.out)
		}
		if d := k.discipline(t); d.Tick != 10050 || !fsx.Host.Exists(clock.LeasePath) {
			t.Fatalf("%+v: the death of the process was not in the midst", d)
		}
		k.pass(t, 2*time.Second)
		if restart {
			p = start(t, "1000")
		} else {
			p = start(t, "--restore")
		}
		if code := p.ended(); code != 0 || !bytes.Contains(p.out.Bytes(), []byte("set the tick from 10050 back to 10000")) {
			t.Errorf("exit %d, %s", code, &p.out)
		}
		k.normal(t)
		k.start = k.Sample()
		k.pass(t, 5*time.Second)
		k.near(t, 0, time.Millisecond)
		if p = start(t, "--restore"); p.ended() != 0 || p.out.Len() != 0 {
			t.Errorf("again: %s", &p.out)
		}
	}
}

// daemonStarts starts the daemon, which will find the clock behind by offset.
func daemonStarts(t *testing.T, offset string) *program {
	t.Helper()
	p := &program{Cmd: &exec.Cmd{Path: "/proc/self/exe", Args: []string{asDaemon, offset}}}
	p.Stdout, p.Stderr = &p.out, &p.out
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// until waits for something that nothing tells of.
func (k *kernel) until(t *testing.T, p *program, what string, is func() bool) {
	t.Helper()
	for deadline := k.Sample().Raw + 2*time.Minute; !is(); k.pass(t, 10*time.Millisecond) {
		if k.Sample().Raw > deadline {
			_ = p.Process.Kill()
			t.Fatalf("never: %s; exit %d\n%s", what, p.ended(), &p.out)
		}
	}
}

// TestKernelDaemon: the daemon itself. It steps the clock when it has first
// succeeded, and slews it after; killed in the midst of that it leaves the rate
// changed, and the next one puts it in order before anything else; and so does a
// signal, in the midst too.
func TestKernelDaemon(t *testing.T) {
	k := newKernel(t)
	for path, text := range map[string]string{
		confDir + "/30_default.conf": "SDWDATE_POOL_ZERO=(\n\"http://" + onionName(1) + "\"\n)\nSDWDATE_POOL_ONE=(\n\"http://" + onionName(2) +
			"\"\n)\nSDWDATE_POOL_TWO=(\n\"http://" + onionName(3) + "\"\n)\n",
		"/var/lib/sdwdate/.keep": "",
	} {
		write(t, fsx.Host, path, text)
	}
	first := statusDir + "/" + fileFirstSuccess
	if err := fsx.Host.Remove(first); err != nil {
		t.Fatal(err)
	}
	sleeps := func() bool { return fsx.Host.Exists(statusDir + "/" + fileSleepLong) }
	changed := func() bool { return k.discipline(t).Tick != clock.NormalTick }
	ends := func(p *program, sig unix.Signal, code int) {
		t.Helper()
		if err := p.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if got := p.ended(); got != code {
			t.Errorf("%v: exit %d, want %d\n%s", sig, got, code, &p.out)
		}
	}

	p := daemonStarts(t, "1h")
	k.until(t, p, "the first success", func() bool { return fsx.Host.Exists(first) && sleeps() })
	k.near(t, time.Hour, time.Second) // servers cut their time to the second
	ends(p, unix.SIGTERM, 143)
	k.normal(t)
	if sleeps() || !bytes.Contains(p.out.Bytes(), []byte("Instantly setting the time by +")) {
		t.Errorf("%s", &p.out)
	}

	k.start = k.Sample()
	p = daemonStarts(t, "10s")
	k.until(t, p, "a slew", changed)
	if tick := k.discipline(t).Tick; tick != 10050 {
		t.Errorf("tick %d", tick)
	}
	ends(p, unix.SIGKILL, -1)
	if !changed() || !fsx.Host.Exists(clock.LeasePath) {
		t.Fatalf("its death was not in the midst\n%s", &p.out)
	}
	k.pass(t, 2*time.Second)
	if gained := k.gained(); gained <= 0 || gained > time.Second {
		t.Errorf("gained %v: the kernel went on, and nothing else", gained)
	}

	if err := fsx.Host.Remove(statusDir + "/" + fileSleepLong); err != nil { // which the dead one has left
		t.Fatal(err)
	}
	p = daemonStarts(t, "0s") // less than a second off: a single shot
	k.until(t, p, "a round of the next one", sleeps)
	if changed() || fsx.Host.Exists(clock.LeasePath) {
		t.Errorf("tick %d", k.discipline(t).Tick)
	}
	ends(p, unix.SIGINT, 130)
	k.normal(t)
	if !bytes.Contains(p.out.Bytes(), []byte("set the tick from 10050 back to 10000")) {
		t.Errorf("%s", &p.out)
	}

	p = daemonStarts(t, "-10s")
	k.until(t, p, "a slew back", changed)
	o := observe(k)
	k.pass(t, 2*time.Second)
	ends(p, unix.SIGTERM, 143)
	o.end(t, 5000)
	k.normal(t)
}

// TestKernelTerminate: a signal in the midst.
func TestKernelTerminate(t *testing.T) {
	for sig, want := range map[unix.Signal]int{unix.SIGTERM: 143, unix.SIGINT: 130, unix.SIGHUP: 129} {
		k := newKernel(t)
		p := start(t, "-10000000000")
		k.slewing(t)
		if err := p.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if code := p.ended(); code != want || p.out.Len() != 0 {
			t.Errorf("%v: exit %d, %s", sig, code, &p.out)
		}
		k.normal(t)
	}
}

// TestKernelForeignStep: another program sets the clock in the midst.
func TestKernelForeignStep(t *testing.T) {
	k := newKernel(t)
	p := start(t, "10000000000")
	k.slewing(t)
	if err := k.Step(time.Hour); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(); code != 1 || !bytes.Contains(p.out.Bytes(), []byte("another program set the clock")) {
		t.Errorf("exit %d, %s", code, &p.out)
	}
	k.normal(t)
}

// TestKernelLeftovers: the control loop of a stopped daemon, with a phase
// offset that it left, ends.
func TestKernelLeftovers(t *testing.T) {
	k := newKernel(t)
	left := unix.Timex{Modes: unix.ADJ_STATUS | unix.ADJ_OFFSET | unix.ADJ_TIMECONST, Status: unix.STA_PLL | unix.STA_UNSYNC, Offset: 300000, Constant: 0}
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &left); err != nil {
		t.Fatal(err)
	}
	before := k.discipline(t)
	k.pass(t, 3*time.Second)
	if k.gained().Abs() < time.Millisecond {
		t.Fatalf("gained %v: nothing was left over", k.gained())
	}
	p := start(t, "1000")
	if code := p.ended(); code != 0 {
		t.Errorf("exit %d, %s", code, &p.out)
	}
	t.Logf("%s", &p.out)
	after := k.discipline(t)
	if after.Steered() || !before.Steered() {
		t.Errorf("%+v, then %+v", before, after)
	}
	k.start = k.Sample()
	k.pass(t, 5*time.Second)
	// What the loop had learnt of the oscillator is not ours to take away.
	k.near(t, time.Duration(float64(after.Frequency)/(1<<16)*5000), time.Millisecond)
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &unix.Timex{Modes: unix.ADJ_FREQUENCY}); err != nil {
		t.Fatal(err)
	}
}

// TestKernelSuspend: the machine sleeps in the midst. The kernel's own test of
// suspending does all that real sleep does, but for five seconds only.
func TestKernelSuspend(t *testing.T) {
	k := newKernel(t)
	p := start(t, "10000000000")
	k.slewing(t)
	before := k.Sample()
	for _, w := range []struct{ path, text string }{{"/sys/power/pm_test", "core"}, {"/sys/power/state", "mem"}, {"/sys/power/pm_test", "none"}} {
		if err := os.WriteFile(w.path, []byte(w.text), 0); err != nil {
			t.Fatal(err)
		}
	}
	change := clock.Between(before, k.Sample())
	t.Logf("%+v", change)
	if change.Suspended < time.Second || change.Step != 0 {
		t.Errorf("%+v", change)
	}
	if code := p.ended(); code != 1 || !bytes.Contains(p.out.Bytes(), []byte("the machine slept")) {
		t.Errorf("exit %d, %s", code, &p.out)
	}
	k.normal(t)
}

// TestUnprivileged: without the capability nothing can be changed.
func TestUnprivileged(t *testing.T) {
	before, err := clock.System().Discipline()
	if err != nil {
		t.Fatal(err)
	}
	for _, ns := range []string{"1000", "1000000000"} {
		p := start(t, ns)
		if code := p.ended(); code != 1 || p.out.Len() == 0 {
			t.Errorf("exit %d, %s", code, &p.out)
		}
	}
	after, err := clock.System().Discipline()
	if err != nil || after != before || fsx.Host.Exists(clock.LeasePath) {
		t.Errorf("%+v, then %+v, %v", before, after, err)
	}
}
