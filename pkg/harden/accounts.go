// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// accounts translates names of users and groups, as far as they are asked for.
type accounts struct {
	root   fsx.Root
	users  *names
	groups *names
}

// names is one of the two tables.
type names struct {
	file, database string
	id             map[string]int
	name           map[int]string
}

func newAccounts(root fsx.Root) *accounts {
	return &accounts{root: root, users: readNames(root, "/etc/passwd", "passwd"), groups: readNames(root, "/etc/group", "group")}
}

// readNames reads the first and the third field of passwd(5) or group(5). The
// first entry of a name or number counts.
func readNames(root fsx.Root, file, database string) *names {
	n := &names{file: file, database: database, id: map[string]int{}, name: map[int]string{}}
	data, _ := root.ReadFile(file, textMax) // a missing file names nobody
	for line := range strings.Lines(string(data)) {
		n.add(line)
	}
	return n
}

func (n *names) add(line string) {
	f := strings.SplitN(line, ":", 4)
	if len(f) < 4 || f[0] == "" {
		return
	}
	id, err := strconv.ParseUint(f[2], 10, 31)
	if err != nil {
		return
	}
	if _, twice := n.id[f[0]]; !twice {
		n.id[f[0]] = int(id)
	}
	if _, twice := n.name[int(id)]; !twice {
		n.name[int(id)] = f[0]
	}
}

// uid returns the number of a user; `#N` is one already, as in dpkg's database.
func (a *accounts) uid(name string) (int, bool) { return a.number(a.users, name) }

// gid returns the number of a group.
func (a *accounts) gid(name string) (int, bool) { return a.number(a.groups, name) }

func (a *accounts) number(n *names, name string) (int, bool) {
	if digits, ok := strings.CutPrefix(name, "#"); ok {
		id, err := strconv.ParseUint(digits, 10, 31)
		return int(id), err == nil
	}
	if id, ok := n.id[name]; ok {
		return id, true
	}
	a.ask(n, name)
	id, ok := n.id[name]
	return id, ok
}

// user names a number; one without a name is `#N`.
func (a *accounts) user(id int) string { return a.label(a.users, id) }

// group names a number likewise.
func (a *accounts) group(id int) string { return a.label(a.groups, id) }

func (a *accounts) label(n *names, id int) string {
	if _, ok := n.name[id]; !ok {
		a.ask(n, strconv.Itoa(id))
	}
	if name, ok := n.name[id]; ok {
		return name
	}
	n.name[id] = "#" + strconv.Itoa(id) // asked once
	return n.name[id]
}

// ask looks at sources of accounts beyond the file, see nsswitch.conf(5).
func (a *accounts) ask(n *names, key string) {
	const timeout = 10 * time.Second
	if a.root != fsx.Host || key == "" || key[0] == '-' {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	var out bytes.Buffer
	// A getent that fails, or is not there, knows nobody.
	if (execx.Cmd{Path: "/usr/bin/getent", Args: []string{n.database, key}, Stdout: &out}).Run(ctx) == nil {
		n.add(out.String())
	}
}
