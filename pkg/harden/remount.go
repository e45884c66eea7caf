// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
)

const remountUsage = `usage: remount-secure [--force] [--plan] [0 | 1 | 2 | 3]
       remount-secure undo
       remount-secure --help | --version

Adds nosuid, nodev and noexec to mounts: 1 little noexec, 2 almost everywhere,
3 in homes too, 0 nothing at all. --plan prints what it would do as lines for
/etc/fstab; undo takes the options back that it has added; --force also treats
what was treated since the boot.
`

// Exit codes of remount-secure.
const (
	codeRemount = 100
	codeBind    = 101
)

// remountStatus has a file for each mount point that was treated.
const remountStatus = "/run/remount-secure"

// initrdRelease is there in an initial RAM disk only; see initrd-release(5).
const initrdRelease = "/etc/initrd-release"

// RemountSecure is the program remount-secure.
func RemountSecure(ctx context.Context, env cli.Env) error {
	return remountSecure(ctx, env, host())
}

func remountSecure(ctx context.Context, env cli.Env, on system) error {
	var c remountCommand
	options := pflag.NewFlagSet("", pflag.ContinueOnError)
	options.BoolVar(&c.force, "force", false, "")
	options.BoolVar(&c.plan, "plan", false, "")
	args, done, err := usage(env, "remount-secure", remountUsage, options)
	if err != nil {
		unknown := slices.IndexFunc(env.Args[1:], func(a string) bool { return strings.HasPrefix(a, "-") && a != "--force" && a != "--plan" })
		fmt.Fprintf(env.Stderr, "ERROR: unknown option: %s\n", printable(env.Args[1+max(unknown, 0)]))
		return &cli.Exit{Code: cli.CodeFailed}
	}
	if done {
		return nil
	}
	if !on.privileged {
		fmt.Fprintf(env.Stdout, "ERROR: must be run as root! sudo %s\n", env.Args[0])
		return &cli.Exit{Code: cli.CodeFailed}
	}
	if skip, err := hooks(ctx, env, on, "remount-secure"); skip || err != nil {
		return err
	}
	r := &remounter{on: on, say: func(f string, a ...any) { fmt.Fprintf(env.Stdout, f+"\n", a...) }}
	if len(args) == 1 && args[0] == "undo" && !c.force && !c.plan {
		return r.undo()
	}
	points, err := c.points(env, on, args, r.say)
	if err != nil {
		return &cli.Exit{Code: cli.CodeFailed, Err: err}
	}
	if c.plan {
		return r.plan(points)
	}
	if points == nil {
		return nil
	}
	r.say("%s: INFO: START", env.Args[0])
	code := r.apply(points, c.force)
	r.say("INFO: exit_code: %d", code)
	r.say("%s: INFO: END", env.Args[0])
	if code != 0 {
		return &cli.Exit{Code: code}
	}
	return nil
}

// remountCommand is a command line.
type remountCommand struct{ force, plan bool }

// points decides what is wanted: by the files that switch everything off, then
// by the argument, the kernel's command line, and what the unit says.
func (c remountCommand) points(env cli.Env, on system, args []string, say func(string, ...any)) ([]mountPoint, error) {
	for _, file := range []string{"/etc/remount-disable", "/usr/local/etc/remount-disable"} {
		if on.root.Exists(file) {
			say("INFO: file %s exists. Doing nothing.", file)
			return nil, nil
		}
	}
	if len(args) > 1 {
		return nil, fmt.Errorf("%d arguments: give one level, 0, 1, 2 or 3", len(args))
	}
	level, text, where := -1, "", ""
	cmdline, _ := on.root.ReadFile("/proc/cmdline", textMax)
	parameter, given := lastParameter(string(cmdline), "remountsecure")
	preset, set := env.Lookup("REMOUNT_SECURE_DEFAULT")
	switch {
	case len(args) == 1:
		text, where = args[0], "argument"
	case given:
		text, where = parameter, "kernel parameter remountsecure"
	case set:
		text, where = preset, "REMOUNT_SECURE_DEFAULT"
	}
	if where != "" {
		var err error
		if level, err = parseLevel(text, where); err != nil {
			return nil, err
		}
	}
	switch level {
	case -1:
		any := func(name string) bool { return on.root.Exists("/etc/"+name) || on.root.Exists("/usr/local/etc/"+name) }
		return points2020(any("noexec") && !any("exec")), nil
	case levelNone:
		say("WARNING: Not using remount-secure.")
		return nil, nil
	}
	say("INFO: level %d/3 (%s)", level, [...]string{"", "low", "medium", "high"}[level])
	newRoot := ""
	if value, ok := env.Lookup("NEWROOT"); ok && value != "" && on.root.Exists(initrdRelease) {
		// Outside of an initial RAM disk nobody is to choose other directories.
		if !path.IsAbs(value) || path.Clean(value) != value {
			return nil, fmt.Errorf("NEWROOT: %q is no absolute path", printable(value))
		}
		newRoot = value
		say("INFO: dracut detected: yes - NEWROOT: '%s'", newRoot)
	}
	return pointsOf(level, newRoot), nil
}

// statusName is the name of a mount point's status file, as ever.
func statusName(point string) string {
	return remountStatus + "/" + strings.ReplaceAll(point, "/", "_")
}

// apply treats all points. The first error is the exit code; the others are
// still treated.
func (r *remounter) apply(points []mountPoint, force bool) (code int) {
	if err := r.on.root.MkdirAll(remountStatus, dirMode); err != nil {
		r.say("ERROR: %v", err)
		return cli.CodeFailed
	}
	before := r.before(points)
	for _, p := range points {
		if c := r.treat(p, before[p.path], force); code == 0 {
			code = c
		}
	}
	return code
}

// before is what points have at first: a bind inherits what its parent has been
// given, which is ours as well.
func (r *remounter) before(points []mountPoint) map[string]mountFlags {
	flags := map[string]mountFlags{}
	for _, p := range points {
		if target, err := r.open(p.path); err == nil {
			flags[p.path] = target.flags
			target.Close()
		}
	}
	return flags
}

// treat adds a point's options, looks whether they are in force, and only then
// remembers that.
func (r *remounter) treat(p mountPoint, before mountFlags, force bool) (code int) {
	target, err := r.open(p.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory) {
		r.say("INFO: '%s' folder exists: no", p.path)
		return 0
	}
	if err != nil {
		r.say("ERROR: '%s': %v", p.path, err)
		return codeRemount
	}
	defer target.Close()
	missing := p.flags &^ target.flags
	if missing == 0 {
		r.say("INFO: '%s' has already intended mount options. ('%s')", p.path, p.flags)
		return 0
	}
	status := statusName(p.path)
	if !force && r.on.root.Exists(status) {
		r.say("INFO: '%s' already remounted earlier. Not remounting again. Use --force if this is what you want.", p.path)
		return 0
	}
	how := "remount"
	if target.mounted {
		code = codeRemount
		r.say("INFO: Executing: mount --options remount,%s %s", p.flags, p.path)
		err = r.remount(target, missing)
	} else {
		how, code = "bind", codeBind
		r.say("INFO: Executing: mount --options %s --rbind %s %s", p.flags, p.path, p.path)
		err = r.bind(target, missing)
	}
	if err == nil {
		err = r.verify(p)
	}
	if err == nil {
		err = r.on.root.WriteAtomic(status, []byte(how+" "+(p.flags&^before).String()+"\n"), fileMode)
	}
	if err != nil {
		r.say("ERROR: '%s': %v", p.path, err)
		return code
	}
	return 0
}

// verify asks the kernel what counts at the path now: the table of mounts does
// not tell what is covered (D-21).
func (r *remounter) verify(p mountPoint) error {
	now, err := r.open(p.path)
	if err != nil {
		return err
	}
	defer now.Close()
	if missing := p.flags &^ now.flags; missing != 0 {
		return fmt.Errorf("still without %s", missing)
	}
	return nil
}

// plan prints what would be done, as lines of fstab(5).
func (r *remounter) plan(points []mountPoint) error {
	table, err := r.on.root.ReadFile(mountTable, textMax)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	mounts := parseMountInfo(string(table))
	for _, p := range points {
		target, err := r.open(p.path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDirectory) {
			continue
		}
		if err != nil {
			return err
		}
		var mount *mountInfo
		if m, ok := mounts[target.name]; ok && target.mounted {
			mount = &m
		}
		if p.flags&^target.flags == 0 {
			r.say("# %s has %s", p.path, p.flags)
		} else {
			r.say("%s", p.fstab(target.name, mount))
		}
		target.Close()
	}
	return nil
}

// undo takes the options away that were added since the boot, children first.
// Binds stay: whoever has a file open there keeps it. The status files stay too,
// so that no upgrade of the package adds the options again.
func (r *remounter) undo() error {
	files, err := r.on.root.ConfFiles(remountStatus, "")
	if err != nil {
		return err
	}
	slices.Reverse(files)
	failed := false
	for _, file := range files {
		if err := r.undoOne(file); err != nil {
			failed = true
			r.say("ERROR: %v", err)
		}
	}
	if failed {
		return &cli.Exit{Code: codeRemount}
	}
	return nil
}

func (r *remounter) undoOne(file string) error {
	const undone = "undone\n"
	data, err := r.on.root.ReadFile(file, textMax)
	if err != nil || string(data) == undone {
		return err
	}
	point := strings.ReplaceAll(path.Base(file), "_", "/") // no point has an underscore
	_, text, _ := strings.Cut(strings.TrimSpace(string(data)), " ")
	flags, ok := parseFlags(text)
	if !ok {
		return fmt.Errorf("%s: does not say what was added to '%s'; mount it anew, or restart the machine", file, point)
	}
	target, err := r.open(point)
	if err != nil {
		return err
	}
	defer target.Close()
	if target.mounted {
		r.say("INFO: '%s': without %s again", point, flags)
		if err := r.clear(target, flags); err != nil {
			return fmt.Errorf("'%s': %w", point, err)
		}
	}
	return r.on.root.WriteAtomic(file, []byte(undone), fileMode)
}
