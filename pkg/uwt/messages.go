// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/cli"
)

// missingText says that a program's file is not there: script name, file,
// program, base name.
const missingText = `%[1]s uwt wrapper ERROR: file '%[2]s' does not exist.

'%[3]s' is a wrapper; the program itself does not seem to be installed. Perhaps it is in the package '%[4]s':
sudo apt update
sudo apt install %[4]s

With the package 'command-not-found' installed you would be told here which package has it.
`

// helpText is the help; %s is the path of the program.
const helpText = `usage: uwtwrapper is started by wrappers; nobody runs %[1]s by hand.

A wrapper stands in the place of a program, so that typing the program's name
as always runs it with torsocks, and every run has a Tor circuit of its own
(stream isolation). See https://www.whonix.org/wiki/Stream_Isolation

What belongs to a wrapped program is shown, for example, by
    ls -la /usr/bin/apt-get*
Files whose names end in .anondist are wrappers, those that end in
.anondist-orig are the original programs, and may be run in order to go round
the wrapper. The program itself is a link to its wrapper.

Switches for all programs and for single ones are set in /etc/uwt.d, see
uwt.d(5). To run any other program isolated, see uwt(1); what is wrapped, and
what would not be isolated, is shown by
    uwtctl check

A wrapper of your own is a file with
    #!/bin/sh
    export uwtwrapper_parent="$0"
    exec %[1]s "$@"
and the program beside it under the same name with .anondist-orig appended.
`

// Functions of the original that fragments redefine.
const (
	hookNesting      = "nested_protection"
	hookAlternatives = "alternatives_support"
	hookSanity       = "sanity_tests_general"
	hookHelp         = "show_help"
)

// ignoredHooks are those whose work cannot be handed to a fragment.
func ignoredHooks() []string { return []string{"variables", "parse_cmd", "error_handler"} }

func hooks() []string {
	return append([]string{hookNesting, hookAlternatives, hookSanity, hookHelp}, ignoredHooks()...)
}

func (w *wrapper) defines(function string) bool {
	return slices.Contains(w.session.Defined, function)
}

// help answers the first word of a call by hand.
func (w *wrapper) help() (done bool, err error) {
	switch w.env.Args[1] {
	case "-h", "-?", "--help":
		if w.defines(hookHelp) {
			return true, w.call(hookHelp)
		}
		fmt.Fprintf(w.env.Stdout, helpText, wrapperPath)
		return true, nil
	case "--version":
		fmt.Fprintf(w.env.Stdout, "uwtwrapper (whonix-networking) %s\n", cli.Version)
		return true, nil
	}
	return false, nil
}

// bug is the original's complaint about a failing command.
func (w *wrapper) bug(command string) error {
	fmt.Fprintf(w.env.Stderr, "\n## uwtwrapper BUG.\n## SCRIPTNAME: '%s'\n## uwtwrapper_parent: '%s'\n## BASH_COMMAND: '%s'\n## Please report this BUG!\n\n", base(wrapperPath), w.parent, command)
	return &cli.Exit{Code: codeFailed}
}

func (w *wrapper) scriptName() string { return w.set.or("SCRIPTNAME", base(wrapperPath)) }

// setVerbose reads how much is to be said about each step.
func (w *wrapper) setVerbose() {
	text, _ := w.env.Lookup(varVerbose)
	if text == "" {
		return
	}
	level, err := strconv.Atoi(text)
	if err != nil {
		w.env.Warnf("%s=%q is no number, and ignored", varVerbose, text)
	}
	w.verbose = level >= 1
}

// trace says on request what is done, where the original traced its commands.
func (w *wrapper) trace(format string, args ...any) {
	if w.verbose {
		fmt.Fprintf(w.env.Stderr, "+ uwtwrapper: "+format+"\n", args...)
	}
}

func (w *wrapper) setEnv(name, value string) {
	w.set.Environ = withEnv(w.set.Environ, name, value)
	w.set.Vars[name] = value
}

// environ is the program's environment.
func (w *wrapper) environ() []string {
	return withEnv(without(w.set.Environ, varZeroarg), varParent, w.parent)
}

func withEnv(environ []string, name, value string) []string {
	return append(without(environ, name), name+"="+value)
}

func without(environ []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, name+"=") })
}

func trimSuffix(path string) string { return strings.TrimSuffix(path, wrapperSuffix) }
