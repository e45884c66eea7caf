// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// Directories of units, see systemd.unit(5): what comes first here wins.
const (
	systemUnits  = "/etc/systemd/system"
	bootUnits    = "/run/systemd/generator"
	shippedUnits = "/usr/lib/systemd/system"
)

// wants is where units are enabled, in each of these directories.
const wants = "/sockets.target.wants"

// ownMask is the target of the links by which the generator masks shipped
// units. It differs from systemctl's, so that what an administrator has masked
// stays masked.
const ownMask = "../../../dev/null"

// written is what has become of the units.
type written struct {
	changed []string // another text than before
	gone    []string // not wanted any more
	moved   bool     // something else that systemd has to read again
}

// write replaces units whose text is another, and removes those that are not
// wanted any more. Shipped ones are masked.
func (g *generator) write(units []Unit) (done written, err error) {
	const dirMode, fileMode = 0o755, 0o644
	if err := g.root.MkdirAll(g.units, dirMode); err != nil {
		return done, err
	}
	names := map[string]bool{}
	for _, u := range units {
		names[u.Name] = true
	}
	wanted := func(name string) bool { return names[name] }
	for _, u := range units {
		if g.masked(stem(u.Name)) {
			continue
		}
		path := g.units + "/" + u.Name
		old, err := os.ReadFile(g.root.Path(path))
		if err == nil && bytes.Equal(old, []byte(u.Text)) {
			continue
		}
		if err := g.root.WriteAtomic(path, []byte(u.Text), fileMode); err != nil {
			return done, err
		}
		done.changed = append(done.changed, u.Name)
	}
	if done.gone, err = g.stale(wanted); err != nil || g.when == forPackage {
		return done, err
	}
	if g.when == atBoot {
		if err := g.enable(units); err != nil {
			return done, err
		}
		// Units of the system's own would hide those of the boot.
		if g.control != nil {
			if done.moved, err = g.clear(systemUnits, func(string) bool { return false }); err != nil {
				return done, err
			}
		}
	}
	for _, dir := range []string{g.units + wants, systemUnits + wants} {
		if g.control == nil && dir == systemUnits+wants {
			continue
		}
		if _, err := g.clear(dir, wanted); err != nil {
			return done, err
		}
	}
	return done, nil
}

// stale removes units of redirections that are gone, and masks those that are
// shipped.
func (g *generator) stale(wanted func(string) bool) (gone []string, err error) {
	for _, name := range g.generated(g.units) {
		if wanted(name) || g.link(g.units+"/"+name) != "" && g.when != forPackage {
			continue
		}
		if err := g.root.Remove(g.units + "/" + name); err != nil {
			return nil, err
		}
		gone = append(gone, name)
	}
	if g.when == forPackage {
		return gone, nil
	}
	for _, name := range g.generated(g.units) {
		if !wanted(name) && g.link(g.units+"/"+name) == ownMask && !g.root.IsFile(shippedUnits+"/"+name) {
			if err := g.root.Remove(g.units + "/" + name); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range g.generated(shippedUnits) {
		if wanted(name) || g.link(g.units+"/"+name) != "" {
			continue
		}
		if err := os.Symlink(ownMask, g.root.Path(g.units+"/"+name)); err != nil {
			return nil, err
		}
		if !slices.Contains(gone, name) {
			gone = append(gone, name)
		}
	}
	return gone, nil
}

// enable links sockets as systemctl would, which cannot do so at boot.
func (g *generator) enable(units []Unit) error {
	const dirMode = 0o755
	if err := g.root.MkdirAll(g.units+wants, dirMode); err != nil {
		return err
	}
	for _, u := range units {
		if !strings.HasSuffix(u.Name, ".socket") {
			continue
		}
		err := os.Symlink("../"+u.Name, g.root.Path(g.units+wants+"/"+u.Name))
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// clear removes what the generator has put into a directory, but for what is to
// be kept and for an administrator's masks.
func (g *generator) clear(dir string, keep func(string) bool) (some bool, err error) {
	for _, name := range g.generated(dir) {
		if keep(name) || g.link(dir+"/"+name) == os.DevNull {
			continue
		}
		if err := g.root.Remove(dir + "/" + name); err != nil {
			return some, err
		}
		some = true
	}
	return some, nil
}

// generated lists units by name.
func (g *generator) generated(dir string) []string {
	entries, err := os.ReadDir(g.root.Path(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		g.complain("%v", err)
	}
	var out []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), unitPrefix) && !e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

// link is where a link leads; empty for everything else.
func (g *generator) link(path string) string {
	to, err := os.Readlink(g.root.Path(path))
	if err != nil {
		return ""
	}
	return to
}

// masked reports a redirection whose socket or service an administrator has
// masked by systemctl.
func (g *generator) masked(stem string) bool {
	off := func(kind string) bool { return g.link(systemUnits+"/"+stem+kind) == os.DevNull }
	return g.when != forPackage && (off(".socket") || off(".service"))
}

// stem is the name of a unit without its kind.
func stem(name string) string { return name[:strings.LastIndexByte(name, '.')] }

// activate has systemd take over what has changed. A unit that fails is
// reported, and keeps no other from working.
func (g *generator) activate(ctx context.Context, units []Unit, done written) {
	try := func(args ...string) {
		if err := g.control(ctx, args...); err != nil {
			g.complain("systemctl %s: %v", strings.Join(args, " "), err)
		}
	}
	for _, name := range done.gone {
		try("stop", name)
	}
	if len(done.changed)+len(done.gone) > 0 || done.moved {
		try("daemon-reload")
	}
	for _, u := range units {
		if strings.HasSuffix(u.Name, ".socket") && g.when == forSystem && !g.masked(stem(u.Name)) {
			try("enable", u.Name)
		}
	}
	for _, u := range units {
		if !strings.HasSuffix(u.Name, ".socket") || g.masked(stem(u.Name)) {
			continue
		}
		name := stem(u.Name) + ".service"
		socket, service := slices.Contains(done.changed, u.Name), slices.Contains(done.changed, name)
		if socket || service {
			// A socket is not started again while its service has it.
			try("stop", name)
		}
		switch {
		case socket:
			try("restart", u.Name)
		case service: // who is waiting for it is kept waiting, not sent away
			try("start", u.Name)
		}
	}
}
