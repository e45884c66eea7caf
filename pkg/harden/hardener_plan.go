// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"fmt"
	"strings"
)

// object is what there is at a path.
type object struct {
	ownership
	regular bool
	link    bool
	links   uint64
	caps    fileCaps
	capsErr error
}

// facts are what a decision depends on besides the configuration.
type facts struct {
	found   []string                           // files with setuid or setgid below nosuid paths
	main    *overrides                         // dpkg's own database
	at      func(name string) (*object, error) // nil: nothing is there
	owned   func(o ownership) error            // an error if owner or group does not exist
	trusted func(name string) error            // an error if others than root can put a file there
	now     map[string]*object                 // what at has told
	blocked map[string]bool                    // there is something that cannot be treated
}

// nosuidMode is what nosuid leaves of a mode at most. Nobody but the owner may
// run the file: a su that is not setuid has to fail, not to do half its work. It
// stays readable.
const nosuidMode = 0o744

// step is one path and what is to be done about it.
type step struct {
	path     string
	now      *object // nil: there is nothing on disk any more
	want     ownership
	caps     *fileCaps // nil: left alone
	rule     *rule     // nil: no rule is left, what was before comes back
	nosuid   bool      // strip: want is about the file that was seen
	override *ownership
	release  bool // take our override away
	stray    bool // cannot be remembered
}

// onDisk reports whether the object itself has to change.
func (s *step) onDisk() bool {
	return s.now != nil && (s.now.ownership != s.want || s.caps != nil && *s.caps != s.now.caps)
}

// failure is a path that cannot be treated, and the exit code for it.
type failure struct {
	code int
	text string
}

// Exit codes of the hardener.
const (
	codeConfig     = 200 // a line makes no sense
	codeUndo       = 202 // owner or group could not be restored
	codeFailed     = 203 // dpkg-statoverride, capabilities, or a file was left alone
	codeCapability = 205 // a capability is still there
)

// target is what the policy wants of a path.
type target struct {
	ownership
	capability string
	rule       *rule
	nosuid     bool
}

// plan is the decision: what to do, what to remember, what cannot be done.
type plan struct {
	steps    []step
	targets  []string
	of       map[string]target
	failures []failure
}

func (p *plan) fail(code int, format string, args ...any) {
	p.failures = append(p.failures, failure{code, fmt.Sprintf(format, args...)})
}

// enablePlan decides what enable does. It changes the memory to what is to be
// remembered, and nothing else.
func enablePlan(pol *policy, m *memory, f *facts) *plan {
	p := &plan{of: map[string]target{}}
	p.collect(pol, m, f)
	for _, name := range p.targets {
		p.enforce(name, p.of[name], m, f)
	}
	p.withdraw(m, f)
	return p
}

func (p *plan) add(name string, t target) {
	if _, known := p.of[name]; !known {
		p.targets = append(p.targets, name)
	}
	p.of[name] = t
}

// collect gathers what the policy wants of which path. Nosuid wins over a mode
// unless a whitelist names the file; it stays in force when the bit is gone,
// for files that we took it from.
func (p *plan) collect(pol *policy, m *memory, f *facts) {
	stripped := func(name string) bool {
		_, ours := m.applied.of[name]
		return ours && m.existing.of[name].mode&privilegeBits != 0
	}
	for _, r := range pol.modes {
		now := f.look(r.path, p)
		if now == nil {
			continue
		}
		t := target{ownership{r.owner, r.group, r.mode}, r.capability, &r, false}
		if below := pol.below(r.path); below != nil && now.regular && pol.whitelisted(r.path) == nil &&
			((r.mode|now.mode)&privilegeBits != 0 || stripped(r.path)) {
			t.ownership, t.rule, t.nosuid = withoutPrivilege(now), below, true
		}
		p.add(r.path, t)
	}
	strip := func(path string) {
		if _, known := p.of[path]; known || pol.whitelisted(path) != nil {
			return
		}
		if now := f.look(path, p); now != nil && now.regular {
			p.add(path, target{withoutPrivilege(now), "", pol.below(path), true})
		}
	}
	for _, path := range f.found {
		strip(path)
	}
	for _, path := range m.applied.order {
		if stripped(path) && pol.below(path) != nil {
			strip(path)
		}
	}
}

// withoutPrivilege is a file's ownership after nosuid: never a bit more than
// before (D-7).
func withoutPrivilege(o *object) ownership {
	return ownership{o.owner, o.group, o.mode & nosuidMode}
}

// look returns what is at a path; nil if nothing, or nothing that can be
// treated.
func (f *facts) look(path string, p *plan) *object {
	if o, seen := f.now[path]; seen {
		return o
	}
	known := len(p.failures)
	o, err := f.at(path)
	switch {
	case err != nil:
		p.fail(codeFailed, "%v", err)
		o = nil
	case o != nil && o.link:
		p.fail(codeFailed, "'%s' has become a symbolic link, skipped", printable(path))
		o = nil
	case o != nil && o.regular && o.links > 1:
		p.fail(codeFailed, "'%s' has %d hard links, so that other files would change too: skipped; remove the other names, or copy the file", printable(path), o.links)
		o = nil
	}
	f.now[path] = o
	f.blocked[path] = len(p.failures) > known
	return o
}

// enforce decides about one target.
func (p *plan) enforce(path string, t target, m *memory, f *facts) {
	now := f.now[path]
	s := step{path: path, now: now, want: t.ownership, rule: t.rule, nosuid: t.nosuid}
	if strings.ContainsRune(path, '\n') {
		if !t.nosuid {
			p.fail(codeFailed, "'%s' has a newline in its name, skipped", printable(path))
			return
		}
		// dpkg-statoverride takes no such name, but a setuid bit must not hide
		// behind one.
		p.fail(codeFailed, "'%s' has a newline in its name: mode %o becomes %o, which cannot be recorded, and is not undone by disable", printable(path), now.mode, s.want.mode)
		s.stray = true
		p.steps = append(p.steps, s)
		return
	}
	if err := f.owned(t.ownership); err != nil {
		p.fail(codeFailed, "%s: '%s' is skipped: %v", t.rule.origin, printable(path), err)
		return
	}
	if !p.capability(&s, t, f) {
		return
	}
	if err := f.grants(&s); err != nil {
		p.fail(codeFailed, "%s: '%s' would get rights where others can put a file, skipped: %v", t.rule.origin, printable(path), err)
		return
	}
	p.remember(&s, m, f)
	if override, ok := f.main.of[path]; !ok || override != s.want {
		s.override = &s.want
	}
	m.applied.set(path, s.want)
	if s.onDisk() || s.override != nil {
		p.steps = append(p.steps, s)
	}
}

// remember keeps what was before us: at first sight, and when a setuid bit has
// come since, from the package itself.
func (p *plan) remember(s *step, m *memory, f *facts) {
	applied, ours := m.applied.of[s.path]
	later := ours && s.now.ownership != applied && s.now.mode&privilegeBits&^m.existing.of[s.path].mode != 0
	if _, recorded := m.existing.of[s.path]; !ours || later || !recorded {
		m.existing.set(s.path, s.now.ownership)
	}
	if override, ok := f.main.of[s.path]; ok && !ours {
		m.admin.set(s.path, override)
	}
	if _, recorded := m.caps[s.path]; s.caps != nil && *s.caps != s.now.caps && !recorded {
		m.caps[s.path] = s.now.caps.String()
	}
}

// capability decides about capabilities.
func (p *plan) capability(s *step, t target, f *facts) bool {
	if t.capability == "" || !s.now.regular {
		return true
	}
	if s.now.capsErr != nil {
		p.fail(codeFailed, "'%s': %v", printable(s.path), s.now.capsErr)
		return false
	}
	var want fileCaps
	if t.capability != capabilityNone {
		var err error
		if want, err = granted(t.capability); err != nil {
			p.fail(codeFailed, "%s: %v", t.rule.origin, err)
			return false
		}
	}
	s.caps = &want
	return true
}

// grants returns an error if a step gives a file rights that it has not, where
// somebody else could have put another file.
func (f *facts) grants(s *step) error {
	more := s.want.mode&privilegeBits&^s.now.mode != 0
	given := s.want.owner != s.now.owner || s.want.group != s.now.group
	caps := s.caps != nil && (s.caps.permitted&^s.now.caps.permitted|s.caps.inheritable&^s.now.caps.inheritable) != 0
	if !more && !given && !caps {
		return nil
	}
	return f.trusted(s.path)
}

// withdraw takes back what no rule wants any more: where the file still is what
// we made of it. What a package or the administrator has changed since is
// theirs, and a setuid bit that they took away does not come back (D-2).
func (p *plan) withdraw(m *memory, f *facts) {
	for _, path := range append([]string(nil), m.applied.order...) {
		if _, wanted := p.of[path]; wanted {
			continue
		}
		now := f.look(path, p)
		if now == nil { // the package may come back
			continue
		}
		if now.ownership == m.applied.of[path] {
			p.restore(path, now, m, f)
		} else {
			p.release(path, now, m, f)
		}
		m.forget(path)
		m.existing.remove(path)
	}
	for _, path := range append([]string(nil), m.existing.order...) {
		_, ours := m.applied.of[path]
		if _, wanted := p.of[path]; !wanted && !ours && f.look(path, p) != nil {
			m.existing.remove(path)
		}
	}
}

// restore adds the step back to what was.
func (p *plan) restore(path string, now *object, m *memory, f *facts) bool {
	s := step{path: path, now: now, want: m.existing.of[path]}
	if text, ok := m.caps[path]; ok {
		if caps, err := parseCaps(text); err == nil {
			s.caps = &caps
		}
	}
	if err := f.owned(s.want); err != nil {
		p.fail(codeUndo, "'%s' is not restored: %v", printable(path), err)
		return false
	}
	if err := f.grants(&s); err != nil {
		p.fail(codeFailed, "'%s' is not restored to %s, because others can put a file there: %v", printable(path), s.want, err)
		return false
	}
	s.overrideBack(m, f)
	if s.onDisk() || s.release || s.override != nil {
		p.steps = append(p.steps, s)
	}
	return true
}

// release lets go of a file that somebody else has changed since.
func (p *plan) release(path string, now *object, m *memory, f *facts) {
	s := step{path: path, now: now, want: now.ownership}
	s.overrideBack(m, f)
	if s.release || s.override != nil {
		p.steps = append(p.steps, s)
	}
}

// overrideBack puts the administrator's own override back (D-7), or takes ours
// away.
func (s *step) overrideBack(m *memory, f *facts) {
	current, ok := f.main.of[s.path]
	if !ok || current != m.applied.of[s.path] {
		return // none, or not ours any more
	}
	if admin, had := m.admin.of[s.path]; had {
		s.override = &admin
	} else {
		s.release = true
	}
}

// forget drops all about a path but how it was.
func (m *memory) forget(path string) {
	m.applied.remove(path)
	m.admin.remove(path)
	delete(m.caps, path)
}

// disablePlan decides what disable does for one path, or for all.
func disablePlan(which string, m *memory, f *facts) (p *plan, known bool) {
	p = &plan{of: map[string]target{}}
	for _, path := range m.existing.order {
		if which != disableAll && which != path {
			continue
		}
		known = true
		if _, ours := m.applied.of[path]; !ours {
			continue
		}
		if now := f.look(path, p); now != nil {
			if !p.restore(path, now, m, f) {
				continue
			}
		} else if f.blocked[path] {
			continue
		} else {
			s := step{path: path}
			s.overrideBack(m, f)
			if s.release || s.override != nil {
				p.steps = append(p.steps, s)
			}
		}
		m.forget(path)
	}
	return p, known
}

// disableAll is the word for all paths.
const disableAll = "all"
