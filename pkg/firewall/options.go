// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"errors"
	"fmt"
)

// options are the arguments of a role program.
type options struct {
	source      bool   // do nothing
	dryRun      bool   // generate, do not load
	info        bool   // print variables and ports
	checkConfig bool   // validate, write nothing
	output      string // write the script there instead; implies dryRun
	mode        string // --mode, empty when not given
}

// errUsage asks for the usage text and exit code 1. The arguments are those of
// the original to the letter: no joined short options, no `--name=value`.
var errUsage = errors.New("usage")

func parseOptions(args []string) (options, error) {
	var o options
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		switch arg {
		case "-s", "--source":
			o.source = true
		case "-n", "--dry-run":
			o.dryRun = true
		case "-i", "--info":
			o.info = true
		case "--check-config":
			o.checkConfig = true
		case "-m", "--mode":
			if len(args) == 0 || args[0] != ModeFull && args[0] != ModeTimesync {
				return o, fmt.Errorf("%w: ERROR: --mode requires '%s' or '%s'", errUsage, ModeFull, ModeTimesync)
			}
			o.mode, args = args[0], args[1:]
		case "-o", "--output":
			if len(args) == 0 || args[0] == "" {
				return o, fmt.Errorf("%w: ERROR: --output requires a file name", errUsage)
			}
			o.output, o.dryRun, args = args[0], true, args[1:]
		default:
			return o, errUsage
		}
	}
	return o, nil
}

func usage(name string) string {
	return fmt.Sprintf(`usage: %s [options]
 -s, --source              do nothing and succeed
 -n, --dry-run             generate the ruleset, do not load it
 -i, --info                show variables and opened ports
 -m, --mode full|timesync-fail-closed
                           mode for this run, whatever the configuration says
 -h, --help                show this text
 -o, --output FILE         write the ruleset to FILE (- is standard output), do not load it
     --check-config        check the configuration, change nothing
     --version             show the version
`, name)
}
