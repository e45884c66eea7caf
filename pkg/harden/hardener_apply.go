// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// dpkgStatoverride keeps dpkg's own database; see dpkg-statoverride(1).
const dpkgStatoverride = "/usr/bin/dpkg-statoverride"

// hardener is one run.
type hardener struct {
	system
	names   *accounts
	notice  func(format string, args ...any)
	problem func(format string, args ...any)
	code    int
}

// facts reads what a plan depends on.
func (h *hardener) facts(found []string) (*facts, error) {
	main, err := readOverrides(h.root, dpkgDatabase)
	if err != nil {
		return nil, err
	}
	return &facts{
		found: found, main: main, at: h.at, owned: h.owned, trusted: h.trusted,
		now: map[string]*object{}, blocked: map[string]bool{},
	}, nil
}

// at examines a path.
func (h *hardener) at(name string) (*object, error) {
	p, err := h.root.Pin(name)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer p.Close()
	return h.describe(p), nil
}

func (h *hardener) describe(p *fsx.Pinned) *object {
	o := &object{
		ownership: ownership{h.names.user(int(p.Info.Uid)), h.names.group(int(p.Info.Gid)), p.Info.Mode & modeBits},
		regular:   p.IsRegular(), link: p.IsLink(), links: uint64(p.Info.Nlink),
	}
	if o.regular {
		value, err := p.Attribute(capabilityAttribute)
		if err == nil {
			o.caps, err = decodeCaps(value)
		}
		o.capsErr = err
	}
	return o
}

// owned returns an error if there is no such owner or group.
func (h *hardener) owned(o ownership) error {
	if _, ok := h.names.uid(o.owner); !ok {
		return fmt.Errorf("owner does not exist: '%s'", printable(o.owner))
	}
	if _, ok := h.names.gid(o.group); !ok {
		return fmt.Errorf("group does not exist: '%s'", printable(o.group))
	}
	return nil
}

// trusted returns an error if others than root can put a file at a path.
func (h *hardener) trusted(name string) error { return h.root.Trusted(path.Dir(name)) }

// apply does the steps. It returns the paths whose step has failed.
func (h *hardener) apply(ctx context.Context, p *plan) (failed []string) {
	for i := range p.steps {
		s := &p.steps[i]
		if ctx.Err() != nil {
			h.fail(codeFailed, "interrupted before '%s'", printable(s.path))
			failed = append(failed, s.path)
			continue
		}
		h.announce(s)
		if err := h.step(ctx, s); err != nil {
			h.fail(failureCode(err), "'%s': %v", printable(s.path), err)
			failed = append(failed, s.path)
		}
	}
	return failed
}

// coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

func failureCode(err error) int {
	if c := (coded{}); errors.As(err, &c) {
		return c.code
	}
	return codeFailed
}

// fail reports a failure; the first code is the exit code.
func (h *hardener) fail(code int, format string, args ...any) {
	h.problem(format, args...)
	if h.code == 0 {
		h.code = code
	}
}

// announce says what a step does, as the original did.
func (h *hardener) announce(s *step) {
	if s.rule == nil && s.now != nil && s.onDisk() {
		h.notice("Restoring: %s %s", s.want, printable(s.path))
	}
	switch {
	case s.override != nil || s.rule != nil && !s.stray && s.now.ownership != s.want:
		o := s.want
		if s.override != nil {
			o = *s.override
		}
		h.notice("Executing: dpkg-statoverride --add --update %s %s", o, printable(s.path))
	case s.release:
		h.notice("Executing: dpkg-statoverride --remove %s", printable(s.path))
	}
	if s.caps != nil && s.now != nil && *s.caps != s.now.caps {
		if text := s.caps.String(); text != noFileCapability {
			h.notice("Executing: setcap %s %s", text, printable(s.path))
		} else {
			h.notice("Executing: setcap -r %s", printable(s.path))
		}
	}
}

// step does one. The object comes first: a run that is killed has hardened it,
// and the next one adds the override.
func (h *hardener) step(ctx context.Context, s *step) error {
	if s.onDisk() {
		if err := h.change(s); err != nil {
			return err
		}
	}
	switch {
	case s.override != nil:
		// The object is as it should be, without a look at its name again.
		return h.dpkg(ctx, "--force-statoverride-add", "--add", s.override.owner, s.override.group, strconv.FormatUint(uint64(s.override.mode), 8), s.path)
	case s.release:
		return h.dpkg(ctx, "--remove", s.path)
	}
	return nil
}

func (h *hardener) dpkg(ctx context.Context, args ...string) error {
	if h.root != fsx.Host {
		args = append([]string{"--admindir", h.root.Path(dpkgDatabase)}, args...)
	}
	var text bytes.Buffer
	err := execx.Cmd{Path: dpkgStatoverride, Args: append([]string{"--quiet"}, args...), Stdout: &text, Stderr: &text}.Run(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, printable(strings.TrimSpace(text.String())))
	}
	return nil
}

// change holds the object and makes it what the step wants. If it is another
// one than the plan was about, only rights are taken, never given.
func (h *hardener) change(s *step) error {
	p, err := h.root.Pin(s.path)
	if err != nil {
		return err
	}
	defer p.Close()
	if p.IsLink() || p.IsRegular() && p.Info.Nlink > 1 {
		return errors.New("was replaced by a link meanwhile, left alone")
	}
	// A second name may have been taken away between the opening and the look
	// at the number of names: the path has to lead here still.
	again, err := h.root.Pin(s.path)
	if err != nil {
		return err
	}
	defer again.Close()
	if again.Info.Ino != p.Info.Ino || again.Info.Dev != p.Info.Dev || p.IsRegular() && again.Info.Nlink > 1 {
		return errors.New("was replaced meanwhile, left alone")
	}
	now := h.describe(p)
	if s.nosuid {
		if !now.regular {
			return errors.New("was replaced meanwhile, left alone")
		}
		return p.Chmod(now.mode & nosuidMode)
	}
	if now.ownership != s.now.ownership || now.regular != s.now.regular || now.caps != s.now.caps {
		return errors.New("was changed meanwhile, left alone; run this program again")
	}
	if err := h.setOwnership(p, now.ownership, s.want); err != nil {
		return err
	}
	if s.caps == nil {
		return nil
	}
	return setCapabilities(p, *s.caps)
}

// setOwnership sets owner and group, then the mode, because chown clears setuid.
// In between the object has no right that it has not before and after.
func (h *hardener) setOwnership(p *fsx.Pinned, now, want ownership) error {
	uid, okUser := h.names.uid(want.owner)
	gid, okGroup := h.names.gid(want.group)
	if !okUser || !okGroup {
		return h.owned(want)
	}
	if uid != int(p.Info.Uid) || gid != int(p.Info.Gid) {
		if err := p.Chmod(now.mode & want.mode &^ privilegeBits); err != nil {
			return err
		}
		if err := p.Chown(uid, gid); err != nil {
			return coded{err, codeUndo}
		}
	}
	if err := p.Chmod(want.mode); err != nil {
		return err
	}
	if err := p.Refresh(); err != nil {
		return err
	}
	if got := p.Info.Mode & modeBits; got != want.mode || int(p.Info.Uid) != uid || int(p.Info.Gid) != gid {
		return fmt.Errorf("is %d:%d %o after the change", p.Info.Uid, p.Info.Gid, got)
	}
	return nil
}

func setCapabilities(p *fsx.Pinned, want fileCaps) error {
	if err := p.SetAttribute(capabilityAttribute, want.encode()); err != nil {
		return err
	}
	value, err := p.Attribute(capabilityAttribute)
	if err != nil {
		return err
	}
	if got, err := decodeCaps(value); err != nil || got != want {
		return coded{fmt.Errorf("has %s after the change", got), codeCapability}
	}
	return nil
}
