// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// row is one file of the printed tables.
type row struct {
	File         string `json:"file"`
	User         string `json:"user"`
	Group        string `json:"group"`
	Mode         string `json:"mode"`
	Capabilities string `json:"capabilities,omitempty"`
	Rule         string `json:"rule,omitempty"` // FILE:LINE
}

func newRow(path string, o ownership) row {
	return row{File: printable(path), User: o.owner, Group: o.group, Mode: fmt.Sprintf("%03o", o.mode)}
}

// print answers the actions that only look. None of them writes (defect D-7).
func (h *hardener) print(w io.Writer, c hardenerCommand, m *memory) {
	switch c.action {
	case "print-state":
		h.table(w, stateRows(m.existing), false, c.json)
		return
	case "print-diagnostics":
		h.diagnostics(w, m)
		return
	}
	p, pol, f, after := h.decide(m)
	if p == nil {
		return
	}
	switch c.action {
	case "enable":
		h.dryRun(w, p, c.json)
	case "explain":
		h.explain(w, c.file, pol, p, f, m)
	case "print-policy":
		h.table(w, p.policyRows(), true, c.json)
	case "print-policy-applied-state":
		h.table(w, stateRows(p.overlay(after)), false, c.json)
	}
}

func stateRows(d *overrides) []row {
	rows := []row{}
	for _, path := range d.order {
		rows = append(rows, newRow(path, d.of[path]))
	}
	return rows
}

func (p *plan) policyRows() []row {
	rows := []row{}
	for _, path := range p.targets {
		t := p.of[path]
		r := newRow(path, t.ownership)
		r.Capabilities, r.Rule = t.capability, t.rule.origin.String()
		if t.rule.kind == ruleMode { // as it was written
			r.Mode = strings.Fields(t.rule.text)[1]
		}
		rows = append(rows, r)
	}
	return rows
}

// overlay is the recorded state with the policy over it.
func (p *plan) overlay(m *memory) *overrides {
	d := m.existing.clone()
	for _, path := range p.targets {
		d.set(path, p.of[path].ownership)
	}
	return d
}

// table prints rows; in the original's form a tab follows every column.
func (h *hardener) table(w io.Writer, rows []row, capabilities, asJSON bool) {
	if asJSON {
		h.json(w, rows)
		return
	}
	head := "File\tUser\tGroup\tMode\t"
	if capabilities {
		head += "Capabilities\t"
	}
	fmt.Fprintln(w, head)
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t", r.File, r.User, r.Group, r.Mode)
		if capabilities {
			fmt.Fprintf(w, "%s\t", r.Capabilities)
		}
		fmt.Fprintln(w)
	}
}

func (h *hardener) json(w io.Writer, value any) {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	if err := out.Encode(value); err != nil {
		h.fail(codeFailed, "%v", err)
	}
}

// planned is one step as --dry-run prints it.
type planned struct {
	File         string `json:"file"`
	From         string `json:"from,omitempty"`
	To           string `json:"to,omitempty"`
	Capabilities string `json:"capabilities,omitempty"`
	Override     string `json:"override,omitempty"` // for dpkg-statoverride
	Rule         string `json:"rule,omitempty"`     // none: what was comes back
}

func (h *hardener) dryRun(w io.Writer, p *plan, asJSON bool) {
	list := []planned{}
	for i := range p.steps {
		s := &p.steps[i]
		item := planned{File: printable(s.path)}
		if s.now != nil && s.now.ownership != s.want {
			item.From, item.To = s.now.ownership.String(), s.want.String()
		}
		if s.now != nil && s.caps != nil && *s.caps != s.now.caps {
			item.Capabilities = s.caps.String()
		}
		switch {
		case s.override != nil:
			item.Override = s.override.String()
		case s.release:
			item.Override = "none"
		}
		if s.rule != nil {
			item.Rule = s.rule.origin.String()
		}
		list = append(list, item)
	}
	if asJSON {
		h.json(w, list)
		return
	}
	for _, item := range list {
		fmt.Fprint(w, item.File)
		for _, part := range []struct{ label, text string }{{"", arrow(item.From, item.To)}, {"capabilities ", item.Capabilities}, {"override ", item.Override}, {"by ", item.Rule}} {
			if part.text != "" {
				fmt.Fprintf(w, "; %s%s", part.label, part.text)
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "%d files would change\n", len(list))
}

func arrow(from, to string) string {
	if from == to {
		return ""
	}
	return from + " -> " + to
}

// explain says what is decided about one file, and by which lines.
func (h *hardener) explain(w io.Writer, file string, pol *policy, p *plan, f *facts, m *memory) {
	say := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-12s %s\n", label+":", fmt.Sprintf(format, args...))
	}
	path, err := h.root.Canonical(file)
	if err != nil {
		path = file
	}
	say("file", "%s", printable(path))
	now, err := h.at(path)
	switch {
	case err != nil:
		h.fail(codeFailed, "%v", err)
		return
	case now == nil:
		say("on disk", "nothing")
	default:
		say("on disk", "%s, capabilities %s", now.ownership, now.caps)
	}
	if t, wanted := p.of[path]; wanted {
		say("wanted", "%s%s", t.ownership, optional(", capabilities ", t.capability))
		say("because of", "%s: %s", t.rule.origin, t.rule.text)
	} else {
		say("wanted", "as it is")
	}
	for _, r := range pol.modes {
		if t := p.of[path]; r.path == path && t.nosuid {
			say("overruled", "%s: %s", r.origin, r.text)
		}
	}
	if below := pol.below(path); below != nil {
		say("nosuid", "%s: %s", below.origin, below.text)
	}
	for label, r := range map[string]*rule{"no whitelist": pol.unmatched(path), "whitelist": pol.whitelisted(path)} {
		if r != nil {
			say(label, "%s: %s", r.origin, r.text)
		}
	}
	if pol.all != nil {
		say("no whitelist", "%s: %s", pol.all.origin, pol.all.text)
	}
	for _, d := range []struct {
		label string
		in    *overrides
	}{{"before", m.existing}, {"made", m.applied}, {"admin's", m.admin}, {"dpkg", f.main}} {
		if o, ok := d.in.of[path]; ok {
			say(d.label, "%s", o)
		}
	}
	if text, ok := m.caps[path]; ok {
		say("capabilities", "%s before", text)
	}
}

func optional(label, text string) string {
	if text == "" {
		return ""
	}
	return label + text
}

// diagnostics prints everything, in the original's frame.
func (h *hardener) diagnostics(w io.Writer, m *memory) {
	section := func(title string, body func()) {
		fmt.Fprintf(w, "--- BEGIN %s ---\n", title)
		body()
		fmt.Fprintf(w, "---   END %s ---\n", title)
	}
	fmt.Fprintln(w, "=== BEGIN PERMISSION-HARDENER DIAGNOSTICS ===")
	defer fmt.Fprintln(w, "===  END PERMISSION-HARDENER DIAGNOSTICS ===")
	section("State without policy", func() { h.table(w, stateRows(m.existing), false, false) })
	p, _, f, after := h.decide(m)
	if p == nil {
		return
	}
	section("Policy without state", func() { h.table(w, p.policyRows(), true, false) })
	section("Policy-applied state", func() { h.table(w, stateRows(p.overlay(after)), false, false) })
	section("Master dpkg-statoverride database", func() { fmt.Fprint(w, f.main) })
	section("Raw policy configuration", func() {
		for _, dir := range hardenerFolders() {
			files, err := h.root.ConfFiles(dir, ".conf")
			if err != nil {
				fmt.Fprintf(w, "(%v)\n", err)
			}
			for _, file := range files {
				h.raw(w, file)
			}
		}
	})
	section("Raw state data", func() {
		for _, file := range []string{existingDir + overrideFile, appliedDir + overrideFile, adminDir + overrideFile, capsFile} {
			h.raw(w, file)
		}
	})
	section("Filesystem state audit", func() { h.audit(w, p) })
}

// raw prints a file as it is, but for what could steer a terminal.
func (h *hardener) raw(w io.Writer, file string) {
	fmt.Fprintf(w, "*** begin %s ***\n", file)
	data, err := h.root.ReadFile(file, textMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintln(w, "(file does not exist)")
	case err != nil:
		fmt.Fprintf(w, "(%v)\n", err)
	}
	for line := range strings.Lines(string(data)) {
		fmt.Fprintln(w, printable(strings.TrimSuffix(line, "\n")))
	}
	fmt.Fprintf(w, "***   end %s ***\n", file)
}

func (h *hardener) audit(w io.Writer, p *plan) {
	fmt.Fprint(w, `*** as wanted
^^^ not as wanted, and below it
vvv what is wanted
... odd, but perhaps right
!!! certainly wrong

`)
	line := func(mark, path string, o ownership) {
		fmt.Fprintf(w, "%s %s %s:%s %03o\n", mark, printable(path), o.owner, o.group, o.mode)
	}
	for _, path := range p.targets {
		t := p.of[path]
		now, err := h.at(path)
		switch wrong := h.owned(t.ownership); {
		case err != nil:
			fmt.Fprintf(w, "!!! '%s': %v\n", printable(path), err)
		case now == nil:
			fmt.Fprintf(w, "... '%s' does not exist\n", printable(path))
		case wrong != nil:
			fmt.Fprintf(w, "!!! '%s': %v\n", printable(path), wrong)
		case now.ownership == t.ownership:
			line("***", path, now.ownership)
		default:
			line("^^^", path, now.ownership)
			line("vvv", path, t.ownership)
		}
	}
}
