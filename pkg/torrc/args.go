// SPDX-License-Identifier: GPL-3.0-or-later

package torrc

import (
	"slices"
	"strings"
)

// Quiet is how much is logged where the configuration does not say.
type Quiet int

// The levels of --quiet and --hush.
const (
	Verbose Quiet = iota
	Hush          // no notices
	Silent
)

// Words of the command line that are no options of the configuration.
const (
	wordFile     = "-f"
	wordFileLong = "--torrc-file"
	wordDefaults = "--defaults-torrc"
	wordAllow    = "--allow-missing-torrc"
	wordIgnore   = "--ignore-missing-torrc"
	wordQuiet    = "--quiet"
	wordHush     = "--hush"
)

// The commands: what prints something, or makes something, and ends.
const (
	Help            = "--help"
	HelpShort       = "-h"
	Version         = "--version"
	ListOptions     = "--list-torrc-options"
	ListDeprecated  = "--list-deprecated-options"
	ListModules     = "--list-modules"
	ListSubsystems  = "--dbg-dump-subsystem-list"
	LibraryVersions = "--library-versions"
	VerifyConfig    = "--verify-config"
	HashPassword    = "--hash-password"
	DumpConfig      = "--dump-config"
	ListFingerprint = "--list-fingerprint"
	Keygen          = "--keygen"
	KeygenFamily    = "--keygen-family"
	KeyExpiration   = "--key-expiration"
)

const noValue = "Command-line option '%s' with no value. Failing."

// operand says what follows a word.
type operand int

const (
	none operand = iota
	optional
	needed
)

// word is what is known of a word.
type word struct {
	operand operand
	command bool
	atOnce  bool // counts before all other commands
}

// lookup finds a word. Only this exact spelling is one.
func lookup(text string) (word, bool) {
	switch text {
	case wordFile, wordFileLong, wordDefaults, "--passphrase-fd", "--format", "--master-key":
		return word{operand: needed}, true
	case wordAllow, wordIgnore, wordQuiet, wordHush, "--newpass", "--no-passphrase", "--service", "-service", "--nt-service", "-nt-service":
		return word{}, true
	case HashPassword, KeygenFamily:
		return word{operand: needed, command: true}, true
	case DumpConfig, ListFingerprint, KeyExpiration:
		return word{operand: optional, command: true}, true
	case VerifyConfig, Keygen:
		return word{command: true}, true
	case Help, HelpShort, Version, ListOptions, ListDeprecated, ListModules, ListSubsystems, LibraryVersions:
		return word{command: true, atOnce: true}, true
	}
	return word{}, false
}

// Word is a word with its operand.
type Word struct {
	Text    string
	Operand string
	Has     bool // an operand
}

// Args is a command line.
type Args struct {
	Command      *Word // nil to run
	Torrc        string
	Defaults     string
	AllowMissing bool // of the file
	NeverMind    bool // any missing file
	Quiet        Quiet
	Config       []Line

	others []Word // neither commands nor configuration
}

// ParseArgs reads a command line without the program's name. As in Tor a word
// that needs an operand takes the next one, whatever it looks like.
func ParseArgs(args []string) (*Args, error) {
	a := &Args{}
	immediate := false
	for i := 0; i < len(args); {
		text := args[i]
		w, known := lookup(text)
		if !known {
			l, n, err := option(args[i:])
			if err != nil {
				return a, err
			}
			a.Config = append(a.Config, l)
			i += n
			continue
		}
		i++
		item := Word{Text: text}
		switch {
		case w.operand == needed && i == len(args):
			return a, complain(noValue, text)
		case w.operand == needed, w.operand == optional && i < len(args) && !strings.HasPrefix(args[i], "-"):
			item.Operand, item.Has = args[i], true
			i++
		}
		switch {
		case !w.command:
			if err := a.other(item); err != nil {
				return a, err
			}
		case !immediate || w.atOnce && rank(text) < rank(a.Command.Text):
			a.Command, immediate = &item, w.atOnce
		}
	}
	return a, nil
}

// rank is the order in which Tor looks for commands that count at once.
func rank(text string) int {
	return slices.Index([]string{HelpShort, Help, ListOptions, ListDeprecated, ListSubsystems, Version, ListModules, LibraryVersions}, text)
}

// option reads a pair of the configuration.
func option(args []string) (l Line, length int, err error) {
	key := strings.TrimPrefix(strings.TrimPrefix(args[0], "-"), "-")
	l = Line{Origin: Origin{File: "command line"}}
	switch {
	case strings.HasPrefix(key, "+"):
		l.Mode, key = Add, key[1:]
	case strings.HasPrefix(key, "/"):
		l.Mode, l.Key = Clear, key[1:]
		return l, 1, nil
	}
	if len(args) == 1 {
		return l, 0, complain(noValue, args[0])
	}
	if key == "l" {
		key = "Log"
	}
	l.Key, l.Value = key, args[1]
	return l, 2, nil
}

func (a *Args) other(w Word) error {
	if strings.HasSuffix(w.Text, "service") {
		return nil // for another system: nothing here, nor for whom it is passed on to
	}
	a.others = append(a.others, w)
	switch w.Text {
	case wordFile, wordFileLong:
		for _, o := range a.others {
			if (o.Text == wordFile || o.Text == wordFileLong) && o.Text != w.Text {
				return complain("%s and %s cannot be used together.", wordFile, wordFileLong)
			}
		}
		a.Torrc = w.Operand
	case wordDefaults:
		a.Defaults = w.Operand
	case wordAllow:
		a.AllowMissing = true
	case wordIgnore:
		a.NeverMind = true
	case wordHush:
		a.Quiet = max(a.Quiet, Hush)
	case wordQuiet:
		a.Quiet = max(a.Quiet, Silent)
	}
	return nil
}

// CommandFirst is the command line with its one command at the begin, where no
// other word can take it for an operand (defect 17). Every pair has a dash
// before its key, so that the command cannot take the key for an operand
// either.
func (a *Args) CommandFirst() []string {
	var out []string
	add := func(w Word) {
		out = append(out, w.Text)
		if w.Has {
			out = append(out, w.Operand)
		}
	}
	if a.Command != nil {
		add(*a.Command)
	}
	for _, w := range a.others {
		add(w)
	}
	for _, l := range a.Config {
		key := l.Key
		if _, taken := lookup("--" + key); taken {
			key = strings.ToUpper(key) // an option, in whatever case; words have one
		}
		switch l.Mode {
		case Set:
			out = append(out, "--"+key, l.Value)
		case Add:
			out = append(out, "--+"+key, l.Value)
		case Clear:
			out = append(out, "--/"+key)
		}
	}
	return out
}

// CommandAlone is the one command, and how quiet it is to be.
func (a *Args) CommandAlone() []string {
	only := &Args{Command: a.Command}
	for _, w := range a.others {
		if w.Text == wordQuiet || w.Text == wordHush {
			only.others = append(only.others, w)
		}
	}
	return only.CommandFirst()
}
