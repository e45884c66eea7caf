// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"errors"
	"fmt"
	"strings"
)

// options are the arguments of a role program.
type options struct {
	source      bool   // do nothing
	dryRun      bool   // generate, do not load
	info        bool   // print variables and ports
	checkConfig bool   // validate, write nothing
	output      string // write the script there instead; implies dryRun
	mode        string // --mode, empty when not given
	unproven    bool   // load also what the proof refuses

	prove    bool     // prove, load nothing
	file     string   // the ruleset that is looked at; empty for the configuration's
	kernel   bool     // the loaded one instead
	packet   string   // explain this packet, load nothing
	meanings []string // compare two files, load nothing
	diff     bool     // compare with the loaded ruleset, load nothing
	variable string   // explain its value, load nothing
	json     bool
}

// looks reports whether rulesets are looked at and none is loaded.
func (o *options) looks() bool {
	return o.prove || o.packet != "" || o.meanings != nil || o.diff || o.variable != ""
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
			rest, ok := o.proofOption(arg, args)
			if !ok {
				return o, errUsage
			}
			args = rest
		}
	}
	if (o.kernel || o.json) && !o.looks() || o.kernel && o.file != "" {
		return o, fmt.Errorf("%w: ERROR: --kernel and --json go with --prove, --explain-packet or --diff-meaning, and --kernel with no file", errUsage)
	}
	return o, nil
}

// proofOption reads an option of the proof, and returns what comes behind it.
func (o *options) proofOption(arg string, rest []string) ([]string, bool) {
	switch arg {
	case "--prove":
		o.prove = true
		if len(rest) > 0 && (rest[0] == standardInput || !strings.HasPrefix(rest[0], "-")) && rest[0] != "" {
			o.file, rest = rest[0], rest[1:]
		}
	case "--kernel":
		o.kernel = true
	case "--json":
		o.json = true
	case "--unproven":
		o.unproven = true
	case "--explain-packet":
		if len(rest) == 0 || rest[0] == "" {
			return nil, false
		}
		o.packet, rest = rest[0], rest[1:]
	case "--diff":
		o.diff = true
	case "--explain":
		if len(rest) == 0 || rest[0] == "" {
			return nil, false
		}
		o.variable, rest = rest[0], rest[1:]
	case "--diff-meaning":
		if len(rest) < 2 || rest[0] == "" || rest[1] == "" {
			return nil, false
		}
		o.meanings, rest = rest[:2], rest[2:]
	default:
		return nil, false
	}
	return rest, true
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
     --prove [FILE]        prove that the ruleset, or that of FILE, does not leak; load nothing
     --explain-packet PACKET
                           name the rules that decide about a packet such as
                           "tcp 10.152.152.11:1234 -> 198.51.100.1:80 iif eth1"
     --diff                show what the loaded ruleset and the configuration's treat differently
     --diff-meaning A B    show what two nft scripts treat differently
     --explain VARIABLE    show a variable's value, and the files and lines it comes from
     --kernel              prove or explain the loaded ruleset
     --json                print one JSON document
     --unproven            load the ruleset even if it is proved to leak
     --version             show the version
`, name)
}
