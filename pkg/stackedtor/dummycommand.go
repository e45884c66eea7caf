// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"crypto/rand"
	"crypto/sha1"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/torrc"
)

// realTor is Debian's Tor where it is installed besides: for commands only.
const realTor = "/usr/bin/tor.anondist-orig"

const torHelp = `usage: tor [-f FILE] [OPTION VALUE]...
This is no Tor, but stands in its place: what it opens leads to the Tor of the
Gateway. See dummy-tor(8), and Tor's manual for options.
`

// command does what one of Tor's commands asks for: the real one, if it is
// there, never in a way that could have it run (defects 2, 3 and 17).
func (d *dummy) command() error {
	path := d.root.Path(realTor)
	if unix.Access(path, unix.X_OK) == nil {
		return fmt.Errorf("%s: %w", realTor, execx.Replace(path, append([]string{d.env.Args[0]}, d.delegated()...), d.env.Environ))
	}
	c := d.args.Command
	switch c.Text {
	case torrc.Version:
		fmt.Fprintf(d.env.Stdout, "Tor version %s.\n", torrc.TorVersion)
	case torrc.Help, torrc.HelpShort:
		fmt.Fprint(d.env.Stdout, torHelp)
	case torrc.ListModules:
		fmt.Fprint(d.env.Stdout, "relay: no\ndirauth: no\ndircache: no\npow: no\n")
	case torrc.ListOptions:
		fmt.Fprint(d.env.Stdout, torrc.OptionList())
	case torrc.ListDeprecated:
		fmt.Fprint(d.env.Stdout, torrc.DeprecatedList())
	case torrc.HashPassword:
		hash, err := hashPassword(c.Operand, rand.Reader)
		if err != nil {
			return err
		}
		fmt.Fprintln(d.env.Stdout, hash)
	case torrc.VerifyConfig:
		return d.verify()
	default:
		return fmt.Errorf("%s needs the real Tor, which is not installed here", c.Text)
	}
	return nil
}

// delegated is the command line for the real Tor. The one command is its first
// word, where Tor cannot take it for anything else.
func (d *dummy) delegated() []string {
	switch d.args.Command.Text {
	case torrc.Version, torrc.Help, torrc.HelpShort, torrc.ListModules, torrc.LibraryVersions, torrc.HashPassword:
		return d.args.CommandAlone()
	}
	return d.args.CommandFirst()
}

// hashPassword is what HashedControlPassword takes: the salted and iterated
// S2K of RFC 4880, 3.7.1.3, with SHA-1.
func hashPassword(password string, random io.Reader) (string, error) {
	const (
		saltLen = 8
		count   = 0x60 // the code for 65536 bytes
		bytes   = 65536
	)
	salt := make([]byte, saltLen)
	if _, err := io.ReadFull(random, salt); err != nil {
		return "", err
	}
	return fmt.Sprintf("16:%X%02X%X", salt, count, s2k(salt, password, bytes)), nil
}

// s2k hashes the endless repetition of salt and password up to a length.
func s2k(salt []byte, password string, length int) []byte {
	h := sha1.New()
	block := append(append([]byte{}, salt...), password...)
	for length > 0 {
		n := min(length, len(block))
		h.Write(block[:n])
		length -= n
	}
	return h.Sum(nil)
}

// verify checks the configuration that would be used.
func (d *dummy) verify() error {
	if d.args.Torrc == "" {
		const debian = "/etc/tor/torrc" // which Tor reads if it is told of no other
		if d.root.IsFile(debian) {
			d.args.Torrc = d.root.Path(debian)
		}
	}
	sources, err := d.sources()
	if err != nil {
		return d.failed(err)
	}
	for _, lines := range sources {
		if l, ok := torrc.Unknown(lines); ok {
			return d.failed(fmt.Errorf("%v: there is no such option", l.Origin),
				complain("Failed to parse/validate config: Unknown option '%s'.  Failing.", l.Key))
		}
	}
	d.config = torrc.Merge(sources...)
	if _, problems := d.plan(); len(problems) > 0 {
		return d.failed(problems...)
	}
	if d.args.Quiet == torrc.Verbose {
		fmt.Fprintln(d.env.Stdout, "Configuration was valid")
	}
	return nil
}
