// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// explained is a variable's value and where it comes from.
type explained struct {
	Variable string        `json:"variable"`
	Value    string        `json:"value"`
	From     []explainedBy `json:"from"` // empty for a default
}

// explainedBy is what one assignment contributed.
type explainedBy struct {
	Origin string `json:"origin"` // FILE:LINE, or "environment"
	Text   string `json:"text"`
}

// explainVariable shows a variable's value and the assignments behind it.
func (r *run) explainVariable(cfg *Configuration) error {
	name := r.opts.variable
	value, known := cfg.Text[name]
	if !known && !slices.Contains(printedVariables(r.role), name) {
		return fmt.Errorf("there is no variable %s: there are %v: %w", quote(name), slices.Sorted(maps.Keys(cfg.Text)), errNoVariable)
	}
	e := explained{Variable: name, Value: squeeze(value), From: []explainedBy{}}
	for _, p := range r.vars[name].Parts {
		e.From = append(e.From, explainedBy{p.Origin, squeeze(p.Text)})
	}
	return r.print(e, func(w io.Writer) {
		fmt.Fprintf(w, "%s=%s\n", e.Variable, e.Value)
		for _, p := range e.From {
			fmt.Fprintf(w, "  %s: %s\n", p.Origin, p.Text)
		}
		if len(e.From) == 0 {
			fmt.Fprintln(w, "  default")
		}
	})
}

// errNoVariable says that an explanation was asked for what is not there.
var errNoVariable = errors.New("--explain takes one of these")
