// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const infoHelp = `usage: %s
Tells who logs in what may keep him out. See pam-info(8).
  --version  print the version
`

const (
	accessFile    = "accessfile=/etc/security/access-security-misc.conf"
	commonAccount = "/etc/pam.d/common-account"
	cmdlinePath   = "/proc/cmdline"
)

// Info is the program pam-info.
func Info(ctx context.Context, env cli.Env) error {
	return (&login{root: fsx.Host, euid: os.Geteuid(), env: env}).info(ctx)
}

// login is what pam-info knows of the login that it was started for.
type login struct {
	root    fsx.Root
	euid    int
	env     cli.Env
	account account
	service string
}

// info only advises: whatever it finds, or fails to find, the login goes on.
func (l *login) info(ctx context.Context) error {
	if askedBare(l.env, infoHelp) {
		return nil
	}
	user, _ := l.env.Lookup("PAM_USER")
	l.service, _ = l.env.Lookup("PAM_SERVICE")
	l.trace("PAM_USER=%q PAM_SERVICE=%q", user, l.service)
	known := false
	if l.account, known = lookup(ctx, l.root, user); !known {
		l.trace("no such account")
		return nil
	}
	if l.lockdown() && !member(ctx, l.root, l.account, "console") && !member(ctx, l.root, l.account, "console-unrestricted") {
		l.notOfConsole()
		return nil
	}
	l.maintenance(ctx)
	return l.counters()
}

func (l *login) say(level, format string, args ...any) {
	fmt.Fprintf(l.env.Stderr, "%s: %s: %s\n", l.env.Args[0], level, fmt.Sprintf(format, args...))
}

// lockdown reports whether console-lockdown is on. A line that is commented
// out, even in part, switches it off, as it did in the original.
func (l *login) lockdown() bool {
	data, _ := l.root.ReadFile(commonAccount, fileMax)
	found := false
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, accessFile) {
			if strings.Contains(line, "#") {
				return false
			}
			found = true
		}
	}
	return found
}

func (l *login) notOfConsole() {
	name := l.account.name
	l.say("ERROR", "PAM_USER: '%s' is not a member of group 'console'", printable(name))
	l.say("ERROR", "To unlock, run the following command as another account that may: sudo adduser %s console", quote(name))
	l.say("ERROR", "If there is none, start the machine in recovery mode. See:")
	fmt.Fprintln(l.env.Stderr, "https://www.kicksecure.com/wiki/root#console")
}

// maintenance tells accounts of a split system where they belong.
func (l *login) maintenance(ctx context.Context) {
	if l.account.name == "sysmaint" {
		if state, ok := passwordOf(ctx, l.root, "sysmaint"); ok && state == passwordLocked && l.euid == 0 {
			l.say("ERROR", "Reboot and choose 'PERSISTENT Mode - SYSMAINT Session' for system maintenance. See https://www.kicksecure.com/wiki/Sysmaint")
		}
		return
	}
	if sysmaintSession(l.root) {
		l.say("WARNING", "Use account 'sysmaint' for system maintenance. See https://www.kicksecure.com/wiki/Sysmaint")
	}
}

// sysmaintSession reports whether the machine was started for maintenance.
func sysmaintSession(root fsx.Root) bool {
	data, _ := root.ReadFile(cmdlinePath, fileMax)
	return strings.Contains(string(data), "boot-role=sysmaint")
}

// counters says how many failures there were. Whoever asks over the network has
// not proven who he is, and is told nothing (defect D-18).
func (l *login) counters() error {
	if remote, _ := l.env.Lookup("PAM_RHOST"); remote != "" || uncounted(l.root, l.service) {
		return nil
	}
	f, err := readFaillock(l.root)
	if err != nil {
		l.say("ERROR", "%v", err)
		return nil
	}
	name := l.account.name
	n, err := f.failures(l.root, name, l.env.Now())
	if err != nil || n <= 0 {
		l.trace("%d failures, %v", n, err)
		return nil
	}
	if l.account.uid == 0 && !f.denyRoot {
		l.say("WARNING", "%d failed login attempts for account '%s'.", n, printable(name))
		return nil
	}
	left := f.deny - n
	if left <= 0 {
		l.say("ERROR", "Login blocked after %d attempts.", n)
		l.say("ERROR", "To unlock, run the following command as another account that may: sudo faillock --dir %s --reset --user %s", quote(f.dir), quote(name))
		l.say("ERROR", "If there is none, start the machine in recovery mode. See:")
		fmt.Fprintln(l.env.Stderr, "https://www.kicksecure.com/wiki/root#unlock")
		return nil
	}
	l.say("WARNING", "%d failed login attempts for account '%s'.", n, printable(name))
	l.say("WARNING", "Login will be blocked after %d attempts.", f.deny)
	l.say("WARNING", "You have %d more attempts before unlock procedure is required.", left)
	if l.service == "su" || l.service == "su-l" {
		l.say("NOTE", "No asterisks are shown while a password is typed.")
	}
	return nil
}

// quote is a word as a shell reads it.
func quote(word string) string {
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./") == "" && word != "" {
		return word
	}
	return "'" + strings.ReplaceAll(printable(word), "'", `'\''`) + "'"
}

// trace writes down what was found, where an administrator wants to know. The
// file is root's, in root's home: no link is followed there.
func (l *login) trace(format string, args ...any) {
	if !l.root.Exists("/etc/pam-info-debug") && !l.root.Exists("/usr/local/etc/pam-info-debug") || l.euid != 0 {
		return
	}
	f, err := os.OpenFile(l.root.Path("/root/pam-info-debug.txt"), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	fmt.Fprintf(f, "%s %s\n", l.env.Now().UTC().Format(time.RFC3339), fmt.Sprintf(format, args...))
}
