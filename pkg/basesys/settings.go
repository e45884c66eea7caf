// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	_ "embed" // the table
	"fmt"
	"runtime"
	"slices"
	"strings"
)

//go:embed settings.table
var settingsTable string

// kinds of settings, in the order of the table.
const (
	kindSysctl   = "sysctl"   // a key of the kernel's
	kindCmdline  = "cmdline"  // a word of the kernel's command line
	kindModule   = "module"   // a module that does not load
	kindOption   = "option"   // a module's parameter
	kindLoaded   = "loaded"   // a module that is loaded at boot
	kindUnit     = "unit"     // a unit that is enabled
	kindPAM      = "pam"      // a profile of pam-auth-update
	kindFaillock = "faillock" // a line of faillock.conf
	kindLimit    = "limit"    // a limit of limits.conf
	kindSystemd  = "systemd"  // FILE/SECTION/KEY of systemd's configuration
	kindApt      = "apt"      // an option of APT's
	kindMount    = "mount"    // options of a mount point
)

// setting is a row of the table of everything that is documented.
type setting struct {
	kind, name string
	wanted     string
	pkg        string // whose setting it is
	optIn      bool   // off until an administrator wants it
	file       string // the shipped file that sets it
	purpose    string
}

// settings reads the table. It is part of the program, and a bad line a mistake
// in it, which the tests find.
func settings() ([]setting, error) {
	var out []setting
	n := 0
	for line := range strings.Lines(settingsTable) {
		n++
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != 7 || slices.Contains(f, "") {
			return nil, fmt.Errorf("settings.table:%d: not seven columns", n)
		}
		out = append(out, setting{kind: f[0], name: f[1], wanted: f[2], pkg: f[3], optIn: f[4] == "opt-in", file: f[5], purpose: f[6]})
	}
	return out, nil
}

// wantedOn is the wanted value on an architecture; ok is false where there is
// nothing to want.
func (s setting) wantedOn(arch string) (value string, ok bool) {
	if !strings.Contains(s.wanted, ":") || s.kind != kindSysctl {
		return s.wanted, true
	}
	for _, choice := range strings.Split(s.wanted, "|") {
		if name, v, _ := strings.Cut(choice, ":"); name == arch {
			return v, true
		}
	}
	return "", false
}

// state is how a setting was found.
type state string

const (
	stateOK      state = "ok"      // in force
	stateDiffers state = "differs" // it is not
	stateAbsent  state = "absent"  // there is nothing here that it could be set on
	stateOff     state = "off"     // not in force, and nobody has asked for it
)

// finding is a setting together with what was found.
type finding struct {
	setting
	actual string
	source string // FILE:LINE of what sets it, as far as it is known
	state  state
}

// found compares. An empty source is the shipped file, if that sets it.
func found(s setting, wanted, actual, source string) finding {
	f := finding{setting: s, actual: actual, source: source, state: stateDiffers}
	f.wanted = wanted
	switch {
	case actual == wanted:
		f.state = stateOK
	case s.optIn:
		f.state = stateOff
	}
	return f
}

// absent is a setting that there is nothing to set on.
func absent(s setting, wanted, why string) finding {
	f := finding{setting: s, actual: why, state: stateAbsent}
	f.wanted = wanted
	return f
}

const thisArch = runtime.GOARCH
