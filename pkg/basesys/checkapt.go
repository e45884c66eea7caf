// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const aptConfig = "/usr/bin/apt-config"

// aptOptions are APT's own words on its configuration; nil without APT.
func aptOptions(ctx context.Context, root fsx.Root) map[string]string {
	if !root.Exists(aptConfig) {
		return nil
	}
	var out bytes.Buffer
	if (execx.Cmd{Path: root.Path(aptConfig), Args: []string{"dump"}, Stdout: &out}).Run(ctx) != nil {
		return nil
	}
	options := map[string]string{}
	for line := range strings.Lines(out.String()) {
		name, text, ok := strings.Cut(strings.TrimRight(line, "\n"), " ")
		if !ok {
			continue
		}
		if text, err := strconv.Unquote(strings.TrimSuffix(text, ";")); err == nil {
			options[strings.ToLower(name)] = text
		}
	}
	return options
}

// aptFinding compares. Where an option is set is looked for among the lines of
// the form NAME "VALUE"; the last one that names it counts.
func (i *inspector) aptFinding(s setting) finding {
	if i.apt == nil {
		return absent(s, s.wanted, "no apt-config")
	}
	actual, ok := i.apt[strings.ToLower(s.name)]
	if !ok {
		return found(s, s.wanted, "missing", "")
	}
	files, _ := i.root.ConfFiles("/etc/apt/apt.conf.d", "")
	files = append(files, "/etc/apt/apt.conf")
	for _, f := range slices.Backward(files) {
		data, _ := i.root.ReadFile(f, fileMax)
		lines := strings.Split(string(data), "\n")
		for n, line := range slices.Backward(lines) {
			words := strings.Fields(line)
			if len(words) > 1 && strings.EqualFold(words[0], s.name) {
				return found(s, s.wanted, actual, fmt.Sprintf("%s:%d", f, n+1))
			}
		}
	}
	return found(s, s.wanted, actual, "")
}
