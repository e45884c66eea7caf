// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const exampleProfiles = "/usr/share/doc/onion-grater-merger/examples"

// Names of the program; it does what the one says that it was called by.
const (
	addName    = "onion-grater-add"
	listName   = "onion-grater-list"
	removeName = "onion-grater-remove"
)

const profileHelp = `usage: onion-grater-profile add PROFILE
       onion-grater-profile remove PROFILE
       onion-grater-profile list --available|--used [--show]
Enables, disables or shows onion-grater's profiles; also as onion-grater-add,
onion-grater-remove and onion-grater-list. PROFILE is as bisq, 40_bisq or
40_bisq.yml.
`

// profileRun is one run of the tools for profiles. What they print is on standard
// output, as ever.
type profileRun struct {
	root    fsx.Root
	out     io.Writer
	stderr  io.Writer
	name    string // it was called by
	uid     int
	restart func(ctx context.Context) error
}

// Profile is the program onion-grater-profile, under all of its names.
func Profile(ctx context.Context, env cli.Env) error {
	p := &profileRun{root: fsx.Host, out: env.Stdout, stderr: env.Stderr, name: env.Name(), uid: os.Geteuid()}
	p.restart = func(ctx context.Context) error {
		systemctl, err := execx.Find(p.root, "systemctl")
		if err != nil {
			return err
		}
		return execx.Cmd{Path: systemctl, Args: restartArgs(), Stdout: env.Stdout, Stderr: env.Stderr}.Run(ctx)
	}
	return p.run(ctx, env)
}

func restartArgs() []string { return []string{"--no-block", "--no-pager", "restart", "onion-grater"} }

func (p *profileRun) run(ctx context.Context, env cli.Env) error {
	args := env.Args[1:]
	command := p.name
	if !slices.Contains([]string{addName, listName, removeName}, command) {
		if len(args) == 0 {
			return cli.WithHint(cli.Usagef("add, remove or list is missing"), "onion-grater-profile --help")
		}
		command = "onion-grater-" + args[0]
		if slices.Contains([]string{addName, listName, removeName}, command) {
			p.name += " " + args[0]
			args = args[1:]
		}
	}
	help := len(args) > 0 && (args[0] == "-h" || args[0] == "--help")
	switch command {
	case listName:
		return p.list(args)
	case addName, removeName:
		if help {
			fmt.Fprintf(p.out, "usage: %s profile-name\n", p.name)
			return nil
		}
		profile, err := p.argument(args)
		if err != nil {
			return err
		}
		if command == addName {
			return p.add(ctx, profile)
		}
		return p.remove(ctx, profile)
	}
	if env.Args[1] == "-h" || env.Args[1] == "--help" {
		fmt.Fprint(p.out, profileHelp)
		return nil
	}
	return cli.WithHint(cli.Usagef("unknown command %q", env.Args[1]), "onion-grater-profile --help")
}

// say prints one line, and failf one that ends the program with 1.
func (p *profileRun) say(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

func (p *profileRun) failf(format string, args ...any) error {
	p.say("ERROR: "+format, args...)
	return &cli.Exit{Code: cli.CodeFailed}
}

// argument is the profile's name without `.yml`. A name that leads out of the
// folders is refused (defect 37).
func (p *profileRun) argument(args []string) (string, error) {
	if p.uid != 0 {
		p.say("ERROR: This must be run as root (sudo)!")
		p.say("INFO: You can start %s by entering...", p.name)
		p.say("      sudo %s", p.name)
		return "", &cli.Exit{Code: cli.CodeFailed}
	}
	if len(args) == 0 || args[0] == "" {
		return "", p.failf("syntax: sudo %s profile-name", p.name)
	}
	name := strings.TrimSuffix(args[0], profileSuffix)
	if !profileName(name) {
		return "", p.failf("invalid profile name '%s'", strings.Map(visible, args[0]))
	}
	return name, nil
}

// visible keeps control characters from the terminal.
func visible(r rune) rune {
	if r < ' ' || r == 0x7f {
		return '?'
	}
	return r
}

func profileName(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return name != "" && strings.ContainsAny(name[:1], letters) && strings.Trim(name, letters+"._-") == "" && !strings.Contains(name, "..")
}

// add enables a profile by a link to the example.
func (p *profileRun) add(ctx context.Context, profile string) error {
	source := p.example(profile)
	if source == "" || !p.root.IsFile(source) {
		return p.failf("profile_file_source '%s' does not exist!", source)
	}
	if problems := Check(p.root, source); Broken(problems) {
		for _, problem := range problems {
			fmt.Fprintln(p.stderr, problem)
		}
		return p.failf("profile_file_source '%s' is not added, because onion-grater could not use it", source)
	}
	const dirMode = 0o755
	if err := p.root.MkdirAll(localProfiles, dirMode); err != nil {
		return p.failf("%v", err)
	}
	target := localProfiles + "/" + path.Base(source)
	if _, err := p.clear(target); err != nil {
		return p.failf("%v", err)
	}
	if err := os.Symlink(source, p.root.Path(target)); err != nil {
		return p.failf("cannot make the link %s: %v", target, cause(err))
	}
	if err := p.restart(ctx); err != nil {
		return p.failf("cannot restart onion-grater: %v; the profile is added", err)
	}
	p.say("OK: Added profile_file_source: '%s'.", source)
	p.say("OK.")
	return nil
}

// example is the file of that name, or the last of those with a number before
// it; empty if there is none.
func (p *profileRun) example(profile string) string {
	if exact := exampleProfiles + "/" + profile + profileSuffix; p.root.IsFile(exact) {
		return exact
	}
	files, err := p.root.ConfFiles(exampleProfiles, "_"+profile+profileSuffix)
	if err != nil || len(files) == 0 {
		return ""
	}
	return files[len(files)-1]
}

// clear takes an entry away: a link is removed, the user's own file renamed to
// .bak (defect 38). It tells whether there was one.
func (p *profileRun) clear(target string) (bool, error) {
	fi, err := os.Lstat(p.root.Path(target))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("%s: %w", target, cause(err))
	case fi.Mode()&fs.ModeSymlink != 0:
		return true, p.root.Remove(target)
	case !fi.Mode().IsRegular():
		return false, fmt.Errorf("%s is neither a file nor a link; move it away", target)
	}
	kept := p.free(target + ".bak")
	if err := os.Rename(p.root.Path(target), p.root.Path(kept)); err != nil {
		return false, fmt.Errorf("cannot rename %s: %w", target, cause(err))
	}
	p.say("INFO: %s was no link but a file; it is kept as %s.", target, kept)
	return true, nil
}

// free is a name that is not taken yet: the one given, or with a number.
func (p *profileRun) free(name string) string {
	for i := 1; ; i++ {
		try := name
		if i > 1 {
			try = fmt.Sprintf("%s.%d", name, i)
		}
		if _, err := os.Lstat(p.root.Path(try)); errors.Is(err, fs.ErrNotExist) || i == 1000 {
			return try
		}
	}
}

// cause is an error without the path that it was told with.
func cause(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// remove disables a profile: the entry of that name, or else all with a number
// before it.
func (p *profileRun) remove(ctx context.Context, profile string) error {
	targets := []string{localProfiles + "/" + profile + profileSuffix}
	if _, err := os.Lstat(p.root.Path(targets[0])); err != nil {
		if targets, err = p.root.ConfFiles(localProfiles, "_"+profile+profileSuffix); err != nil {
			return p.failf("%v", err)
		}
	}
	removed := false
	for _, target := range targets {
		there, err := p.clear(target)
		if err != nil {
			return p.failf("%v", err)
		}
		if there {
			removed = true
			p.say("OK: Removed profile_file_target: '%s'.", target)
		}
	}
	if !removed {
		p.say("OK: None removed. (Maybe already removed?)")
		p.say("OK.")
		return nil
	}
	if err := p.restart(ctx); err != nil {
		return p.failf("cannot restart onion-grater: %v; the profile is removed", err)
	}
	return nil
}

// list shows the profiles that are there, or those that are used.
func (p *profileRun) list(args []string) error {
	option := ""
	if len(args) > 0 {
		option = args[0]
	}
	var dirs []string
	switch {
	case option == "--used":
		dirs = []string{systemProfiles, localProfiles}
	case option == "--available":
		dirs = []string{exampleProfiles}
	default:
		p.say("usage: %s: --available|--used [--show]", p.name)
		return nil
	}
	show := len(args) > 1 && args[1] == "--show"
	for _, dir := range dirs {
		files, err := p.root.ConfFiles(dir, profileSuffix)
		if err != nil {
			return p.failf("%v", err)
		}
		for _, file := range files {
			p.entry(file, show)
		}
	}
	return nil
}

func (p *profileRun) entry(file string, show bool) {
	if !p.root.Exists(file) {
		fmt.Fprintf(p.stderr, "%s: %s leads nowhere: the profile it stood for is gone; %s removes it\n", p.name, file, removeName)
	}
	if !show {
		p.say("%s", file)
		return
	}
	const width = 68
	rule, thin := strings.Repeat("=", width), strings.Repeat("-", width)
	p.say("%s\nBEGIN PROFILE: %s\n%s", rule, file, thin)
	data, err := p.root.ReadFile(file, fileMax)
	if err != nil {
		fmt.Fprintf(p.stderr, "%s: %v\n", p.name, err)
	}
	fmt.Fprintf(p.out, "%s", data)
	p.say("%s\nEND PROFILE: %s\n%s", thin, file, rule)
}
