// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

const timeCheckUsage = `usage: onion-time-check [ready | tor-enabled | has-netvm]
Is the network ready for the time to be fetched? The exit code says it: 0 go on,
1 wait, the user must do something, 2 wait.
  ready        the default, also as onion-time-pre-script
  tor-enabled  does Tor's configuration let it use the network?
  has-netvm    has the machine a network? also as has_netvm_on_qubes
  --version    print the version
`

// Our program in the place of the script, which a link leads to.
const (
	timeCheckPath = "/usr/libexec/helper-scripts/onion-time-check"
	timeCheckName = "onion-time-pre-script"
	sudoPath      = "/usr/bin/sudo"
)

// ownScript reports whether the script is a link to our program, and thus not
// what an administrator or another package has put in its place.
func ownScript(root fsx.Root) bool {
	target, err := os.Readlink(root.Path(preScript))
	if err != nil {
		return false
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(preScript), target)
	}
	return filepath.Clean(target) == timeCheckPath
}

// timeCheck is one run of onion-time-check.
type timeCheck struct {
	env     cli.Env
	root    fsx.Root
	euid    int
	clock   clock.Clock
	control controlPort
	db      qubesdb
	replace func(path string, argv, environ []string) error
}

// TimeCheck is the program onion-time-check, also as onion-time-pre-script and
// has_netvm_on_qubes.
func TimeCheck(ctx context.Context, env cli.Env) error {
	t := &timeCheck{env: env, root: fsx.Host, euid: os.Geteuid(), clock: clock.System(), control: hostControl(fsx.Host),
		db: hostQubesdb(fsx.Host), replace: execx.Replace}
	return t.run(ctx)
}

func (t *timeCheck) run(ctx context.Context) error {
	question := "ready"
	if t.env.Name() == "has_netvm_on_qubes" {
		question = "has-netvm"
	}
	switch args := t.env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := fmt.Fprint(t.env.Stdout, timeCheckUsage)
		return err
	case len(args) == 1:
		question = args[0]
	case len(args) > 1:
		return cli.Usagef("unexpected argument %q", short(args[1]))
	}
	switch question {
	case "ready":
		return t.ready(ctx)
	case "tor-enabled":
		return yes(torEnabled(t.root))
	case "has-netvm":
		return yes(hasNetVM(t.root, t.db))
	}
	return cli.WithHint(cli.Usagef("no question %q", short(question)), "onion-time-check --help")
}

func yes(is bool) error {
	if is {
		return nil
	}
	return &cli.Exit{Code: cli.CodeFailed}
}

// ready makes the daemon's own check, and has the watcher repair a clock that is
// wrong, for this process may not. Whoever may not ask Tor has it asked for him.
func (t *timeCheck) ready(ctx context.Context) error {
	path := statusDir
	uid, _, known := daemonAccount(t.root)
	switch {
	case t.euid == 0:
		path = anondateDir
		if err := t.root.MkdirAll(path, 0o755); err != nil {
			return err
		}
	case !known || t.euid != uid:
		return t.privileged()
	}
	f, err := openFolder(t.root, path)
	if err != nil {
		return err
	}
	defer f.close()
	conf, _ := loadConf(t.root) // --check-config tells what is wrong with it
	d := &daemon{env: t.env, root: t.root, clock: t.clock, status: statusFolder{root: t.root, path: path}, control: t.control, conf: conf}
	code, text := d.check(ctx, timeCheckName, func(c *check) int { return c.request(f) })
	if _, err := fmt.Fprintln(t.env.Stdout, sanitise(text)); err != nil {
		return err
	}
	return exitCode(code)
}

// privileged runs the check as the account sdwdate.
func (t *timeCheck) privileged() error {
	path, argv := leaprunPath, []string{leaprunPath, timeCheckName}
	if !t.root.Exists(path) {
		path, argv = sudoPath, []string{sudoPath, "--user=sdwdate", "--", preScript}
	}
	if !t.root.Exists(path) {
		return errors.New("must run as root, or as sdwdate; neither leaprun nor sudo is here")
	}
	err := t.replace(t.root.Path(path), argv, t.env.Environ)
	return &cli.Exit{Code: execx.Status(err), Err: fmt.Errorf("%s: %w", path, err)}
}

// requestRest is how long one request for a repair is enough.
const requestRest = time.Minute

// request asks the watcher to set the clock by what Tor knows, once a minute.
func (c *check) request(f *folder) int {
	const stamp = fileAnondateAsked + ".stamp"
	var st unix.Stat_t
	if err := unix.Fstatat(f.fd, stamp, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		// The clock may be what is wrong: an age that cannot be does not count.
		if age := c.now.Sub(time.Unix(st.Mtim.Unix())); age >= 0 && age < requestRest {
			c.say("anondate: was asked for %d seconds ago already.", int(age.Seconds()))
			return prepareWait
		}
	}
	if err := together(f.create(stamp), f.create(fileAnondateAsked)); err != nil {
		c.say("anondate: %s", strings.TrimSpace(err.Error()))
		return prepareWait
	}
	c.say("anondate: asked for.")
	return prepareWait
}
