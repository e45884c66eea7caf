// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"whonix-networking/pkg/fsx"
)

// selfTest commits a home, changes it as malware would, and has it found and
// undone, all below a directory of its own: the account lends its ids only.
func (f *forget) selfTest(ctx context.Context) error {
	a, ok := lookup(ctx, f.root, f.user)
	if !ok || a.uid == 0 {
		return fmt.Errorf("the test needs an account that is not root: there is no %q", printable(f.user))
	}
	dir, err := os.MkdirTemp(f.root.Path("/var/tmp"), "virusforget-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	home := filepath.Join(dir, "home")
	err = errors.Join(os.Chmod(dir, 0o755), os.Mkdir(home, 0o755), os.WriteFile(home+"/.profile", []byte("good\n"), 0o644),
		os.MkdirAll(home+"/.config/autostart", 0o755), os.WriteFile(home+"/.config/autostart/a.desktop", []byte("good\n"), 0o644))
	if err != nil {
		return err
	}
	for _, p := range []string{home, home + "/.profile", home + "/.config", home + "/.config/autostart", home + "/.config/autostart/a.desktop"} {
		if err := os.Lchown(p, a.uid, a.gid); err != nil {
			return err
		}
	}
	var said bytes.Buffer
	t := &forget{root: fsx.Root(dir), env: f.env, as: f.as, account: account{name: a.name, uid: a.uid, gid: a.gid, home: "/home"}}
	t.env.Stdout, t.env.Stderr = &said, &said
	t.store = store{t.root, storeDir + "/" + a.name}
	if err := errors.Join(t.store.prepare(), t.doCommit(ctx)); err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(home+"/.xprofile", []byte("bad\n"), 0o644), os.WriteFile(home+"/.profile", []byte("bad\n"), 0o644),
		os.Remove(home+"/.config/autostart/a.desktop"))
	if err != nil {
		return err
	}
	t.clean = true
	if err := t.doCheck(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, said.Bytes())
	}
	profile, err := os.ReadFile(home + "/.profile")
	autostart, err2 := os.ReadFile(home + "/.config/autostart/a.desktop")
	_, err3 := os.Lstat(home + "/.xprofile")
	if err != nil || err2 != nil || string(profile) != "good\n" || string(autostart) != "good\n" || err3 == nil ||
		!bytes.Contains(said.Bytes(), []byte("Extraneous file!")) || !bytes.Contains(said.Bytes(), []byte("Missing file detected!")) {
		return fmt.Errorf("the test failed:\n%s", said.Bytes())
	}
	fmt.Fprintln(f.env.Stdout, "unittest: passed")
	return nil
}
