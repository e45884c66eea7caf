// SPDX-License-Identifier: GPL-3.0-or-later

package house

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whonix-networking/pkg/whonix"
)

var update = flag.Bool("update", false, "rewrite README.md's port table")

// The port table of README.md is between these.
const (
	tableBegin = "<!-- ports -->\n"
	tableEnd   = "<!-- /ports -->\n"
)

// portTable is README.md's port table.
func portTable() string {
	var b strings.Builder
	b.WriteString("| port | name | for | on | isolated by destination |\n|---|---|---|---|---|\n")
	for _, p := range whonix.Ports() {
		number := strconv.Itoa(int(p.First))
		if p.Last != p.First {
			number += fmt.Sprintf("–%d", p.Last)
		}
		kind := map[whonix.Kind]string{
			whonix.Trans: "TransPort", whonix.DNS: "DnsPort", whonix.Socks: "SocksPort", whonix.HTTPTunnel: "HTTPTunnelPort",
			whonix.TorControl: "ControlPort", whonix.Filter: "filter",
		}[p.Kind]
		if p.Name != "" && p.Kind == whonix.Socks {
			kind += " " + p.Name
		}
		side := map[whonix.Side]string{0: "Workstation", whonix.Local: "Gateway", whonix.Internal: "internal network", whonix.Both: "both"}[p.Side]
		var by []string
		for flag, word := range map[string]string{"IsolateDestAddr": "address", "IsolateDestPort": "port"} {
			if slices.Contains(strings.Fields(p.Flags), flag) {
				by = append(by, word)
			}
		}
		slices.Sort(by)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", number, kind, p.Purpose, side, strings.Join(by, ", "))
	}
	return b.String()
}

// TestReadmePorts: README.md shows the port table as it is.
func TestReadmePorts(t *testing.T) {
	readme := text(t, "README.md")
	before, rest, ok := strings.Cut(readme, tableBegin)
	shown, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		t.Fatal("README.md has no place for the port table")
	}
	if shown == portTable() {
		return
	}
	if !*update {
		t.Fatalf("README.md shows another port table: go test ./pkg/house -run TestReadmePorts -update\n%s", portTable())
	}
	if err := os.WriteFile(top+"/README.md", []byte(before+tableBegin+portTable()+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// ours are the numbers of the table, and what a number looks like that may be
// one: those around the table's own count too, so that one that was mistyped
// does not go unnoticed.
func ours() (table map[string]bool, like *regexp.Regexp) {
	table = map[string]bool{}
	for _, p := range whonix.Ports() {
		for n := int(p.First); n <= int(p.Last); n++ {
			table[strconv.Itoa(n)] = true
		}
	}
	return table, regexp.MustCompile(`(?:^|[^0-9.])(90[345][0-9]|91[0-9]{2}|92[0-2][0-9]|5[34]00)(?:[^0-9.]|\.?$|\.[^0-9])`)
}

// TestPortsInFiles: what is installed names no port that the table has not.
func TestPortsInFiles(t *testing.T) {
	const relaysDirectory = "9030" // of Tor's relays, elsewhere
	table, like := ours()
	rfc := regexp.MustCompile(`RFC ?[0-9]+`) // numbers of documents
	found := 0
	for _, dir := range []string{"etc", "systemd", "man", "scripts/completions", "scripts/applications", "scripts/packages"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			number := 0
			for line := range strings.Lines(string(data)) {
				number++
				for _, m := range like.FindAllStringSubmatch(rfc.ReplaceAllString(strings.TrimSpace(line), ""), -1) {
					found++
					if !table[m[1]] && m[1] != relaysDirectory {
						t.Errorf("%s:%d: %s is no port of the table in pkg/whonix", path, number, m[1])
					}
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	const least = 10
	if found < least {
		t.Errorf("only %d ports found: the pattern is wrong", found)
	}
}

// TestPortsInSettings: the defaults that settings show are the table's.
func TestPortsInSettings(t *testing.T) {
	for file, lines := range map[string][]string{
		"etc/whonix_firewall.d/30_whonix_gateway_default.conf": {
			fmt.Sprintf("#TRANS_PORT_WORKSTATION=%d", whonix.TransPortWorkstation), fmt.Sprintf("#DNS_PORT_WORKSTATION=%d", whonix.DNSPortWorkstation),
			fmt.Sprintf("#TRANS_PORT_GATEWAY=%d", whonix.TransPortGateway), fmt.Sprintf("#DNS_PORT_GATEWAY=%d", whonix.DNSPortGateway),
			fmt.Sprintf("#CONTROL_PORT_FILTER_PROXY_PORT=%d", whonix.ControlPort),
		},
		"etc/whonix_firewall.d/30_whonix_workstation_default.conf": {fmt.Sprintf("#CONTROL_PORT_FILTER_PROXY_PORT=%d", whonix.ControlPort)},
		"etc/tor/torsocks.conf.anondist":                           {fmt.Sprintf("TorPort %d", whonix.DefaultPort)},
	} {
		for _, l := range lines {
			if !strings.Contains("\n"+text(t, file), "\n"+l+"\n") {
				t.Errorf("%s does not say %s", file, l)
			}
		}
	}
}

// TestPortsInCode: code takes port numbers from the table.
func TestPortsInCode(t *testing.T) {
	table, like := ours()
	for _, dir := range []string{"cmd", "pkg"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, e fs.DirEntry, err error) error {
			switch {
			case err != nil, e.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"):
				return err
			case strings.HasSuffix(path, "pkg/whonix/ports.go"):
				return nil // the table
			case strings.HasSuffix(path, "pkg/tornet/tornet.go"):
				return nil // a Tor of its own, where the wrapped programs of tests look for one
			}
			files := token.NewFileSet()
			tree, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(tree, func(n ast.Node) bool {
				literal, ok := n.(*ast.BasicLit)
				if !ok {
					return true
				}
				for _, m := range like.FindAllStringSubmatch(strings.Trim(literal.Value, "\"`"), -1) {
					if table[m[1]] {
						t.Errorf("%s: %s: take the port from the table in pkg/whonix", files.Position(literal.Pos()), m[1])
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
