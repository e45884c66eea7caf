// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// lookupTimeout bounds a command that answers a look-up.
const lookupTimeout = 10 * time.Second

// Accounts looks account names up as `id -u` does: in /etc/passwd, and where
// nsswitch.conf(5) names a source beyond local files, by id(1) itself.
func Accounts(root fsx.Root) func(name string) (uint32, bool) {
	load := sync.OnceValues(func() (map[string]uint32, bool) {
		return passwd(root), remoteAccounts(root)
	})
	return func(name string) (uint32, bool) {
		local, remote := load()
		if uid, ok := local[name]; ok {
			return uid, true
		}
		if !remote || name == "" || name[0] == '-' {
			return 0, false
		}
		text, ok := answer(root, "id", "-u", name)
		uid, err := strconv.ParseUint(text, 10, 32)
		return uint32(uid), ok && err == nil
	}
}

func passwd(root fsx.Root) map[string]uint32 {
	const sizeMax = 16 << 20
	data, _ := root.ReadFile("/etc/passwd", sizeMax)
	out := map[string]uint32{}
	for line := range strings.Lines(string(data)) {
		f := strings.SplitN(line, ":", 4)
		if len(f) < 4 || f[0] == "" {
			continue
		}
		if uid, err := strconv.ParseUint(f[2], 10, 32); err == nil {
			if _, twice := out[f[0]]; !twice {
				out[f[0]] = uint32(uid)
			}
		}
	}
	return out
}

// remoteAccounts reports whether accounts come from elsewhere than this
// machine. systemd's source knows only accounts of running services.
func remoteAccounts(root fsx.Root) bool {
	const sizeMax = 1 << 20
	data, _ := root.ReadFile("/etc/nsswitch.conf", sizeMax)
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		db, sources, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(db) != "passwd" {
			continue
		}
		for _, s := range strings.Fields(sources) {
			if s != "files" && s != "compat" && s != "systemd" {
				return true
			}
		}
	}
	return false
}

// QubesDB reads keys by qubesdb-read. No such program, or a failing one, is no
// answer.
func QubesDB(root fsx.Root) func(key string) (string, bool) {
	return func(key string) (string, bool) { return answer(root, "qubesdb-read", key) }
}

// answer runs a command and returns its output without trailing newlines.
func answer(root fsx.Root, name string, args ...string) (string, bool) {
	path, err := execx.Find(root, name)
	if err != nil {
		return "", false
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupTimeout)
	defer cancel()
	var out bytes.Buffer
	if err := (execx.Cmd{Path: path, Args: args, Stdout: &out}).Run(ctx); err != nil {
		return "", false
	}
	return strings.TrimRight(out.String(), "\n"), true
}

// noSuchUser is what id(1) says.
func noSuchUser(name string) string { return fmt.Sprintf("id: '%s': no such user\n", name) }
