// SPDX-License-Identifier: GPL-3.0-or-later

// Package qubes makes a Gateway, a Workstation and their templates work in
// Qubes OS, where addresses come from QubesDB, packages through the updates
// proxy, and each machine forgets at shutdown what is not kept on purpose.
package qubes

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// Keys of QubesDB.
const (
	keyNetVMGateway  = "/qubes-netvm-gateway"
	keyNetVMGateway6 = "/qubes-netvm-gateway6"
	keyIP            = "/qubes-ip"
	keyIP6           = "/qubes-ip6"
	keyGateway       = "/qubes-gateway"
	keyGateway6      = "/qubes-gateway6"
)

// database asks QubesDB for a key's value, as qubesdb-read prints it. A missing
// key, and a QubesDB that is down, is no value.
func database(ctx context.Context, root fsx.Root, key string) (value string, ok bool) {
	const patience = 10 * time.Second
	path, err := execx.Find(root, "qubesdb-read")
	if err != nil {
		return "", false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out limited
	if err := (execx.Cmd{Path: path, Args: []string{key}, Stdout: &out}).Run(ctx); err != nil {
		return "", false
	}
	return strings.TrimSuffix(out.String(), "\n"), true
}

// limited keeps the beginning of what is written to it: more than any valid
// value, so that what was cut is not valid.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	const most = 1024
	l.Buffer.Write(p[:min(len(p), max(most-l.Len(), 0))])
	return len(p), nil
}

// family is a kind of addresses, named as in messages.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// parse reads exactly one address of the family that a machine can have.
func (f family) parse(text string) (netip.Addr, error) {
	like := netip.IPv4Unspecified()
	if f == ipv6 {
		like = netip.IPv6Unspecified()
	}
	return whonix.OwnAddress(text, like)
}

// shown is a foreign value for a message: in one line, and not endless.
func shown(value string) string {
	const most = 64
	if len(value) > most {
		value = value[:most] + "..."
	}
	quoted := fmt.Sprintf("%q", value)
	return quoted[1 : len(quoted)-1]
}

// alone answers --help; a program that takes no arguments is told of any other.
func alone(env cli.Env, help string) (done bool, err error) {
	if len(env.Args) < 2 {
		return false, nil
	}
	if env.Args[1] == "--help" || env.Args[1] == "-h" {
		fmt.Fprint(env.Stdout, help)
		return true, nil
	}
	return true, cli.Usagef("%q: this program takes no arguments", env.Args[1])
}

// asRoot refuses to work with half of the rights.
func asRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("this must be run as root")
	}
	return nil
}
