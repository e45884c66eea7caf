// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/session"
)

const controlHelp = `usage: uwtctl check [--json]
Lists what is wrapped, with the programs behind it and the switches in force,
and says what would run without stream isolation. See uwtctl(1).
`

// codeSlips is uwtctl's status where a program would not be isolated although
// nobody has switched that off.
const codeSlips = 1

// report is what `uwtctl check --json` prints.
type report struct {
	Programs []entry  `json:"programs"`
	Warnings []string `json:"warnings"`
}

// Control is the program uwtctl.
func Control(ctx context.Context, env cli.Env) error {
	flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	asJSON := flags.Bool("json", false, "print JSON")
	flags.Usage = func() { fmt.Fprint(env.Stdout, controlHelp, flags.FlagUsages()) }
	err := flags.Parse(env.Args[1:])
	switch {
	case err == pflag.ErrHelp:
		return nil
	case err != nil:
		return cli.Usagef("%w", err)
	case flags.NArg() != 1 || flags.Arg(0) != "check":
		return cli.Usagef("the one command is: uwtctl check")
	}
	r, err := check(ctx, env)
	if err != nil {
		return err
	}
	if *asJSON {
		out := json.NewEncoder(env.Stdout)
		out.SetIndent("", "  ")
		err = out.Encode(r)
	} else {
		err = r.print(env.Stdout)
	}
	if err == nil && r.slips() {
		return &cli.Exit{Code: codeSlips}
	}
	return err
}

// check evaluates the configuration as for a program that is none of the
// wrapped ones, and looks at each of these.
func check(ctx context.Context, env cli.Env) (*report, error) {
	r := &report{Programs: []entry{}, Warnings: []string{}}
	warn := func(m string) { r.Warnings = append(r.Warnings, m) }
	s, err := session.Source(ctx, session.Options{
		Root: fsx.Host, Dirs: fragmentDirs(), Name: wrapperPath, Function: "source_config_folder",
		Environ: withEnv(env.Environ, varParent, "/usr/bin/uwtctl"), Arrays: arrays(), Names: names(), Hooks: hooks(),
		Preset: map[string]string{"SCRIPTNAME": base(wrapperPath)}, OnlyRoot: os.Geteuid() == 0, Origins: true,
		Stderr: env.Stderr, Warn: warn,
	})
	if err != nil {
		return nil, fmt.Errorf("no wrapped program would run: %w", err)
	}
	defer s.Close()
	set := settings{&s.State}
	if s.Reason != "" {
		warn("the configuration needs bash, which every wrapped program starts: " + s.Reason)
	}
	for _, name := range s.Defined {
		warn("the configuration redefines the function " + name)
	}
	wrappers := findWrappers(set)
	cannot := sync.OnceValue(func() string { return canIsolate(ctx) })
	for _, parent := range wrappers {
		r.Programs = append(r.Programs, inspect(set, parent, cannot))
	}
	for _, key := range unknownKeys(set, wrappers) {
		warn(fmt.Sprintf("%s: %s is set, but no such program is wrapped", set.Origins[key], key))
	}
	return r, nil
}

func (r *report) slips() bool {
	for _, p := range r.Programs {
		if p.Slips != "" {
			return true
		}
	}
	return false
}

func (r *report) print(to io.Writer) error {
	var b strings.Builder
	for _, p := range r.Programs {
		p.print(&b)
	}
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	_, err := io.WriteString(to, b.String())
	return err
}
