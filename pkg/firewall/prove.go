// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"whonix-networking/pkg/leakproof"
)

// rulesets are the scripts that a proof of a configuration is about: its own,
// those of both modes, and the one that shuts everything.
func rulesets(vars Variables, facts *Facts, c *Configuration) (*leakproof.Rulesets, error) {
	script, _ := Ruleset(&c.Settings)
	texts := &leakproof.Rulesets{Main: script.Bytes(), Lockdown: lockdownScript(facts.IPv6).Bytes()}
	other := *facts
	other.ModeCLI, other.TimeSynced = ModeTimesync, ""
	if c.Settings.Timesync {
		other.ModeCLI = ModeFull
	}
	o, err := Configure(vars, &other)
	if err != nil {
		return nil, err
	}
	script, _ = Ruleset(&o.Settings)
	texts.Full, texts.Timesync = texts.Main, script.Bytes()
	if c.Settings.Timesync {
		texts.Full, texts.Timesync = script.Bytes(), texts.Main
	}
	return texts, nil
}
