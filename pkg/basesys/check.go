// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const checkHelp = `usage: %s [--json] [--problems] [--kind KIND]
Shows whether every documented setting is in force: how it was found, what is
wanted, what is there, and which file and line sets it. See
security-misc-check(8).
  --problems   only what is not in force
  --kind KIND  only sysctl, cmdline, module, option, loaded, unit, pam, faillock,
               limit, systemd, apt or mount
  --json       for programs
  --version    print the version
`

// Check is the program security-misc-check.
func Check(ctx context.Context, env cli.Env) error { return check(ctx, fsx.Host, env) }

func check(ctx context.Context, root fsx.Root, env cli.Env) error {
	if asked(env, checkHelp) {
		return nil
	}
	all, err := settings()
	if err != nil {
		return err
	}
	asJSON, problems, kind := false, false, ""
	for args := env.Args[1:]; len(args) > 0; args = args[1:] {
		switch {
		case args[0] == "--json":
			asJSON = true
		case args[0] == "--problems":
			problems = true
		case args[0] == "--kind" && len(args) > 1:
			args = args[1:]
			kind = args[0]
			if !slices.ContainsFunc(all, func(s setting) bool { return s.kind == kind }) {
				return cli.Usagef("--kind: there is no %q", kind)
			}
		default:
			return cli.Usagef("unknown argument: %q", args[0])
		}
	}
	all = slices.DeleteFunc(all, func(s setting) bool { return kind != "" && s.kind != kind })
	findings := inspect(ctx, root, all)
	bad := slices.ContainsFunc(findings, func(f finding) bool { return f.state == stateDiffers })
	if problems {
		findings = slices.DeleteFunc(findings, func(f finding) bool { return f.state != stateDiffers })
	}
	if asJSON {
		err = printJSON(env, findings)
	} else {
		err = printTable(env, findings)
	}
	if err == nil && bad {
		err = &cli.Exit{Code: cli.CodeFailed}
	}
	return err
}

// inspector looks settings up. What several settings are read from is read once.
type inspector struct {
	root    fsx.Root
	sysctl  sysctlFiles
	modules moduleConfig
	apt     map[string]string
	mounts  map[string]string
	cmdline []string
}

// inspect finds out about every setting. It only reads.
func inspect(ctx context.Context, root fsx.Root, all []setting) []finding {
	i := &inspector{root: root}
	needs := func(kinds ...string) bool {
		return slices.ContainsFunc(all, func(s setting) bool { return slices.Contains(kinds, s.kind) })
	}
	if needs(kindSysctl) {
		i.sysctl = readSysctlFiles(root)
	}
	if needs(kindModule, kindOption, kindLoaded) {
		i.modules = readModuleConfig(root)
	}
	if needs(kindApt) {
		i.apt = aptOptions(ctx, root)
	}
	if needs(kindMount) {
		i.mounts = mountOptions(root)
	}
	if needs(kindCmdline) {
		data, _ := root.ReadFile(cmdlinePath, fileMax)
		i.cmdline = strings.Fields(string(data))
	}
	var out []finding
	for _, s := range all {
		f := i.inspect(s)
		if s.pkg != "security-misc" && !root.Exists("/var/lib/dpkg/info/"+s.pkg+".list") && f.state == stateDiffers {
			f = absent(s, f.wanted, "no "+s.pkg)
		}
		if f.source == "" && f.state == stateOK && root.Exists(s.file) {
			f.source = s.file
		}
		out = append(out, f)
	}
	return out
}

func (i *inspector) inspect(s setting) finding {
	switch s.kind {
	case kindSysctl:
		return i.sysctlFinding(s)
	case kindCmdline:
		return i.cmdlineFinding(s)
	case kindModule:
		return i.moduleFinding(s)
	case kindOption:
		return i.optionFinding(s)
	case kindLoaded:
		return i.loadedFinding(s)
	case kindUnit:
		return i.unitFinding(s)
	case kindPAM:
		return i.pamFinding(s)
	case kindFaillock:
		return i.faillockFinding(s)
	case kindLimit:
		return i.limitFinding(s)
	case kindSystemd:
		return i.systemdFinding(s)
	case kindApt:
		return i.aptFinding(s)
	}
	return i.mountFinding(s)
}

// printTable prints columns, and how many settings there are of each state.
func printTable(env cli.Env, findings []finding) error {
	rows := [][]string{{"STATE", "KIND", "SETTING", "WANTED", "ACTUAL", "SET BY"}}
	count := map[state]int{}
	for _, f := range findings {
		count[f.state]++
		source := f.source
		if source == "" {
			source = "-"
		}
		rows = append(rows, []string{string(f.state), f.kind, f.name, f.wanted, printable(f.actual), printable(source)})
	}
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for n, cell := range r {
			width[n] = max(width[n], len(cell))
		}
	}
	var b bytes.Buffer
	for _, r := range rows {
		for n, cell := range r[:len(r)-1] {
			fmt.Fprintf(&b, "%-*s  ", width[n], cell)
		}
		fmt.Fprintln(&b, r[len(r)-1])
	}
	fmt.Fprintf(&b, "%d in force, %d not, %d absent here, %d off by choice\n", count[stateOK], count[stateDiffers], count[stateAbsent], count[stateOff])
	_, err := env.Stdout.Write(b.Bytes())
	return err
}

// printJSON prints the same as an array of objects.
func printJSON(env cli.Env, findings []finding) error {
	type row struct {
		Kind    string `json:"kind"`
		Name    string `json:"name"`
		Wanted  string `json:"wanted"`
		Actual  string `json:"actual"`
		State   state  `json:"state"`
		Source  string `json:"source"`
		File    string `json:"file"`
		Package string `json:"package"`
		OptIn   bool   `json:"opt_in"`
		Purpose string `json:"purpose"`
	}
	rows := []row{}
	for _, f := range findings {
		rows = append(rows, row{f.kind, f.name, f.wanted, f.actual, f.state, f.source, f.file, f.pkg, f.optIn, f.purpose})
	}
	e := json.NewEncoder(env.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "\t")
	return e.Encode(rows)
}
