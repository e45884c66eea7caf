// SPDX-License-Identifier: GPL-3.0-or-later

// Package uwt makes programs use Tor with circuits of their own when typed as
// always: the wrapper that stands in their place, its parts, and the tools
// around it.
package uwt

import (
	"os"
	"path/filepath"
	"strings"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/session"
	"whonix-networking/pkg/whonix"
)

// Where things are.
const (
	wrapperPath     = "/usr/libexec/uwt/uwtwrapper"
	uwtexecPath     = "/usr/libexec/uwt/uwtexec"
	isolatorPath    = "/usr/bin/uwt"
	bindpPath       = "/usr/bin/bindp-launcher"
	bindpLibrary    = "/usr/lib/libindp.so"
	wrapperSuffix   = ".anondist"
	originalSuffix  = ".anondist-orig"
	alternativesDir = "/etc/alternatives"
)

// fragmentDirs are the directories of configuration, in order. The second is
// of 2020.
func fragmentDirs() []string {
	return []string{"/etc/uwt.d", "/rw/config/uwt.d", "/usr/local/etc/uwt.d"}
}

// Names of variables, in the environment and in fragments.
const (
	varParent      = "uwtwrapper_parent"
	varZeroarg     = "uwtwrapper_zeroarg"
	varCounter     = "uwtwrapper_counter"
	varMax         = "uwtwrapper_max"
	varVerbose     = "uwtwrapper_verbose"
	varWarned      = "uwtwrapper_warned" // for uwtexec: a program that is to run unisolated
	varPassthrough = "UWT_DEV_PASSTHROUGH"
	varFailOpen    = "UWT_FAIL_OPEN"
	varLogLevel    = "TORSOCKS_LOG_LEVEL"
	varPreload     = "LD_PRELOAD"
	varBindAddr    = "BIND_ADDR"

	arraySwitch      = "uwtwrapper"
	arrayTime        = "timeprivacy"
	arrayBindp       = "bindp_use"
	arrayUnsupported = "uwt_unsupported"
)

// arrays are the associative arrays that fragments find. uwtport is there so
// that old fragments do not fail; nothing reads it. The element 0 of
// uwt_unsupported, which is what a plain assignment sets, holds for all
// programs.
func arrays() []string {
	return []string{arrayTime, arraySwitch, arrayBindp, "uwtport", arrayUnsupported}
}

// names are the variables read, besides exported ones.
func names() []string {
	return []string{varParent, varZeroarg, varCounter, varMax, varPassthrough, varFailOpen, varLogLevel, varPreload, varBindAddr,
		"uwtwrapper_global", "timeprivacy_global", "torsocks_bin", "uwtexec_bin", "bindp_so", "bindp_interface", "bindp_dispatch",
		"SCRIPTNAME", "PATH", "HOME"}
}

// settings are what fragments and the environment say.
type settings struct{ *session.State }

// or is a variable's text, or what counts where that is empty.
func (s settings) or(name, otherwise string) string {
	if v := s.Vars[name]; v != "" {
		return v
	}
	return otherwise
}

// element is what an array has for a program: under its path as it was
// called, else under the path with its directory's links resolved (U6).
func (s settings) element(array, program string) (value, key string) {
	for _, key := range spellings(program) {
		if v, ok := s.Arrays[array][key]; ok && v != "" {
			return v, key
		}
	}
	return "", ""
}

func spellings(program string) []string {
	out := []string{program}
	dir, err := filepath.EvalSymlinks(filepath.Dir(program))
	if err != nil {
		return out
	}
	if dir, err = filepath.Abs(dir); err == nil {
		out = append(out, filepath.Join(dir, filepath.Base(program)))
	}
	return out
}

// words splits a variable as the shell splits $NAME: at blanks, patterns
// replaced by the files they match, or by nothing.
func words(text string) []string {
	var out []string
	for _, w := range strings.Fields(text) {
		if !strings.ContainsAny(w, "*?[") {
			out = append(out, w)
			continue
		}
		found, _ := filepath.Glob(w)
		out = append(out, found...)
	}
	return out
}

// isolated says whether torsocks is wanted for a program: what is set for it
// wins over what is set for all (U5).
func (s settings) isolated(program string) bool {
	switch v, _ := s.element(arraySwitch, program); v {
	case "0":
		return false
	case "1":
		return true
	}
	return s.Vars["uwtwrapper_global"] != "0"
}

// timePrivate says whether a program gets a made-up time, and whether it has
// its own.
func (s settings) timePrivate(program string) (on, own bool) {
	switch v, _ := s.element(arrayTime, program); v {
	case "0":
		return false, false
	case "1":
		return true, true
	}
	return s.Vars["timeprivacy_global"] == "1", false
}

// bound says whether a program listens on the machine's own address, by bindp
// in place of torsocks.
func (s settings) bound(program string) bool {
	if s.Vars["bindp_dispatch"] == "true" {
		return true
	}
	v, _ := s.element(arrayBindp, program)
	if v == "" {
		for _, p := range spellings(program) {
			switch p {
			case "/usr/bin/onionshare", "/usr/bin/onionshare-gui", "/usr/bin/onionshare-cli", "/usr/bin/ricochet":
				v = "true"
			}
		}
	}
	return v == "true"
}

// whonixRole reports a machine all of whose traffic goes through Tor, or
// nowhere, whatever its programs do.
func whonixRole(root fsx.Root) bool {
	role := whonix.Detect(root).Role
	return role == whonix.Gateway || role == whonix.Workstation
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
