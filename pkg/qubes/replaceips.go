// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const replaceHelp = `usage: replace-ips
Writes the addresses that Qubes has given this machine over those that it was
built with. See replace-ips(8).
`

// Where addresses are kept from one boot to the next.
const (
	cacheDir = "/var/cache/qubes-whonix"
	torrcDir = "/usr/local/etc/torrc.d"

	savedMax = 4096 // bytes in such a file
	oldsMax  = 32   // addresses that are looked for
)

// Addresses of a Workstation outside Qubes.
const (
	workstationIP  = "10.152.152.11"
	workstationIP6 = "fd19:c33d:88bc::11"
)

// Files that Tor reads.
const (
	torrc      = "/etc/tor/torrc"
	userTorrc  = torrcDir + "/50_user.conf"
	defaultTor = "/usr/share/tor/tor-service-defaults-torrc.anondist"
)

func gatewayFiles() []string {
	return []string{"/usr/share/whonix-gw-network-conf/network_internal_ip.txt", "/etc/resolv.conf", "/etc/resolv.conf.whonix", "/etc/resolv.conf.anondist",
		torrc, userTorrc, defaultTor}
}

// workstationFiles has not simple_ping.py of the leak tests any more: that is a
// link to a program now, which asks for the address itself.
func workstationFiles() []string {
	return []string{"/etc/resolv.conf", "/etc/resolv.conf.whonix", "/etc/resolv.conf.anondist",
		"/home/user/.xchat2/xchat.conf", "/home/user/.config/hexchat/hexchat.conf",
		"/usr/share/anon-apps-config/kioslaverc"}
}

// place is one address of the machine: what it was built with, the key that
// says what it is now, and the file below cacheDir that remembers.
type place struct {
	family  family
	builtIn string
	key     string
	save    string
	second  bool // remember it beside the user's torrc too
}

func (p place) saveFile() string { return cacheDir + "/" + p.save }

// pendingFile holds addresses that may still be in a file.
func (p place) pendingFile() string { return p.saveFile() + ".pending" }

// secondFile lies beside the user's torrc, and is lost with it only (defect
// 35). No include of Tor's reads a name that begins with a dot.
func (p place) secondFile() string { return torrcDir + "/." + p.save }

// gatewayPlaces and workstationPlaces are grouped: of a group all keys must
// have a value.
func gatewayPlaces() [][]place {
	return [][]place{
		{{ipv4, whonix.GatewayIP, keyNetVMGateway, "whonix-ip-gateway", true}},
		{{ipv6, whonix.GatewayIP6, keyNetVMGateway6, "whonix-ip6-gateway", true}},
	}
}

func workstationPlaces() [][]place {
	return [][]place{
		{{ipv4, workstationIP, keyIP, "whonix-ip-local", false}, {ipv4, whonix.GatewayIP, keyGateway, "whonix-ip-gateway", false}},
		{{ipv6, workstationIP6, keyIP6, "whonix-ip6-local", false}, {ipv6, whonix.GatewayIP6, keyGateway6, "whonix-ip6-gateway", false}},
	}
}

// ReplaceIPs is the program replace-ips.
func ReplaceIPs(ctx context.Context, env cli.Env) error {
	if done, err := alone(env, replaceHelp); done {
		return err
	}
	if err := asRoot(); err != nil {
		return err
	}
	return replaceIPs(ctx, fsx.Host, env)
}

// replacer is one run of replace-ips.
type replacer struct {
	root   fsx.Root
	env    cli.Env
	failed int
}

func (r *replacer) say(format string, args ...any) { fmt.Fprintf(r.env.Stdout, format+"\n", args...) }

func (r *replacer) fail(format string, args ...any) {
	r.failed++
	r.say("ERROR: "+format, args...)
}

func replaceIPs(ctx context.Context, root fsx.Root, env cli.Env) error {
	const name = "/usr/lib/qubes-whonix/replace-ips"
	r := &replacer{root: root, env: env}
	m := whonix.Detect(root)
	places, files := gatewayPlaces(), gatewayFiles()
	switch m.Role {
	case whonix.Gateway:
	case whonix.Workstation:
		places, files = workstationPlaces(), workstationFiles()
	default:
		r.say("ERROR: Neither Whonix-Gateway nor Whonix-Workstation detected. Please report this bug.")
		return errors.New("neither a Gateway nor a Workstation: nothing was changed")
	}
	r.say("%s INFO: START", name)
	defer r.say("%s INFO: END", name)
	if m.Template {
		r.say("INFO: Not needed inside Template, skipping, ok.")
		return nil
	}
	mappings := r.mappings(ctx, places)
	r.remember(mappings)
	changed := r.rewrite(mappings, files)
	if r.failed == 0 {
		r.forget(mappings)
	}
	if m.Role == whonix.Gateway && slices.ContainsFunc(changed, func(f string) bool { return f == torrc || f == userTorrc || f == defaultTor }) {
		r.restartTor(ctx)
	}
	if r.failed > 0 {
		return fmt.Errorf("%d steps failed, see the lines that begin with ERROR; what could be done was done", r.failed)
	}
	return nil
}

// mappings asks for the new addresses, and looks up the old ones.
func (r *replacer) mappings(ctx context.Context, groups [][]place) (mappings []mapping) {
	for _, group := range groups {
		var found []mapping
		for _, p := range group {
			value, ok := database(ctx, r.root, p.key)
			if !ok {
				r.say("WARNING: 'qubesdb-read %s' failed!", p.key)
				continue
			}
			now, err := p.family.parse(value)
			if err != nil {
				r.fail("current_ip variable invalid: '%s' '%s': %v", p.key, shown(value), err)
				continue
			}
			found = append(found, mapping{place: p, olds: r.olds(p), now: now})
		}
		if len(found) == len(group) {
			mappings = append(mappings, found...)
		}
	}
	return mappings
}

// olds are the addresses that files may hold; the last is the built-in one.
func (r *replacer) olds(p place) (olds []netip.Addr) {
	for _, file := range []string{p.saveFile(), p.pendingFile(), p.secondFile()} {
		for _, a := range r.saved(file, p.family) {
			if !slices.Contains(olds, a) && len(olds) < oldsMax {
				olds = append(olds, a)
			}
		}
	}
	return append(olds, netip.MustParseAddr(p.builtIn))
}

// saved reads a file of addresses, one a line. What is no address counts for
// nothing, as a missing file does.
func (r *replacer) saved(file string, f family) (list []netip.Addr) {
	text, err := r.root.ReadFile(file, savedMax)
	if err != nil {
		return nil
	}
	for _, line := range strings.Fields(string(text)) {
		if a, err := f.parse(line); err == nil {
			list = append(list, a)
		}
	}
	return list
}

// remember writes down the new addresses, and before that which ones files may
// hold until they have all been rewritten: a run can be killed, and a file can
// be read-only today.
func (r *replacer) remember(mappings []mapping) {
	if len(mappings) == 0 {
		return
	}
	if err := r.root.MkdirAll(cacheDir, 0o755); err != nil {
		r.fail("%v", err)
	}
	for _, m := range mappings {
		var text strings.Builder
		for _, old := range m.olds[:len(m.olds)-1] {
			if old != m.now {
				fmt.Fprintln(&text, old)
			}
		}
		if text.Len() > 0 {
			r.write(m.pendingFile(), text.String(), m)
		}
		if m.second && r.root.Exists(torrcDir) {
			r.write(m.secondFile(), m.now.String(), m)
		}
		if r.write(m.saveFile(), m.now.String(), m) {
			r.say("INFO: '%s': ip_file updated: '%s' '%s' '%s'", m.family, m.saveFile(), m.key, m.now)
		}
	}
}

// forget is for when no file holds an old address any more.
func (r *replacer) forget(mappings []mapping) {
	for _, m := range mappings {
		if err := r.root.Remove(m.pendingFile()); err != nil {
			r.fail("%v", err)
		}
	}
}

// write stores text in a file, unless the file holds it already.
func (r *replacer) write(file, text string, m mapping) (written bool) {
	if old, err := r.root.ReadFile(file, savedMax); err == nil && string(old) == text {
		return false
	}
	if err := r.root.WriteAtomic(file, []byte(text), 0o644); err != nil {
		r.fail("'%s': writing to ip_file failed: '%s' '%s' '%s': %v", m.family, file, m.key, m.now, err)
		return false
	}
	return true
}

// rewritten is what became of a file.
type rewritten struct {
	changed bool
	by      []mapping
	err     error
}

// rewrite rewrites the files, and returns those that changed.
func (r *replacer) rewrite(mappings []mapping, files []string) (changed []string) {
	if len(mappings) == 0 {
		return nil
	}
	for i, did := range rewriteAll(r.root, mappings, files) {
		file, err := files[i], did.err
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil && strings.HasPrefix(file, "/home/"): // its owner's affair, and no reason to fail
			r.say("WARNING: file existing but not updated: %v", err)
		case err != nil:
			r.fail("file existing but not updated: %v", err)
		case did.changed:
			changed = append(changed, file)
			for _, m := range did.by {
				r.say("INFO: '%s': filename from filelist updated  : '%s' '%s' '%s'", m.family, file, m.key, m.now)
			}
		}
	}
	return changed
}

// rewriteAll rewrites files several at a time: each that changes waits for the
// disk, which has one wait for all that ask at once.
func rewriteAll(root fsx.Root, mappings []mapping, files []string) []rewritten {
	const atOnce = 64
	all, list := substitute(mappings), make([]rewritten, len(files))
	one := func(i int) {
		did := &list[i]
		did.changed, did.err = edit(root, files[i], func(text []byte) []byte {
			after := all.rewrite(text)
			if string(after) != string(text) {
				did.by = slices.DeleteFunc(slices.Clone(mappings), func(m mapping) bool {
					return string(substitute([]mapping{m}).rewrite(text)) == string(text)
				})
			}
			return after
		})
	}
	groups := sameFiles(root, files)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(atOnce, len(groups)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for n := int(next.Add(1)) - 1; n < len(groups); n = int(next.Add(1)) - 1 {
				for _, i := range groups[n] {
					one(i)
				}
			}
		}()
	}
	workers.Wait()
	return list
}

// sameFiles groups the names that lead to one file, as /etc/resolv.conf does to
// the one beside it: they are not edited at once.
func sameFiles(root fsx.Root, files []string) (groups [][]int) {
	type inode struct{ device, number uint64 }
	known := map[inode]int{}
	for i, file := range files {
		var st unix.Stat_t
		if err := unix.Stat(root.Path(file), &st); err != nil {
			groups = append(groups, []int{i})
			continue
		}
		at := inode{uint64(st.Dev), st.Ino}
		group, ok := known[at]
		if !ok {
			group = len(groups)
			known[at] = group
			groups = append(groups, nil)
		}
		groups[group] = append(groups[group], i)
	}
	return groups
}

// restartTor has a running Tor take the new addresses. The restart is not
// waited for: this may be part of what Tor's start waits for (defect 9).
func (r *replacer) restartTor(ctx context.Context) {
	const patience = 10 * time.Second // for each; whoever runs this waits for it
	systemctl, err := execx.Find(r.root, "systemctl")
	if err != nil {
		r.fail("%v", err)
		return
	}
	ask, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := (execx.Cmd{Path: systemctl, Args: []string{"--quiet", "is-active", "tor@default"}}).Run(ask); err != nil {
		r.say("INFO: Systemd unit tor@default is not running, therefore not restarting.")
		return
	}
	r.say("INFO: executing: systemctl restart tor@default")
	order, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := (execx.Cmd{Path: systemctl, Args: []string{"--no-block", "restart", "tor@default"}, Stderr: r.env.Stderr}).Run(order); err != nil {
		r.fail("systemctl restart tor@default: %v", err)
	}
}
