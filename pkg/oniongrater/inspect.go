// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
)

// checkFiles compiles filter files, those in use unless some are named, and lists
// what they allow.
func checkFiles(env cli.Env, root fsx.Root, files []string) error {
	if len(files) == 0 {
		var err error
		if files, err = root.ConfFiles(FilterDir, profileSuffix); err != nil {
			return err
		}
	}
	broken := false
	for _, file := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			return err
		}
		filters, problems := LoadFile(root, path)
		for _, p := range problems {
			fmt.Fprintln(env.Stderr, escaped(p.String()))
		}
		broken = broken || Broken(problems)
		for _, f := range filters {
			fmt.Fprintf(env.Stdout, "%s: filter %s\n%s", file, escaped(f.Name), describeFilter(f))
		}
	}
	if broken {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// describeFilter lists what a filter allows, as YAML.
func describeFilter(f *Filter) string {
	var out strings.Builder
	section := func(name string, keys int) {
		if keys == 0 {
			out.WriteString(name + ": {}\n")
			return
		}
		out.WriteString(name + ":\n")
	}
	section("commands", len(f.commands))
	for _, name := range sortedKeys(f.commands) {
		c := f.commands[name]
		if len(c.rules) == 0 || c.disabled {
			fmt.Fprintf(&out, "  %s: []\n", name)
			continue
		}
		fmt.Fprintf(&out, "  %s:\n", name)
		for _, r := range c.rules {
			fmt.Fprintf(&out, "  - %s # %s\n", yamlQuote(escaped(showPattern(r.pattern))), escaped(r.where))
		}
	}
	section("confs", len(f.confs))
	for _, name := range sortedKeys(f.confs) {
		fmt.Fprintf(&out, "  %s: # %s\n", name, escaped(f.confs[name].where))
	}
	section("events", len(f.events))
	for _, name := range sortedKeys(f.events) {
		how := ""
		if f.events[name].Suppress {
			how = " {suppress: true}"
		}
		fmt.Fprintf(&out, "  %s:%s\n", escaped(name), how)
	}
	fmt.Fprintf(&out, "tor-browser-mode: %v\n", f.TorBrowserMode)
	if f.OnionServices.set {
		fmt.Fprintf(&out, "onion-services: %d\n", f.OnionServices.n)
	}
	if f.NewNyms.set {
		fmt.Fprintf(&out, "newnym-per-minute: %d\n", f.NewNyms.n)
	}
	return out.String()
}

// showPattern is a pattern as it is applied.
func showPattern(p *pattern) string {
	if p.isPlain {
		return p.plain
	}
	return p.source
}

// testLine tells what becomes of a line from a host, without asking Tor.
func testLine(env cli.Env, root fsx.Root, host, line string) error {
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return cli.Usagef("argument --test-line: %q is no address", host)
	}
	addr = addr.Unmap()
	cache := &filterCache{root: root, log: &journal{out: env.Stderr}}
	matching := servedBy(cache.current(), func(f *Filter) bool { return names(f.Hosts, addr.String()) })
	f, ok := &Filter{Name: "None"}, true
	if len(matching) > 0 {
		if f, ok = Unite(matching); !ok {
			fmt.Fprintf(env.Stdout, "closed: multiple filters matched: %s\n", filterNames(matching))
			return &cli.Exit{Code: cli.CodeFailed}
		}
	}
	const anyPort = "65535"
	values := Values{ClientAddress: addressText(addr), ClientPort: anyPort, ServerAddress: "{server-address}", ServerPort: "{server-port}"}
	verdict, passed := decide(f, line, values)
	fmt.Fprintf(env.Stdout, "filter: %s\n%s\n", escaped(f.Name), verdict)
	if !passed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// decide says in words what the proxy does with a line.
func decide(f *Filter, line string, values Values) (verdict string, passed bool) {
	c, ok := torctl.Split([]byte(line))
	if !ok || strings.HasPrefix(line, "+") || len(line) > torctl.MaxLine {
		return "refused: this is not one command", false
	}
	name := upperASCII(c.Name)
	s := &session{p: &proxy{}, filter: f, values: values, remote: true}
	if name == "SETEVENTS" {
		for e := range strings.FieldsSeq(c.Arguments) {
			if _, ok := f.Event(upperASCII(e)); !ok {
				return "refused: event " + upperASCII(e) + "\na profile allows it with: " + suggest(torctl.Command{Name: name, Arguments: upperASCII(e)}, values), false
			}
		}
		return "answered here: 250 OK, and Tor is asked for the events that are not suppressed", true
	}
	if s.builtin(name) != nil || name == "QUIT" {
		return "answered here", true
	}
	d, ok := f.Match(name, c.Arguments, values)
	if !ok {
		return "refused: no rule allows it\na profile allows it with: " + suggest(c, values), false
	}
	rule := "allowed by " + escaped(d.Where)
	if d.Reply != nil {
		return rule + "\nanswered here: " + strings.Join(d.Reply, ", "), true
	}
	out := outgoingLine(c, name, d)
	if problem := s.outgoing(name, out, d); problem != "" {
		return rule + "\nrefused: " + problem + ": " + loggable(out), false
	}
	return rule + "\nforwarded: " + loggable(out), true
}
