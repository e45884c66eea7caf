// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"fmt"
	"io"
	"log/syslog"
	"os"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const suspendHelp = `usage: sdwdate-suspend pre | post
Before a Qubes virtual machine is suspended: stops sdwdate and Tor and shuts the
network. Afterwards: starts them again, for a jump of the clock. Called as
suspend-pre or suspend-post it needs no argument.
 -h, --help      show this text
     --version   show the version
`

// Exit codes of the original.
const (
	codeNotRoot  = 2
	codeNotQubes = 3
)

// suspend is one run of suspend-pre or suspend-post. Every step is made
// whatever became of the others (D29).
type suspend struct {
	env     cli.Env
	root    fsx.Root
	euid    int
	journal func(line string)
	status  *folder
	failed  bool
}

// Suspend is the program sdwdate-suspend.
func Suspend(ctx context.Context, env cli.Env) error {
	s := &suspend{env: env, root: fsx.Host, euid: os.Geteuid()}
	when := map[string]string{"suspend-pre": "pre", "suspend-post": "post"}[env.Name()]
	switch args := env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(env.Stdout, suspendHelp)
		return err
	case when == "" && len(args) == 1 && (args[0] == "pre" || args[0] == "post"):
		when = args[0]
	case when == "" || len(args) > 0:
		return cli.WithHint(cli.Usagef("want pre or post"), "%s --help", env.Name())
	}
	s.journal = func(string) {}
	if w, err := syslog.New(syslog.LOG_INFO|syslog.LOG_DAEMON, "suspend-"+when); err == nil {
		defer w.Close()
		s.journal = func(line string) { _ = w.Info(line) } // standard output has it too
	}
	return s.run(ctx, when)
}

func (s *suspend) run(ctx context.Context, when string) error {
	s.infof("START")
	if s.root.IsFile(whonix.TemplateMarker) {
		s.infof("Skipping, because run in TemplateVM.")
		return nil
	}
	if s.euid != 0 {
		s.errorf("Must run as root!")
		return &cli.Exit{Code: codeNotRoot}
	}
	if _, err := execx.Find(s.root, "qubesdb-read"); err != nil {
		s.infof("Clock fix after resume not implemented in Non-Qubes-Whonix. See: https://www.whonix.org/wiki/Troubleshooting#Clock_Fix")
		return &cli.Exit{Code: codeNotQubes}
	}
	var err error
	if s.status, err = openStatus(s.root); err != nil {
		s.errorf("%v", err) // then nothing can be noted, but everything be stopped
		s.failed = true
	} else {
		defer s.status.close()
	}
	if when == "pre" {
		s.stopSdwdate(ctx)
		s.stopTor(ctx)
	} else {
		s.resume(ctx)
	}
	s.infof("END")
	if s.failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

func (s *suspend) infof(format string, args ...any)  { s.line("INFO", format, args...) }
func (s *suspend) errorf(format string, args ...any) { s.line("ERROR", format, args...) }

func (s *suspend) line(level, format string, args ...any) {
	line := fmt.Sprintf("%s - %s - %s - %s", s.env.Now().UTC().Format(time.DateTime), s.env.Args[0], level, fmt.Sprintf(format, args...))
	fmt.Fprintln(s.env.Stdout, line)
	s.journal(line)
}

// step says what is done, does it, and says what became of it.
func (s *suspend) step(what string, do func() error) {
	s.infof("%s...", what)
	if err := do(); err != nil {
		s.errorf("%s: %v", what, err)
		s.failed = true
		return
	}
	s.infof("Done: %s.", what)
}

// stopSdwdate stops the daemon first: while Tor stops it would only complain.
func (s *suspend) stopSdwdate(ctx context.Context) {
	if !s.active(ctx, "sdwdate") {
		s.infof("sdwdate was not running, no need to stop it.")
		return
	}
	s.infof("Yes, sdwdate is running.")
	s.note(fileSdwdateRan)
	s.step("Stopping sdwdate", func() error { return s.systemctl(ctx, "stop", "sdwdate") })
	s.forget(fileFirstSuccess)
	s.forget(fileSuccess)
	if firewall, err := execx.Find(s.root, "whonix_firewall"); err == nil {
		s.step("Entering Whonix firewall timesync-fail-closed mode", func() error {
			return s.command(ctx, firewall, "firewall_mode=timesync-fail-closed")
		})
	}
}

func (s *suspend) stopTor(ctx context.Context) {
	if !s.active(ctx, "tor") {
		s.infof("Tor was not running, no need to stop it.")
		return
	}
	s.infof("Yes, tor is running.")
	s.note(fileTorRan)
	s.step("Stopping Tor", func() error { return s.systemctl(ctx, "stop", "tor") })
	_ = s.quiet(ctx, "stop", "vanguards") // many machines have none
}

// resume starts what was stopped. To an observer of the line this looks like a
// reboot: Tor without its old consensus, then the clock by a jump.
func (s *suspend) resume(ctx context.Context) {
	sdwdate := s.ran(fileSdwdateRan)
	if sdwdate {
		s.forget(fileSdwdateRan)
	} else {
		s.infof("sdwdate was not stopped before, therefore not starting it now.")
	}
	if s.ran(fileTorRan) {
		s.restartTor(ctx)
		s.forget(fileTorRan)
	} else {
		s.infof("Tor was not stopped before, therefore not starting it now.")
	}
	if sdwdate {
		s.step("Running sdwdate-clock-jump", func() error { return clockJump(ctx, s.env, s.root, s.euid) })
	}
}

// restartTor restarts it without the consensus of before, which it would go on
// believing; and with it, if that does not work.
func (s *suspend) restartTor(ctx context.Context) {
	restarted := false
	s.step("Deleting Tor consensus files, restarting Tor", func() error {
		path, err := execx.Find(s.root, "anon-consensus-del")
		if err == nil {
			err = s.command(ctx, path)
		} else {
			err = s.deleteConsensus(ctx)
		}
		restarted = err == nil
		return err
	})
	if !restarted {
		s.step("Restarting Tor with its consensus", func() error { return s.systemctl(ctx, "restart", "tor") })
	}
}

// deleteConsensus is what anon-consensus-del does, where that is missing.
func (s *suspend) deleteConsensus(ctx context.Context) error {
	err := s.systemctl(ctx, "stop", "tor")
	_ = s.quiet(ctx, "stop", "vanguards")
	err = together(err, deleteConsensusFiles(s.root))
	if s.quiet(ctx, "is-enabled", "vanguards") == nil {
		err = together(err, s.systemctl(ctx, "restart", "vanguards"))
	}
	return together(err, s.systemctl(ctx, "restart", "tor"))
}

func (s *suspend) note(name string) {
	if s.status != nil {
		s.step("Creating "+statusDir+"/"+name, func() error { return s.status.create(name) })
	}
}

func (s *suspend) forget(name string) {
	if s.status != nil {
		s.step("Deleting "+statusDir+"/"+name, func() error { return s.status.remove(name) })
	}
}

func (s *suspend) ran(name string) bool { return s.status != nil && s.status.has(name) }

func (s *suspend) active(ctx context.Context, unit string) bool {
	s.infof("Checking if %s systemd unit is running...", unit)
	return s.quiet(ctx, "status", unit) == nil
}

func (s *suspend) systemctl(ctx context.Context, args ...string) error {
	return systemctl(ctx, s.env, s.root, args...)
}

func (s *suspend) quiet(ctx context.Context, args ...string) error {
	env := s.env
	env.Stdout, env.Stderr = io.Discard, io.Discard
	return systemctl(ctx, env, s.root, args...)
}

// command runs a program with further variables in a clean environment.
func (s *suspend) command(ctx context.Context, path string, variables ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemctlLimit)
	defer cancel()
	return execx.Cmd{Path: path, Env: append(execx.CleanEnv(nil), variables...), Stdout: s.env.Stdout, Stderr: s.env.Stderr}.Run(ctx)
}
