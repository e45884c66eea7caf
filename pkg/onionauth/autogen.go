// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const autogenHelp = `usage: %s
Makes an onion service that only a client with a key can reach. Settings come
from the environment: hsname, client, virtport, ip, hsport and others. See
anon-auth-autogen(8).
`

// Run is the program anon-auth-autogen, and by its other name
// anon-server-to-client-install.
func Run(ctx context.Context, env cli.Env) error {
	s := &system{root: fsx.Host, env: env, euid: os.Geteuid(), run: execute}
	if env.Name() == "anon-server-to-client-install" {
		return s.install(ctx)
	}
	return s.autogen(ctx)
}

// plain answers --help and refuses arguments.
func (s *system) plain(help string) (done bool, err error) {
	switch {
	case len(s.env.Args) < 2:
		return false, nil
	case s.env.Args[1] == "-h" || s.env.Args[1] == "--help":
		_, err := fmt.Fprintf(s.env.Stdout, help, s.env.Name())
		return true, err
	}
	return true, cli.Usagef("%q: this program takes no arguments, but settings from the environment", s.env.Args[1])
}

func (s *system) autogen(ctx context.Context) error {
	if done, err := s.plain(autogenHelp); done {
		return err
	}
	if !s.isRoot() {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	hs, err := newService(s.env, whonix.Detect(s.root).Qubes)
	if err != nil {
		return s.fail(err)
	}
	return s.fail(s.make(ctx, hs))
}

// conf is the service's part of Tor's configuration.
func (hs *service) text(generator string) string {
	return fmt.Sprintf("# Made by %s. It is replaced when that runs again with force=1.\nHiddenServiceDir %s\nHiddenServicePort %d %s\nHiddenServiceVersion 3\n",
		generator, hs.hsdir, hs.virtual, hs.to)
}

// make makes the service. A failed step takes back what those before have
// done (defect 28).
func (s *system) make(ctx context.Context, hs *service) (err error) {
	if err := hs.find(s.root); err != nil {
		return err
	}
	if err := s.torRuns(ctx, hs.unit); err != nil {
		return err
	}
	if err := s.confDir(hs.confDir); err != nil {
		return err
	}
	text := hs.text(s.env.Name())
	if err := s.replaceable(hs, text); err != nil {
		return err
	}
	isNew := !s.root.Exists(hs.conf)
	if isNew {
		if err := s.check(ctx, text); err != nil {
			return err
		}
	}
	undo, err := s.replaceConf(hs.conf, text)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			if back := errors.Join(undo(), s.reload(context.WithoutCancel(ctx), hs.unit)); back != nil {
				err = fmt.Errorf("%w; and taking %s back: %w", err, hs.conf, back)
			}
		}
	}()
	if !isNew { // beside what it replaces it could not be checked
		if err := s.check(ctx, ""); err != nil {
			return err
		}
	}
	s.say("INFO: Created torconffile '%s'.", hs.conf)
	s.say("INFO: Reloading Tor.")
	if err := s.reload(ctx, hs.unit); err != nil {
		return err
	}
	host, err := s.awaitHostname(ctx, hs)
	if err != nil {
		return err
	}
	return s.authorize(ctx, hs, host)
}

// replaceable refuses to replace what is there already, unless that is wanted:
// a client's key would be worth nothing any more (defect 29).
func (s *system) replaceable(hs *service, text string) error {
	if hs.force {
		return nil
	}
	const hint = "; to replace it say force=1"
	if old, err := s.root.ReadFile(hs.conf, confMax); err == nil && string(old) != text {
		return fmt.Errorf("%s is there, and differs%s", hs.conf, hint)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, p := range []string{hs.forClient, hs.forService, hs.authorized + "/" + hs.forServiceName} {
		if s.root.Exists(p) {
			return fmt.Errorf("client %s has a key already, %s%s", hs.client, p, hint)
		}
	}
	return nil
}

// torCommand is how Tor is started, see tor@default.service.
const (
	torDefaults = "/usr/share/tor/tor-service-defaults-torrc"
	torrcPath   = "/etc/tor/torrc"
	scratchDir  = "/run"
)

// check has Tor check its configuration with a new part that is not in its place
// yet.
func (s *system) check(ctx context.Context, text string) error {
	candidate := fmt.Sprintf("%s/%s.%d.torrc", scratchDir, s.env.Name(), os.Getpid())
	if err := s.root.WriteAtomic(candidate, []byte("%include "+torrcPath+"\n"+text), keyMode); err != nil {
		return err
	}
	defer func() { _ = s.root.Remove(candidate) }()
	said, err := s.run(ctx, []string{"tor", "--defaults-torrc", torDefaults, "-f", candidate, "--RunAsDaemon", "0", "--verify-config"})
	if err != nil {
		return fmt.Errorf("tor --verify-config: %w: %s", err, lastLine(said))
	}
	return nil
}

// lastLine is what Tor says at its end: why.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// awaitHostname waits until Tor has made the service's address.
func (s *system) awaitHostname(ctx context.Context, hs *service) (string, error) {
	const step = 100 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, hs.patience)
	defer cancel()
	for {
		text, err := s.hostname(hs)
		if err == nil {
			return text, nil
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("await the service's address: %w", err)
		case <-time.After(step):
		}
	}
}

func (s *system) hostname(hs *service) (string, error) {
	if !s.root.Exists(hs.hostname) {
		return "", fmt.Errorf("%s: %w", hs.hostname, fs.ErrNotExist)
	}
	f, err := openFolder(s.root, hs.hsdir, hs.account)
	if err != nil {
		return "", err
	}
	defer f.close()
	text, err := f.read(filepath.Base(hs.hostname))
	if err != nil {
		return "", err
	}
	name, err := onionName(string(text))
	if err != nil {
		return "", fmt.Errorf("%s: %w", hs.hostname, err)
	}
	return name, nil
}

// authorize makes the client's keys, and lets them in.
func (s *system) authorize(ctx context.Context, hs *service, onion string) (err error) {
	keys, err := newKeyPair()
	if err != nil {
		return err
	}
	above, err := openFolder(s.root, hs.keysAbove, hs.account)
	if err != nil {
		return err
	}
	defer above.close()
	mine, err := openFolder(s.root, hs.keys, hs.account)
	if err != nil {
		return err
	}
	defer mine.close()
	theirs, err := openFolder(s.root, hs.authorized, hs.account)
	if err != nil {
		return err
	}
	defer theirs.close()
	if err := errors.Join(above.private(), mine.private()); err != nil {
		return err
	}
	for _, f := range []struct {
		in         *folder
		path, text string
	}{
		{mine, hs.private, keys.privatePEM}, {mine, hs.public, keys.publicPEM},
		{mine, hs.private32, keys.private32 + "\n"}, {mine, hs.public32, keys.public32 + "\n"},
		{mine, hs.forClient, keys.clientLine(onion)}, {mine, hs.forService, keys.serviceLine()},
		{theirs, hs.authorized + "/" + hs.forServiceName, keys.serviceLine()},
	} {
		name := filepath.Base(f.path)
		isNew := !f.in.has(name)
		if err := f.in.write(name, f.text); err != nil {
			return err
		}
		defer func() {
			if err != nil && isNew {
				f.in.remove(name)
			}
		}()
	}
	s.say("INFO: Installed \".auth\" file (public key) '%s' to '%s/%s' to allow client '%s' to access hsname '%s' onion_url '%s.onion'.",
		hs.forService, hs.authorized, hs.forServiceName, hs.client, hs.name, onion)
	s.say("INFO: Reloading Tor again to activate \".auth\" (public key) file for client '%s'.", hs.client)
	if err := s.reload(ctx, hs.unit); err != nil {
		return err
	}
	s.say("INFO: You need to provide client '%s' with \".auth_private\" file (private key) '%s'.", hs.client, hs.forClient)
	s.say("INFO: Visitors that use Whonix could store '%s' in '%s' and then run 'sudo sourcefile=%s anon-server-to-client-install'.",
		hs.forClient, hs.clientsHome, hs.clientsHome)
	return nil
}
