// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"errors"
	"io/fs"
	"strings"

	"whonix-networking/pkg/fsx"
)

// policy is the configuration with its paths resolved.
type policy struct {
	modes   []rule // canonical paths, each once, in the order of their first line
	nosuid  []rule // canonical paths
	exact   map[string]rule
	match   []rule
	unmatch []rule
	all     *rule // whitelists_disable_all=true
}

// newPolicy resolves paths: on a merged /usr, /bin/x is /usr/bin/x (D-6). Paths
// that do not exist are left out. A path whose links are not root's is a
// complaint.
func newPolicy(root fsx.Root, rules []rule) (*policy, []complaint) {
	p := &policy{exact: map[string]rule{}}
	var complaints []complaint
	index := map[string]int{}
	for _, r := range rules {
		switch r.kind {
		case ruleAll:
			p.all = &r
			continue
		case ruleMatch:
			p.match = append(p.match, r)
			continue
		case ruleUnmatch:
			p.unmatch = append(p.unmatch, r)
			continue
		}
		canonical, err := root.Canonical(r.path)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDirectory):
			continue
		case err != nil:
			complaints = append(complaints, complaint{r.origin, err.Error()})
			continue
		}
		r.path = canonical
		switch r.kind {
		case ruleExact:
			p.exact[canonical] = r
		case ruleNosuid:
			p.nosuid = append(p.nosuid, r)
		case ruleMode:
			if i, twice := index[canonical]; twice { // the last one counts
				p.modes[i] = r
				continue
			}
			index[canonical] = len(p.modes)
			p.modes = append(p.modes, r)
		}
	}
	return p, complaints
}

// whitelisted returns the rule that makes nosuid leave a path alone, or nil.
func (p *policy) whitelisted(name string) *rule {
	if p.all != nil || p.unmatched(name) != nil {
		return nil
	}
	if r, ok := p.exact[name]; ok {
		return &r
	}
	for _, r := range p.match {
		if strings.Contains(name, r.path) {
			return &r
		}
	}
	return nil
}

// unmatched returns the rule that takes a path out of all whitelists. Like that
// of a matchwhitelist its text may be any part of the path (D-4).
func (p *policy) unmatched(name string) *rule {
	for _, r := range p.unmatch {
		if strings.Contains(name, r.path) {
			return &r
		}
	}
	return nil
}

// below returns the nosuid rule that covers a path, by whole components, or nil.
func (p *policy) below(name string) *rule {
	for _, r := range p.nosuid {
		if within(r.path, name) {
			return &r
		}
	}
	return nil
}

// within reports whether name is dir or lies below it.
func within(dir, name string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir+"/")
}

// tops are the paths to search: none of them below another.
func (p *policy) tops() []string {
	var out []string
	for i, r := range p.nosuid {
		covered := false
		for j, other := range p.nosuid {
			if i != j && within(other.path, r.path) && (other.path != r.path || j < i) {
				covered = true
			}
		}
		if !covered {
			out = append(out, r.path)
		}
	}
	return out
}
