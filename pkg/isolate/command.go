// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// codeRefused is the exit code of our own failures.
const codeRefused = 125

const help = `usage: uwt [-i NAME] [--torsocks | --isolate] [--] COMMAND [ARGUMENT...]
       uwt --check
Runs any command with Tor circuits of its own. See uwt(1).
`

// options is the command line.
type options struct {
	name              string // of shared circuits
	isolate, torsocks bool
	check             bool
	argv0             string
	command           []string
}

// Command is the program uwt, and under their names the other processes of the
// package.
func Command(ctx context.Context, env cli.Env) error {
	switch env.Name() {
	case nameNamespace:
		return serveNamespace(ctx)
	case nameSupervisor:
		return serveSupervisor()
	}
	// nsenter gives what it executes the name of the file.
	if len(env.Args) > 1 && strings.HasPrefix(env.Args[0], descriptors) && env.Args[1] == nameLastStage {
		env.Args = env.Args[1:]
		err := refused(lastStage(env))
		env.Args = []string{"uwt"}
		env.Errorf("%v", err)
		return &cli.Exit{Code: cli.Code(err)}
	}
	o, err := parse(env)
	if err != nil {
		return err
	}
	if o.check {
		return available(ctx)
	}
	path, _ := env.Lookup("PATH")
	program := elfx.LookPath(o.command[0], path)
	if program == "" {
		return &cli.Exit{Code: execx.StatusNotFound, Err: fmt.Errorf("%s: command not found", o.command[0])}
	}
	if o.argv0 == "" {
		o.argv0 = o.command[0]
	}
	if o.torsocks {
		return viaTorsocks(env, program, o.command[1:], path)
	}
	set, err := readSettings(env, fsx.Host)
	if err != nil {
		return refused(err)
	}
	if o.name != "" {
		if set.Password, err = namedPassword(fsx.Host, o.name); err != nil {
			return refused(err)
		}
	}
	err = launch{env: env, settings: set, argv0: o.argv0, program: program, args: o.command[1:]}.become(ctx)
	var cannot *unavailable
	if errors.As(err, &cannot) && !o.isolate && reached(program, path) {
		env.Warnf("no namespace can be had here: %v; torsocks isolates %s, but not static programs that it starts", cannot, o.command[0])
		return viaTorsocks(env, program, o.command[1:], path)
	}
	return refused(err)
}

// refused gives an error that has no code of its own ours.
func refused(err error) error {
	var exit *cli.Exit
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return &cli.Exit{Code: codeRefused, Err: err}
}

func parse(env cli.Env) (o options, err error) {
	flags := pflag.NewFlagSet("uwt", pflag.ContinueOnError)
	flags.SetOutput(env.Stderr)
	flags.SetInterspersed(false)
	flags.StringVarP(&o.name, "identity", "i", "", "share circuits with other runs of this name")
	flags.BoolVar(&o.isolate, "isolate", false, "isolate in a namespace, or do not run")
	flags.BoolVar(&o.torsocks, "torsocks", false, "use torsocks, whatever the program is")
	flags.BoolVar(&o.check, "check", false, "say whether isolation in a namespace can be had here")
	flags.StringVar(&o.argv0, "argv0", "", "the name that the program sees")
	flags.Usage = func() { fmt.Fprint(env.Stdout, help, flags.FlagUsages()) }
	err = flags.Parse(env.Args[1:])
	o.command = flags.Args()
	wrong := func(text string) error { return &cli.Exit{Code: codeRefused, Err: errors.New(text)} }
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return o, &cli.Exit{}
	case err != nil:
		return o, &cli.Exit{Code: codeRefused, Err: err}
	case o.check && len(o.command) > 0:
		return o, wrong("--check takes no command")
	case o.check:
		return o, nil
	case len(o.command) == 0 || o.command[0] == "":
		return o, wrong("which command? See uwt --help")
	case flags.Changed("identity") && o.name == "":
		return o, wrong("-i needs a name that is not empty")
	case o.torsocks && (o.isolate || o.name != ""):
		return o, wrong("--torsocks goes neither with --isolate nor with -i")
	}
	o.isolate = o.isolate || o.name != ""
	return o, nil
}

// reached reports whether torsocks holds the program and what runs it.
func reached(program, pathList string) bool {
	triplet := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
	library, err := elfx.Examine("/usr/lib/" + triplet + "/torsocks/libtorsocks.so")
	if err != nil {
		return false
	}
	chain, err := elfx.Chain(program, pathList)
	for i, f := range chain {
		if f.Unreached(library) != "" && (f.Kind != elfx.Other || i > 0) {
			return false
		}
	}
	return err == nil
}

// viaTorsocks runs a program with torsocks(1), which cannot pass on a name, and
// takes some, such as sh, for commands of its own.
func viaTorsocks(env cli.Env, program string, args []string, pathList string) error {
	torsocks := elfx.LookPath("torsocks", pathList)
	if torsocks == "" {
		return &cli.Exit{Code: execx.StatusNotFound, Err: errors.New("torsocks: command not found (package torsocks)")}
	}
	if !strings.Contains(program, "/") {
		program = "./" + program
	}
	return replace(torsocks, append([]string{"torsocks", program}, args...), env.Environ)
}
