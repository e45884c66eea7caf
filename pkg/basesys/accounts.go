// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// nssTimeout bounds the question to a directory service: a login waits for it.
const nssTimeout = 700 * time.Millisecond

// account is a line of passwd(5).
type account struct {
	name     string
	uid, gid int
	home     string
}

// fields are the fields of name's line in a database like passwd(5): of the file,
// or of what getent knows beyond it. ok is false if there is none.
func fields(ctx context.Context, root fsx.Root, database, name string, n int) (found []string, ok bool) {
	if !plainName(name) {
		return nil, false
	}
	data, _ := root.ReadFile("/etc/"+database, fileMax)
	if f, ok := entry(data, name, n); ok {
		return f, true
	}
	if !elsewhere(root, database) {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, nssTimeout)
	defer cancel()
	var out bytes.Buffer
	if (execx.Cmd{Path: root.Path("/usr/bin/getent"), Args: []string{database, name}, Stdout: &out}).Run(ctx) != nil {
		return nil, false
	}
	return entry(out.Bytes(), name, n)
}

func entry(data []byte, name string, n int) ([]string, bool) {
	for line := range strings.Lines(string(data)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), ":"); len(f) >= n && f[0] == name {
			return f, true
		}
	}
	return nil, false
}

// elsewhere reports whether nsswitch.conf(5) names a source beyond the local
// files.
func elsewhere(root fsx.Root, database string) bool {
	data, _ := root.ReadFile("/etc/nsswitch.conf", fileMax)
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		sources, ok := strings.CutPrefix(strings.TrimSpace(line), database+":")
		if !ok {
			continue
		}
		return slices.ContainsFunc(strings.Fields(sources), func(s string) bool {
			return s != "files" && s != "compat" && s != "systemd" && !strings.HasPrefix(s, "[") && !strings.HasSuffix(s, "]")
		})
	}
	return false
}

// plainName reports whether a name can be an account's: what has a control
// character, a colon, or begins with a hyphen, is none.
func plainName(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == ':' || r == '/' })
}

// lookup finds an account.
func lookup(ctx context.Context, root fsx.Root, name string) (account, bool) {
	f, ok := fields(ctx, root, "passwd", name, 7)
	if !ok {
		return account{}, false
	}
	uid, err := strconv.Atoi(f[2])
	gid, err2 := strconv.Atoi(f[3])
	if err != nil || err2 != nil || uid < 0 || gid < 0 {
		return account{}, false
	}
	return account{name: f[0], uid: uid, gid: gid, home: f[5]}, true
}

// member reports whether an account is in a group, exactly that one.
func member(ctx context.Context, root fsx.Root, a account, group string) bool {
	f, ok := fields(ctx, root, "group", group, 4)
	if !ok {
		return false
	}
	return f[2] == strconv.Itoa(a.gid) || slices.Contains(strings.Split(f[3], ","), a.name)
}

// password is the state of an account's password, in the letters of passwd -S.
type password string

const (
	passwordUsable password = "P"
	passwordNone   password = "NP"
	passwordLocked password = "L"
)

// passwordOf reads the state of a password; ok is false where it cannot be
// known.
func passwordOf(ctx context.Context, root fsx.Root, name string) (state password, ok bool) {
	f, ok := fields(ctx, root, "shadow", name, 2)
	switch {
	case !ok:
		return "", false
	case f[1] == "":
		return passwordNone, true
	case f[1][0] == '!' || f[1][0] == '*':
		return passwordLocked, true
	}
	return passwordUsable, true
}
