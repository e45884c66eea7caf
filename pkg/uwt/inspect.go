// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// entry is what there is to say about one wrapped program.
type entry struct {
	Name      string   `json:"name"`
	Links     []string `json:"links,omitempty"` // wrappers on the way to the program
	Program   string   `json:"program"`
	Installed bool     `json:"installed"`
	Type      string   `json:"type,omitempty"` // of what runs: dynamic, static, Go, ...
	Isolation string   `json:"isolation"`      // torsocks, proxy, bindp, isolate, warn, refuse, none
	Setting   string   `json:"setting"`        // the switch that decides
	Origin    string   `json:"origin"`         // where it is set
	Time      bool     `json:"time_privacy"`
	Slips     string   `json:"slips,omitempty"` // why it would run without isolation unasked
}

// findWrappers lists the paths of wrapped programs: in the usual directories,
// and where the configuration says.
func findWrappers(set settings) []string {
	dirs := []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/usr/local/games", "/usr/games"}
	for _, array := range []string{arraySwitch, arrayTime, arrayBindp} {
		for key := range set.Arrays[array] {
			if filepath.IsAbs(key) {
				dirs = append(dirs, filepath.Dir(key))
			}
		}
	}
	found := map[string]bool{}
	for _, dir := range dirs {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil {
			continue
		}
		for _, suffix := range []string{wrapperSuffix, originalSuffix} {
			matches, _ := filepath.Glob(resolved + "/*" + suffix)
			for _, m := range matches {
				found[strings.TrimSuffix(m, suffix)] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// inspect follows a wrapped name as the wrapper does.
func inspect(set settings, name string, cannot func() string) entry {
	w := entry{Name: name}
	parent, real := name, ""
	for range linksMax {
		s := follow(parent)
		real = s.real
		if s.next == "" {
			break
		}
		parent = trimSuffix(s.next)
		w.Links = append(w.Links, parent)
	}
	w.Program = real
	if real == "" {
		w.Program = parent + originalSuffix
	}
	w.Installed = exists(w.Program) && unix.Access(w.Program, unix.X_OK) == nil
	w.Time, _ = set.timePrivate(parent)
	w.isolation(set, parent, cannot)
	if w.Installed && exists(name) && !wrappedEntry(name) {
		w.Slips = fmt.Sprintf("%s does not lead to its wrapper %s", name, name+wrapperSuffix)
	}
	return w
}

// wrappedEntry reports whether typing the name starts a wrapper: ours, or a
// script that is one.
func wrappedEntry(name string) bool {
	return leadsToWrapper(name) || !exists(name+wrapperSuffix) || same(name, name+wrapperSuffix)
}

// isolation finds out how the program is isolated, and which switch says so.
func (w *entry) isolation(set settings, parent string, cannot func() string) {
	w.Isolation = "torsocks"
	w.from(set, "uwtwrapper_global")
	if _, key := set.element(arraySwitch, parent); key != "" {
		w.from(set, arraySwitch+"["+key+"]")
	}
	switch {
	case set.bound(parent):
		w.Isolation = "bindp"
		w.from(set, arrayBindp+"["+parent+"]")
		return
	case set.Vars[varPassthrough] == "1":
		w.Isolation = "none"
		w.from(set, varPassthrough)
		return
	case !set.isolated(parent):
		w.Isolation = "none"
		return
	case ownWrapper(parent) && (base(parent) == "curl" || base(parent) == "dnf-3"):
		w.Isolation = "proxy"
		return
	}
	if w.Installed {
		w.reached(set, parent, cannot)
	}
}

// reached finds out whether torsocks holds the program, and what happens if it
// does not. cannot says why isolation cannot be had here, or "".
func (w *entry) reached(set settings, parent string, cannot func() string) {
	w.Type = "dynamic"
	file, why := unreachable(w.Program, set.Vars["PATH"], preloadable(""))
	if why == "" {
		return
	}
	w.Type = why
	if file != w.Program {
		w.Type += " (" + file + ")"
	}
	policy, key := set.unsupported(parent)
	if key != "" {
		w.from(set, arrayUnsupported+"["+key+"]")
	}
	w.Isolation = effective(policy, key != "", cannot)
	if w.Isolation == policyWarn {
		w.Slips = "torsocks cannot hold it: " + why
	}
}

func (w *entry) from(set settings, name string) {
	w.Setting, w.Origin = name, "default"
	if at, ok := set.Origins[name]; ok {
		w.Origin = at.String()
	} else if _, ok := set.Vars[name]; ok {
		w.Origin = "environment"
	}
}

func (w *entry) print(b *strings.Builder) {
	fmt.Fprintf(b, "%s\n", w.Name)
	for _, l := range w.Links {
		fmt.Fprintf(b, "    leads to   %s\n", l)
	}
	fmt.Fprintf(b, "    program    %s", w.Program)
	switch {
	case !w.Installed:
		b.WriteString(" (not installed)")
	case w.Type != "":
		fmt.Fprintf(b, " (%s)", w.Type)
	}
	fmt.Fprintf(b, "\n    isolation  %s (%s, %s)\n", w.Isolation, w.Setting, w.Origin)
	if w.Time {
		b.WriteString("    time       made up\n")
	}
	if w.Slips != "" {
		fmt.Fprintf(b, "    SLIPS      %s\n", w.Slips)
	}
}

// unknownKeys are elements of the arrays for programs that are not wrapped.
func unknownKeys(set settings, wrappers []string) []string {
	var out []string
	for _, array := range []string{arraySwitch, arrayTime, arrayBindp, arrayUnsupported} {
		for key := range set.Arrays[array] {
			known := array == arrayUnsupported && key == "0"
			for _, p := range spellings(key) {
				known = known || slices.Contains(wrappers, p)
			}
			if !known {
				out = append(out, array+"["+key+"]")
			}
		}
	}
	slices.Sort(out)
	return out
}
