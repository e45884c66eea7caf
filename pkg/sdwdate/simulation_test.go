// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"bytes"
	"context"
	"crypto/sha3"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/fsx"
)

// epoch is when the simulated worlds begin.
var epoch = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// onionName is a valid address of version 3 that belongs to nobody.
func onionName(n int) string {
	var key [32]byte
	copy(key[:], fmt.Sprintf("server %d of a test", n))
	sum := sha3.Sum256(append(append([]byte(".onion checksum"), key[:]...), 3))
	raw := append(append(key[:], sum[:2]...), 3)
	return strings.ToLower(base32.StdEncoding.EncodeToString(raw)) + ".onion"
}

// server is one of a simulated network.
type server struct {
	// offset is how far its Date is from the truth; random is added.
	offset  time.Duration
	random  time.Duration
	exit    int  // of url-to-unixtime, instead of an answer
	silent  bool // never answers
	latency time.Duration
}

// network is a simulated network and the transport over it.
type network struct {
	clock   *clock.Simulated
	rand    *rand.Rand
	servers map[string]*server
	events  []event
	asked   []string
	down    func() bool // when set and true: nobody answers
}

type event struct {
	at  time.Time // in the world
	out func() outcome
}

func (n *network) start(orders []order, _ how) {
	for _, o := range orders {
		n.ask(o)
	}
}

func (n *network) ask(o order) {
	n.asked = append(n.asked, o.Source.URL)
	s := n.servers[o.Source.URL]
	begin, raw := n.clock.World(), n.clock.Sample().Raw
	if s.silent || n.down != nil && n.down() {
		n.at(begin.Add(childLimit), func() outcome { return n.outcome(o, outcome{Exit: notKilled, TimedOut: true}, raw) })
		return
	}
	connect := s.latency + time.Duration(n.rand.Int64N(int64(2*time.Second)))
	if s.exit != 0 {
		n.at(begin.Add(connect), func() outcome {
			return n.outcome(o, outcome{Exit: s.exit, Stderr: []byte("connect error: refused")}, raw)
		})
		return
	}
	there := 100*time.Millisecond + time.Duration(n.rand.Int64N(int64(500*time.Millisecond)))
	back := 100*time.Millisecond + time.Duration(n.rand.Int64N(int64(500*time.Millisecond)))
	stamped := begin.Add(connect + there)
	date := stamped.Add(s.offset)
	if s.random > 0 {
		date = date.Add(time.Duration(n.rand.Int64N(2*int64(s.random))) - s.random)
	}
	n.at(stamped.Add(back), func() outcome {
		now := n.clock.Sample()
		data, _ := json.Marshal(answer{Unixtime: date.Unix(), RTT: int64(there + back), Realtime: now.Real.UnixNano(), Raw: int64(now.Raw),
			Took: int64(now.Raw - raw), Status: 200})
		return n.outcome(o, outcome{Stdout: data}, raw)
	})
}

func (n *network) outcome(o order, out outcome, begun time.Duration) outcome {
	now := n.clock.Sample()
	out.ID, out.Span = o.ID, span{BeginRaw: begun, EndRaw: now.Raw, EndReal: now.Real}
	return out
}

func (n *network) at(when time.Time, out func() outcome) {
	n.events = append(n.events, event{when, out})
	slices.SortStableFunc(n.events, func(a, b event) int { return a.at.Compare(b.at) })
}

func (n *network) wait(ctx context.Context, until time.Duration) (outcome, bool) {
	for ctx.Err() == nil {
		left := until - n.clock.Sample().Boot
		if len(n.events) > 0 {
			if d := n.events[0].at.Sub(n.clock.World()); d <= 0 {
				out := n.events[0].out
				n.events = n.events[1:]
				return out(), true
			} else if d < left {
				left = d
			}
		}
		if left <= 0 {
			return outcome{}, false
		}
		n.clock.Advance(left)
	}
	return outcome{}, false
}

func (n *network) stop() { n.events = nil }

// world is a daemon in a simulated world.
type world struct {
	*daemon
	t     *testing.T
	clock *clock.Simulated
	net   *network
	out   *bytes.Buffer
	pools [poolCount][]string
}

// newWorld has servers in each pool, all good, and a clock that is off by wrong.
func newWorld(t *testing.T, perPool int, wrong time.Duration) *world {
	t.Helper()
	root := fsx.Root(t.TempDir())
	c := clock.NewSimulated(epoch, wrong)
	seed := rand.New(rand.NewPCG(1, uint64(len(t.Name()))))
	w := &world{t: t, clock: c, out: &bytes.Buffer{}, net: &network{clock: c, rand: seed, servers: map[string]*server{}}}
	for pool := range poolCount {
		for i := range perPool {
			url := "http://" + onionName(pool*1000+i)
			w.pools[pool] = append(w.pools[pool], url)
			w.net.servers[url] = &server{latency: time.Second}
		}
	}
	for _, dir := range []string{"/run/sdwdate", "/var/lib/sdwdate", confDir} {
		if err := root.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.daemon = &daemon{
		env: cli.Env{}, root: root, clock: c, draw: seed.Int64N, state: "/var/lib/sdwdate", db: func(string) (string, bool) { return "", false },
		log: &logger{out: w.out, raw: w.out, now: c.Now}, status: statusFolder{root: root, path: "/run/sdwdate"}, transport: w.net,
		hangup: make(chan os.Signal, 1), dead: graveyard{},
		ready: func(context.Context) (int, string) { return prepared, "" },
	}
	w.ask = func(context.Context) (window, error) {
		after := c.World().Truncate(time.Hour).Add(-time.Hour)
		return window{after, after.Add(3 * time.Hour)}, nil
	}
	w.configuration("")
	if err := w.equip(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s", tailOf(w.out.String(), 6000))
		}
	})
	return w
}

func tailOf(text string, most int) string { return text[max(0, len(text)-most):] }

// configuration writes the pools and more lines.
func (w *world) configuration(more string) {
	w.t.Helper()
	var b strings.Builder
	for i, name := range []string{"ZERO", "ONE", "TWO"} {
		fmt.Fprintf(&b, "SDWDATE_POOL_%s=(\n", name)
		for _, url := range w.pools[i] {
			fmt.Fprintf(&b, "  \"%s # proof\"\n", url)
		}
		b.WriteString(")\n")
	}
	w.write(confDir+"/30_default.conf", b.String()+more)
}

func (w *world) write(path, text string) {
	w.t.Helper()
	write(w.t, w.root, path, text)
}

func write(t *testing.T, root fsx.Root, path, text string) {
	t.Helper()
	if err := root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root.Path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (w *world) read(path string) string {
	w.t.Helper()
	data, err := os.ReadFile(w.root.Path(path))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(data)
}

// each changes all servers of a pool; -1 is all pools.
func (w *world) each(pool int, change func(i int, s *server)) {
	for p := range w.pools {
		for i, url := range w.pools[p] {
			if pool < 0 || pool == p {
				change(i, w.net.servers[url])
			}
		}
	}
}

// live lets the daemon run for a while of the world's time.
func (w *world) live(d time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	w.clock.At(d, cancel)
	if err := w.loop(ctx, false); ctx.Err() == nil {
		w.t.Fatalf("the daemon ended by itself: %v", err)
	}
}

// once is one cycle.
func (w *world) once() error {
	w.configure()
	good, err := w.cycle(context.Background())
	if err == nil && !good {
		err = errRound
	}
	return err
}

// within fails unless the clock is off by no more than band.
func (w *world) within(band time.Duration) {
	w.t.Helper()
	if wrong := w.clock.Wrong(); wrong.Abs() > band {
		w.t.Errorf("the clock is off by %v, want at most %v", wrong, band)
	}
}

func (w *world) first() { w.write("/run/sdwdate/first_success", "") }

// steps counts the steps that the daemon made.
func (w *world) steps() (n int) {
	for _, c := range w.clock.Calls() {
		if strings.HasPrefix(c, "step ") {
			n++
		}
	}
	return n
}

// accuracy is what Dates and asymmetric paths allow: half a second, and half of
// the longest round trip.
const accuracy = 1100 * time.Millisecond

func TestScenarioRightClock(t *testing.T) {
	w := newWorld(t, 5, 0)
	w.live(12 * time.Hour)
	w.within(accuracy)
	if w.clock.Backwards() > accuracy {
		t.Errorf("went back by %v", w.clock.Backwards())
	}
}

// TestScenarioLargeOffset: one step brings any offset right.
func TestScenarioLargeOffset(t *testing.T) {
	for _, wrong := range []time.Duration{-90 * 24 * time.Hour, -time.Hour, 10 * time.Minute, 3000 * time.Hour} {
		w := newWorld(t, 5, wrong)
		w.live(time.Minute)
		w.within(accuracy)
		if w.steps() != 1 {
			t.Errorf("offset %v: %v", wrong, w.clock.Calls())
		}
	}
}

// TestScenarioMaxChange: an offset that cannot be slewed in one round is gone
// after some, never backwards.
func TestScenarioMaxChange(t *testing.T) {
	w := newWorld(t, 5, 20*time.Minute)
	w.first()
	w.live(12 * time.Hour)
	w.within(accuracy)
	if w.steps() != 0 || w.clock.Backwards() != 0 {
		t.Errorf("steps %d, backwards %v", w.steps(), w.clock.Backwards())
	}
}

// TestScenarioExternalStep: somebody sets the clock; within minutes it is being
// corrected, and some rounds later it is right.
func TestScenarioExternalStep(t *testing.T) {
	w := newWorld(t, 5, 0)
	w.clock.At(30*time.Minute, func() { w.clock.SetByOther(5 * time.Minute) })
	var asked int
	w.clock.At(30*time.Minute, func() { asked = len(w.net.asked) })
	w.clock.At(32*time.Minute, func() {
		if len(w.net.asked) == asked {
			t.Error("nobody was asked within two minutes of the step")
		}
	})
	w.live(10 * time.Hour)
	w.within(accuracy)
	if !strings.Contains(w.out.String(), "Clock got changed by something other than sdwdate.") {
		t.Error("the step is not in the log")
	}
}

// TestScenarioSuspend: after a sleep with a wrong real-time clock.
func TestScenarioSuspend(t *testing.T) {
	w := newWorld(t, 5, 0)
	w.clock.At(30*time.Minute, func() { w.clock.Suspend(8*time.Hour, 40*time.Second) })
	w.live(20 * time.Hour)
	w.within(accuracy)
}

// TestScenarioIntermittent: the network is there half of the time.
func TestScenarioIntermittent(t *testing.T) {
	w := newWorld(t, 5, -time.Hour)
	w.net.down = func() bool { return w.clock.World().Minute()%20 < 10 }
	w.live(12 * time.Hour)
	w.within(accuracy)
	if w.steps() != 1 {
		t.Errorf("%v", w.clock.Calls())
	}
}

// TestScenarioLiarsInAMinority: one whole pool lies, within what the consensus
// allows: the median is one of the others.
func TestScenarioLiarsInAMinority(t *testing.T) {
	for _, lie := range []time.Duration{-40 * time.Minute, 50 * time.Minute, 3 * time.Second} {
		w := newWorld(t, 5, 0)
		w.each(1, func(_ int, s *server) { s.offset = lie })
		w.live(12 * time.Hour)
		w.within(accuracy)
		if named := strings.Contains(w.out.String(), "The answer of pool 1 is far from the others"); named != (lie.Abs() > 2*time.Minute) {
			t.Errorf("lie %v: named %v", lie, named)
		}
	}
}

// TestScenarioLiarsInAMajority: two pools of three agree on a lie. What the
// directory authorities signed bounds it; beyond that nothing is set.
func TestScenarioLiarsInAMajority(t *testing.T) {
	w := newWorld(t, 5, 0)
	w.each(-1, func(_ int, s *server) { s.offset = 30 * 24 * time.Hour })
	w.each(0, func(_ int, s *server) { s.offset = 0 })
	w.live(2 * time.Hour)
	w.within(0)
	if w.status.has(fileFirstSuccess) || len(w.clock.Calls()) != 0 {
		t.Errorf("a lie beyond the consensus was believed: %v", w.clock.Calls())
	}
	w = newWorld(t, 5, 0)
	w.each(-1, func(_ int, s *server) { s.offset = 30 * time.Minute })
	w.each(0, func(_ int, s *server) { s.offset = 0 })
	w.live(2 * time.Hour)
	w.within(2*time.Hour + accuracy)
}

// TestScenarioTroubledServers: of nine servers in each pool only one is good.
func TestScenarioTroubledServers(t *testing.T) {
	w := newWorld(t, 9, -25*time.Hour)
	w.configuration("MAX_FAILURE_RATIO=3\n")
	w.each(-1, func(i int, s *server) {
		switch i {
		case 0: // good
		case 1:
			s.silent = true
		case 2:
			s.random = 24 * 365 * time.Hour
		case 3:
			s.exit = codeDateLength // no Date
		case 4:
			s.exit = codeTransport // a head of 10 MiB
		case 5:
			s.offset = -30 * 24 * time.Hour
		case 6:
			s.offset = 30 * 24 * time.Hour
		case 7:
			s.latency = 100 * time.Second
		case 8:
			s.exit = codeDateForm
		}
	})
	w.live(3 * time.Hour)
	w.within(accuracy)
	if !w.status.has(fileFirstSuccess) {
		t.Error("no success")
	}
}

// TestScenarioAccuracy: many rounds; the median error is within the half second
// that Dates allow.
func TestScenarioAccuracy(t *testing.T) {
	var errors []time.Duration
	w := newWorld(t, 9, 0)
	for range 100 {
		w.clock.SetByOther(time.Duration(w.draw(int64(10*time.Second))) - 5*time.Second)
		if err := w.status.remove(fileFirstSuccess); err != nil {
			t.Fatal(err)
		}
		if err := w.once(); err != nil {
			t.Fatal(err)
		}
		errors = append(errors, w.clock.Wrong().Abs())
	}
	slices.Sort(errors)
	t.Logf("median error %v, 90 %% within %v, all within %v", errors[len(errors)/2], errors[len(errors)*9/10], errors[len(errors)-1])
	if errors[len(errors)/2] > 500*time.Millisecond || errors[len(errors)-1] > accuracy {
		t.Errorf("median error %v, largest %v", errors[len(errors)/2], errors[len(errors)-1])
	}
}

// TestScenarioDeadServer: one dead server in a pool makes a round hardly longer
// (at most 1.3 times), over many rounds, however few servers there are.
func TestScenarioDeadServer(t *testing.T) {
	total := func(dead bool) time.Duration {
		w := newWorld(t, 3, 0)
		w.net.servers[w.pools[0][0]].silent = dead
		var sum time.Duration
		for range 60 {
			begin := w.clock.World()
			if err := w.once(); err != nil {
				t.Fatal(err)
			}
			sum += w.clock.World().Sub(begin)
		}
		return sum / 60
	}
	without, with := total(false), total(true)
	t.Logf("a round takes %v, with a dead server %v", without, with)
	if with > without*13/10 {
		t.Errorf("a dead server costs %v: a round takes %v instead of %v", with-without, with, without)
	}
}

// TestScenarioDeadPool: all but one server of a pool are dead: the next rounds
// know.
func TestScenarioDeadPool(t *testing.T) {
	w := newWorld(t, 6, 0)
	w.configuration("MAX_FAILURE_RATIO=3\n")
	w.each(2, func(i int, s *server) { s.silent = i > 0 })
	var took []time.Duration
	for range 6 {
		begin := w.clock.World()
		if err := w.once(); err != nil {
			t.Fatal(err)
		}
		took = append(took, w.clock.World().Sub(begin))
	}
	t.Logf("rounds: %v", took)
	if slices.Max(took) > 2*time.Minute || took[5] > 10*time.Second {
		t.Errorf("rounds took %v", took)
	}
}
