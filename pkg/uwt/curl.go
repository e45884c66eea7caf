// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// curlCannotConnect is curl's own status for that (CURLE_COULDNT_CONNECT).
const curlCannotConnect = 7

// curlFindings are what matters of a command line of curl(1).
type curlFindings struct {
	config, proxy, proxyUser string // the option found, as written
	ipv6                     bool
	follows                  bool // redirections
	hosts                    []string

	// operations are where, behind each --next, the options of another transfer
	// begin: those before do not count for it.
	operations []int
	next       bool // the word at hand is one
}

// curl gives curl, which does not work with torsocks, Tor as its proxy, unless
// the user has chosen a proxy.
func (w *wrapper) curl(ctx context.Context, args []string) ([]string, error) {
	f := scanCurl(args)
	say := func(format string, a ...any) { fmt.Fprintf(w.env.Stderr, format+"\n", a...) }
	const disabled = " Stream isolation will be disabled."
	if f.config != "" {
		hint := ""
		if original := w.program(); exists(original) {
			hint = fmt.Sprintf(" Please use '%s' instead.", original)
		}
		say("ERROR: Detected '--config' or '-K' argument. The uwt curl wrapper cannot handle this.%s", hint)
		return nil, &cli.Exit{Code: codeFailed}
	}
	off := false
	if f.proxy != "" {
		say("WARNING: Detected '%s' argument.%s", spelled(f.proxy, "--proxy", "-x"), disabled)
		off = true
	}
	if f.proxyUser != "" {
		say("WARNING: Detected '%s' argument.%s", spelled(f.proxyUser, "--proxy-user", "-U"), disabled)
		off = true
	}
	if name := w.proxyVariable(); name != "" && !off {
		say("WARNING: Detected environment variable '%s'.%s", name, disabled)
		off = true
	}
	local, remote := divide(f.hosts)
	if len(local) > 0 && len(remote) == 0 && !f.follows {
		say("NOTE: Detected loopback address.%s", disabled)
		off = true
	}
	if off {
		return args, nil
	}
	address := torAddress
	if f.ipv6 {
		say("NOTICE: Detected '--ipv6' or '-6' argument, will attempt to use IPv6 Tor proxy.")
		address = torAddress6
	}
	if err := torAnswers(ctx, address); err != nil {
		return args, w.withoutTor(err, curlCannotConnect)
	}
	return curlThroughTor(args, address, local, f.operations)
}

// spelled names an option as the original does, in both spellings, or as it
// was written if it is another.
func spelled(found, long, short string) string {
	if found == long || found == short {
		return long + "' or '" + short
	}
	return found
}

// proxyVariable is the name of a variable by which the user has chosen a
// proxy, in curl's own spelling.
func (w *wrapper) proxyVariable() string {
	for _, name := range []string{"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"} {
		for _, kv := range w.set.Environ {
			if v, ok := strings.CutPrefix(kv, name+"="); ok && v != "" {
				return name
			}
		}
	}
	return ""
}

// withoutTor decides what is done where Tor does not answer: on a machine that
// has no other way out the program may go on, elsewhere it would leave in the
// clear.
func (w *wrapper) withoutTor(why error, code int) error {
	if whonixRole(fsx.Host) || w.set.Vars[varFailOpen] == "1" {
		fmt.Fprintf(w.env.Stderr, "WARNING: Tor proxy doesn't seem to be functional. Stream isolation will be disabled.\n")
		w.trace("%v", why)
		return nil
	}
	return &cli.Exit{Code: code, Err: cli.WithHint(fmt.Errorf("no answer from Tor: %w", why),
		"%s=1 runs '%s' without Tor, with the address of this machine", varFailOpen, w.parent)}
}

// curlThroughTor puts the proxy before the user's arguments, of which later
// ones win, and before those of each further operation. User name and password
// are handed over in a file of which others see nothing (U20). It also says for
// what the proxy does not count, which no_proxy in the environment could say
// otherwise.
func curlThroughTor(args []string, address string, local []string, operations []int) ([]string, error) {
	password, err := isolationPassword("curl-wrapper_")
	if err != nil {
		return nil, err
	}
	config := fmt.Sprintf("proxy-user = \"%s:%s\"\nnoproxy = \"%s\"\n", isolationUser, password, strings.Join(local, ","))
	file, err := handOver(config)
	if err != nil {
		return nil, err
	}
	extra := []string{"--config", file, "--proxy", "socks5h://" + address + "/"}
	at := 0
	if len(args) > 0 && (args[0] == "--disable" || strings.HasPrefix(args[0], "-q")) {
		at = 1 // counts only as the first one
	}
	out := slices.Clone(args)
	for _, i := range slices.Backward(append([]int{at}, operations...)) {
		out = slices.Insert(out, i, extra...)
	}
	return out, nil
}

// divide tells hosts on this machine's loopback from others.
func divide(hosts []string) (local, remote []string) {
	for _, h := range hosts {
		if loopback(h) {
			local = append(local, h)
		} else {
			remote = append(remote, h)
		}
	}
	return local, remote
}

func loopback(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// hostOf is the host of a URL as curl takes one, with or without a scheme. What
// is no plain URL (curl's globs, for example) has none, and is not local.
func hostOf(text string) string {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || strings.ContainsAny(u.Host, "{}[]") && !bracketed(u.Host) {
		return "unknown.invalid"
	}
	return u.Hostname()
}

func bracketed(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	_, err = netip.ParseAddr(name)
	return err == nil
}
