// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/fsx"
)

// Where the hardener remembers.
const (
	hardenerStore = "/var/lib/permission-hardener-v2"
	dpkgDatabase  = "/var/lib/dpkg"
	overrideFile  = "/statoverride"
	capsFile      = hardenerStore + "/existing_capabilities"
	existingDir   = hardenerStore + "/existing_mode"
	appliedDir    = hardenerStore + "/new_mode"
	adminDir      = hardenerStore + "/admin_override"
)

// ownership is what dpkg-statoverride(1) sets of a file.
type ownership struct {
	owner, group string
	mode         uint32
}

// String is the form of dpkg's database.
func (o ownership) String() string { return fmt.Sprintf("%s %s %o", o.owner, o.group, o.mode) }

// overrides is a database of dpkg's form: `owner group mode path`, one a line.
type overrides struct {
	of    map[string]ownership
	order []string // paths, and lines that are kept as they are
	was   string   // as read
}

func (d *overrides) set(name string, o ownership) {
	if _, known := d.of[name]; !known {
		d.order = append(d.order, name)
	}
	d.of[name] = o
}

func (d *overrides) clone() *overrides {
	return &overrides{maps.Clone(d.of), slices.Clone(d.order), d.was}
}

func (d *overrides) remove(name string) {
	if _, known := d.of[name]; known {
		delete(d.of, name)
		d.order = slices.DeleteFunc(d.order, func(s string) bool { return s == name })
	}
}

// String is the text of the database.
func (d *overrides) String() string {
	var b strings.Builder
	for _, name := range d.order {
		fmt.Fprintf(&b, "%s %s\n", d.of[name], name)
	}
	return b.String()
}

// parseOverrides reads a database. Whatever follows the third blank is the path
// (defect D-6).
func parseOverrides(file string, data []byte) (*overrides, error) {
	d := &overrides{of: map[string]ownership{}, was: string(data)}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		fields := strings.SplitN(strings.TrimSuffix(string(line), "\n"), " ", 4)
		if len(fields) != 4 || !strings.HasPrefix(fields[3], "/") {
			return nil, fmt.Errorf("%s:%d: not `owner group mode path`; mend or remove the line", file, number)
		}
		mode, err := strconv.ParseUint(fields[2], 8, 32)
		if fields[2] == "" { // as the original wrote a mode of 0000 (D-6)
			mode, err = 0, nil
		}
		if err != nil || mode > modeBits {
			return nil, fmt.Errorf("%s:%d: %q is no mode; mend or remove the line", file, number, fields[2])
		}
		d.set(fields[3], ownership{fields[0], fields[1], uint32(mode)})
	}
	return d, nil
}

func readOverrides(root fsx.Root, dir string) (*overrides, error) {
	data, err := root.ReadFile(dir+overrideFile, textMax)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return parseOverrides(dir+overrideFile, data)
}

// memory is all that the hardener remembers.
type memory struct {
	existing *overrides // how files were before
	applied  *overrides // what was made of them: proves that it was us
	admin    *overrides // overrides of the administrator's that ours took the place of
	caps     map[string]string
	capsWas  string
}

// readMemory reads the databases, or those of an earlier version if there are
// none yet.
func readMemory(root fsx.Root) (*memory, error) {
	m := &memory{caps: map[string]string{}}
	existing, applied := existingDir, appliedDir
	imported := ""
	if !root.Exists(existingDir + overrideFile) {
		for _, old := range []string{"/var/lib/permission-hardener", "/var/lib/permission-hardening"} {
			if root.IsFile(old + "/existing_mode" + overrideFile) {
				existing, applied, imported = old+"/existing_mode", old+"/new_mode", old
				break
			}
		}
	}
	var err error
	if m.existing, err = readOverrides(root, existing); err != nil {
		return nil, err
	}
	if m.applied, err = readOverrides(root, applied); err != nil {
		return nil, err
	}
	if m.admin, err = readOverrides(root, adminDir); err != nil {
		return nil, err
	}
	if imported != "" { // to be written at the new place
		m.existing.was, m.applied.was = "", ""
	}
	data, err := root.ReadFile(capsFile, textMax)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	m.capsWas = string(data)
	return m, m.parseCaps()
}

// parseCaps reads lines as getcap(8) prints them: a path, a blank, a text.
func (m *memory) parseCaps() error {
	number := 0
	for line := range strings.Lines(m.capsWas) {
		number++
		line = strings.TrimSuffix(line, "\n")
		at := capsStart(line)
		if at < 0 || line[0] != '/' {
			return fmt.Errorf("%s:%d: not `path capabilities`; mend or remove the line", capsFile, number)
		}
		text := line[at+1:]
		if _, err := parseCaps(text); err != nil {
			return fmt.Errorf("%s:%d: %w", capsFile, number, err)
		}
		m.caps[line[:at]] = text
	}
	return nil
}

// capsStart is the blank before the capabilities: after it, words with flags
// only. The path may have blanks too.
func capsStart(line string) int {
	at := -1
	for end := len(line); end > 0; {
		i := strings.LastIndexByte(line[:end], ' ')
		if i < 1 {
			break
		}
		if _, err := parseCaps(line[i+1 : end]); err != nil || i+1 == end {
			break
		}
		at, end = i, i
	}
	return at
}

func (m *memory) capsText() string {
	var b strings.Builder
	for _, name := range sortedKeys(m.caps) {
		fmt.Fprintf(&b, "%s %s\n", name, m.caps[name])
	}
	return b.String()
}

// write stores what has changed, what was before us first: a run that ends half
// way has lost nothing.
func (m *memory) write(root fsx.Root) error {
	type file struct{ name, was, now string }
	files := []file{
		{existingDir + overrideFile, m.existing.was, m.existing.String()},
		{capsFile, m.capsWas, m.capsText()},
		{adminDir + overrideFile, m.admin.was, m.admin.String()},
		{appliedDir + overrideFile, m.applied.was, m.applied.String()},
	}
	for _, f := range files {
		if f.was == f.now && (f.now == "" || root.Exists(f.name)) {
			continue
		}
		if err := root.MkdirAll(path.Dir(f.name), dirMode); err != nil {
			return err
		}
		if err := root.WriteAtomic(f.name, []byte(f.now), fileMode); err != nil {
			return err
		}
		if err := root.SyncDir(path.Dir(f.name)); err != nil {
			return err
		}
	}
	m.existing.was, m.capsWas, m.admin.was, m.applied.was = files[0].now, files[1].now, files[2].now, files[3].now
	return nil
}

// follows tells m what other has written meanwhile.
func (m *memory) follows(other *memory) {
	m.existing.was, m.capsWas, m.admin.was, m.applied.was = other.existing.was, other.capsWas, other.admin.was, other.applied.was
}

// clone is a copy that can be changed.
func (m *memory) clone() *memory {
	return &memory{m.existing.clone(), m.applied.clone(), m.admin.clone(), maps.Clone(m.caps), m.capsWas}
}

// with is m together with what old knows and m does not: what has to be
// remembered until all is done.
func (m *memory) with(old *memory) *memory {
	both := m.clone()
	for _, path := range old.existing.order {
		both.adopt(path, old)
	}
	for _, path := range old.applied.order {
		both.adopt(path, old)
	}
	return both
}

// adopt takes over what old knows of a path.
func (m *memory) adopt(path string, old *memory) {
	for _, d := range []struct{ to, from *overrides }{{m.existing, old.existing}, {m.applied, old.applied}, {m.admin, old.admin}} {
		if _, known := d.to.of[path]; known {
			continue
		}
		if o, known := d.from.of[path]; known {
			d.to.set(path, o)
		}
	}
	if _, known := m.caps[path]; !known {
		if text, known := old.caps[path]; known {
			m.caps[path] = text
		}
	}
}

// undo makes m say of a path what old said.
func (m *memory) undo(path string, old *memory) {
	m.forget(path)
	m.adopt(path, old)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
