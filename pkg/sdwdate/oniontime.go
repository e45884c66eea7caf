// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/whonix"
)

// Our own onion-time-pre-script: the same questions and conclusions, over one
// connection to Tor, and without the programs that it needs.

const (
	fileAfterBoot  = "onion-time-script-after-boot"
	nativePath     = "sdwdate"
	circuitLimit   = 8 * time.Second
	nativeLimit    = 10 * time.Second
	whonixMarker   = "/usr/share/whonix/marker"
	bootstrapReady = 100
)

// check is one run of it.
type check struct {
	d         *daemon
	client    *torctl.Client
	role      whonix.Role
	bounds    bounds
	now       time.Time
	window    window // zero: none known
	static    verdict
	consensus verdict // empty: not known
	lines     []string
	repair    func(*check) int // of a clock that is wrong; nil: in this process
}

func (c *check) say(format string, args ...any) {
	c.lines = append(c.lines, fmt.Sprintf(format, args...))
}

// native is a preparer.
func (d *daemon) native(ctx context.Context) (int, string) { return d.check(ctx, nativePath, nil) }

// check looks whether the network is ready, and has a clock repaired that is
// wrong.
func (d *daemon) check(ctx context.Context, path string, repair func(*check) int) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, nativeLimit)
	defer cancel()
	c := &check{d: d, role: whonix.Detect(d.root).Role, now: d.clock.Now(), repair: repair}
	c.say("")
	c.say("### START: ### %s", path)
	code := c.run(ctx)
	meaning := map[int]string{prepared: "success", prepareUser: "wait, show error icon and retry.", prepareWait: "wait, show busy icon and retry."}[code]
	c.say("### END: ### Exiting with exit_code '%d' indicating '%s'.", code, meaning)
	return code, "__ " + strings.Join(c.lines, "\n__ ")
}

func (c *check) run(ctx context.Context) int {
	c.firstRun()
	if code, done := c.staticCheck(); done {
		return code
	}
	if !torEnabled(c.d.root) {
		advice := "Please enable Tor in the Tor config."
		if c.d.root.Exists(whonixMarker) {
			advice = "Please enable Tor using Anon Connection Wizard or: sudo setup-dist"
		}
		c.say("Tor enabled check: Tor is disabled. %s", advice)
		return prepareUser
	}
	client, err := c.d.control.open(ctx)
	if err != nil {
		c.say("Tor Bootstrap Result: Tor's Control Port could not be reached.")
		if c.role == whonix.Workstation {
			c.say("Did you start Gateway beforehand?")
		}
		return prepareUser
	}
	defer client.Close()
	c.client = client
	c.dormant(ctx)
	established, err := client.GetInfo(ctx, "status/circuit-established")
	if err != nil {
		c.say("Tor Bootstrap Result: %v", err)
		return prepareUser
	}
	return c.conclude(ctx, established == "1")
}

func (c *check) firstRun() {
	if c.d.status.has(fileAfterBoot) {
		c.say("Status: Subsequent run after boot.")
		return
	}
	c.say("Status: First run after boot. (Creating file '%s/%s'.)", c.d.status.path, fileAfterBoot)
	if err := c.d.status.create(fileAfterBoot); err != nil {
		c.say("Status: %v", err)
	}
}

// staticCheck holds the clock against the times that are possible at all. A
// clock before them is repaired where that may be done; nothing can be done
// here about one behind them, but the servers may know (D12).
func (c *check) staticCheck() (code int, done bool) {
	b, _, err := loadBounds(c.d.root)
	if err != nil {
		c.say("Static Time Sanity Check: %v", err)
		return prepareUser, true
	}
	c.bounds = b
	b = releaseBounds(c.d.root)
	switch now := c.now.Unix(); {
	case now < b.Floor:
		c.static = slow
	case now > b.Ceiling:
		c.static = fast
	default:
		c.static = sane
	}
	switch c.static {
	case slow:
		c.say("Static Time Sanity Check: The clock is slow. (Current time is less than the minimum time '%s'.)", human(b.Floor))
	case fast:
		c.say("Static Time Sanity Check: The clock is fast. (Current time is more than the expiration timestamp '%s'.)", human(b.Ceiling))
	default:
		c.say("Static Time Sanity Check: Within minimum time '%s' and expiration timestamp '%s', ok.", human(b.Floor), human(b.Ceiling))
	}
	return 0, false
}

// dormant wakes Tor up.
func (c *check) dormant(ctx context.Context) {
	value, err := c.client.GetInfo(ctx, "dormant")
	switch {
	case err != nil:
		c.say("Tor Dormant Result: Unknown.")
	case value == "0":
		c.say("Tor Dormant Result: No, not dormant, good. (tor_dormant_type: 'check-ok')")
	default:
		c.say("Tor Dormant Result: Yes, dormant.")
		for _, signal := range []string{"ACTIVE", "NEWNYM"} {
			if err := c.client.Signal(ctx, signal); err != nil {
				c.say("Tor Dormant Result: %v", err)
			}
		}
	}
}

// conclude decides by what Tor says of its circuits and its consensus.
func (c *check) conclude(ctx context.Context, established bool) int {
	if c.role == whonix.Workstation {
		if c.static != sane {
			c.say("anondate: skipped, since the Gateway's Tor is not asked for more from here.")
		}
		c.say("Circuit confirmation (workstation): status/circuit-established = '%d'.", map[bool]int{true: 1}[established])
		if established {
			c.say("Conclusion: Tor already reports circuit confirmed.")
			return prepared
		}
		c.say("Conclusion: No Tor circuit established yet.")
		return prepareWait
	}
	progress := c.bootstrap(ctx)
	c.say("Tor circuit: %s", map[bool]string{true: "established", false: "not established"}[established])
	c.consensusCheck(ctx)
	if c.static == slow {
		return c.anondate(ctx)
	}
	if c.confirmed(ctx) {
		c.say("Conclusion: Tor already reports circuit confirmed.")
		return prepared
	}
	if c.consensus == slow || c.consensus == fast {
		return c.anondate(ctx)
	}
	switch {
	case established:
		c.say("Conclusion: Tor already reports circuit established.")
	case progress == bootstrapReady:
		c.say("Conclusion:  No Tor circuit established yet, but Tor bootstrap progress (tor_bootstrap_percent) is 100.")
	default:
		c.say("Conclusion: No Tor circuit established yet.")
		return prepareWait
	}
	return prepared
}

// bootstrap reports how far Tor is, in per cent.
func (c *check) bootstrap(ctx context.Context) int {
	phase, err := c.client.GetInfo(ctx, "status/bootstrap-phase")
	if err != nil {
		c.say("Tor reports: %v", err)
		return 0
	}
	var kept []string
	for _, word := range strings.Fields(phase) {
		if !strings.HasPrefix(word, "COUNT=") {
			kept = append(kept, word)
		}
	}
	c.say("Tor reports: %s", strings.Join(kept, " "))
	values := torctl.Assignments(phase)
	if values["REASON"] == "TIMEOUT" {
		c.say("Tor reports: REASON=TIMEOUT")
	}
	var percent int
	_, _ = fmt.Sscan(values["PROGRESS"], &percent) // 0 where Tor does not say
	return percent
}

// consensusCheck holds the clock against the consensus. That Tor has none yet
// says nothing about the clock (D13).
func (c *check) consensusCheck(ctx context.Context) {
	const label = "Tor Consensus Time Sanity Check: "
	w, err := askWindow(ctx, c.client)
	switch {
	case errors.Is(err, errNoConsensus):
		c.say(label + "Might not have downloaded a Tor consensus yet.")
		return
	case err != nil:
		c.say(label+"Consensus time sanity check failed. %v", err)
		return
	}
	after, until := w.After.Format(humanTime), w.Until.Format(humanTime)
	c.window = w
	switch {
	case c.now.Before(w.After):
		c.consensus = slow
		c.say(label+"The clock might be too slow. Clock is slower than consensus/valid-after %s.", after)
	case !c.now.Before(w.Until):
		c.consensus = fast
		c.say(label+"The clock might be too fast. Clock is faster than consensus/valid-until %s.", until)
	default:
		c.consensus = sane
		c.say(label+"Clock within consensus parameters consensus/valid-after '%s' and consensus/valid-until '%s'.", after, until)
	}
}

func (c *check) confirmed(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, circuitLimit)
	defer cancel()
	id, err := buildCircuit(ctx, c.client)
	if err != nil || id == "" {
		c.say("Circuit confirmation: no")
		return false
	}
	c.say("Circuit confirmation: yes")
	return true
}

// anondate sets a slow clock forward to what Tor knows, in this process, which
// may. Then Tor needs time to come to terms with it.
func (c *check) anondate(ctx context.Context) int {
	if c.repair != nil {
		return c.repair(c)
	}
	if c.d.slewer == nil {
		c.say("anondate: the clock is left alone (--dry-run).")
		return prepareWait
	}
	k := knowledge{Window: c.window, CertAllowed: c.d.conf.AnondateTorCert && !c.d.status.has(fileCertificateSet)}
	if k.CertAllowed {
		k.Certificate = certificateOf(readTorLog(ctx, c.d.root))
	}
	to, ok := repairTo(c.now, c.bounds, k)
	if !ok {
		c.say("anondate: nothing that Tor knows is later than the clock.")
		return prepareWait
	}
	if to.FromCertificate {
		if err := c.d.status.create(fileCertificateSet); err != nil {
			c.say("anondate: %v", err)
			return prepareUser
		}
	}
	changed, err := c.d.applier.repair(to.Time, c.bounds.Floor, c.bounds.Ceiling)
	switch {
	case err != nil:
		c.say("anondate: %s", describeClockError(err))
		return prepareUser
	case changed:
		c.say("anondate: the clock was set from %s to %s, %s.", c.now.UTC().Format(humanTime), to.Time.UTC().Format(humanTime), to.Why)
	}
	return prepareWait
}
