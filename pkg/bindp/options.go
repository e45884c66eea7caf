// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
)

// Names of the launcher's own variables.
const (
	variableMode    = "BINDP_MODE"
	variableLibrary = "bindp_so"
	// variableActive tells programs that a helper serves them: its process
	// number, a colon, and when it was started, as in proc_pid_stat(5).
	variableActive = "BINDP_LAUNCHER_ACTIVE"
	// variableServed has the settings that this helper serves.
	variableServed = "BINDP_LAUNCHER_SETTINGS"
)

// codeRefused is the exit code of the launcher's own failures.
const codeRefused = 125

// options is the command line.
type options struct {
	mode    Mode
	argv0   string // empty: the program's name as given
	program string
	args    []string
}

// errHelp says that the usage was asked for and printed.
var errHelp = errors.New("help")

func parseOptions(env cli.Env) (o options, err error) {
	flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.SetInterspersed(false) // what follows the program's name is the program's
	mode := flags.String("mode", "", "")
	flags.StringVar(&o.argv0, "argv0", "", "")
	help := flags.BoolP("help", "h", false, "")
	var args []string
	if len(env.Args) > 1 {
		args = env.Args[1:]
	}
	if err := flags.Parse(args); err != nil && !errors.Is(err, pflag.ErrHelp) {
		return o, err
	} else if err != nil || *help {
		printUsage(env)
		return o, errHelp
	}
	o.mode = ModeAuto
	if v, _ := env.Lookup(variableMode); v != "" {
		o.mode = Mode(v)
	}
	if flags.Changed("mode") {
		o.mode = Mode(*mode)
	}
	if !slices.Contains(Modes(), o.mode) {
		return o, fmt.Errorf("unknown mode %q: want one of %v", o.mode, Modes())
	}
	if flags.NArg() == 0 {
		return o, errors.New("no program given")
	}
	o.program, o.args = flags.Arg(0), flags.Args()[1:]
	return o, nil
}

// argv is the program's argument vector.
func (o options) argv() []string {
	name := o.argv0
	if name == "" {
		name = o.program
	}
	return append([]string{name}, o.args...)
}

func printUsage(env cli.Env) {
	fmt.Fprintf(env.Stdout, `usage: %s [--mode=auto|address|value|preload|none] [--argv0=NAME] [--] PROGRAM [ARG...]

Runs PROGRAM with its sockets bound to other addresses than it asks for:
  BIND_ADDR=A       the IPv4 address that is bound, and connected from
  BIND_ADDR6=A      the IPv6 address that is bound, and connected from
  BIND_PORT=N       the port that is bound, and connected from
  REUSE_ADDR=1      set SO_REUSEADDR
  REUSE_PORT=1      set SO_REUSEPORT
  IP_TRANSPARENT=1  set IP_TRANSPARENT
  BINDP_MODE=MODE   as --mode

  -h, --help        print this
      --version     print the version
`, env.Name())
}
