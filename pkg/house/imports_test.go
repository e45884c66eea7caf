// SPDX-License-Identifier: GPL-3.0-or-later

package house

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Layers, from the ground up. A package may import what is below its own
// layer, and in the foundation other packages of it.
const (
	foundation = iota
	middle
	proof // reasons about what the middle says
	domain
	tests // only from tests, from other test packages, and from whonix-lab
)

// layers names every package; one that is missing here has no place yet.
func layers() map[string]int {
	return map[string]int{
		"cli": foundation, "fsx": foundation, "sd": foundation, "execx": foundation, "whonix": foundation, "elfx": foundation, "checksum": foundation,
		"confd": middle, "nft": middle, "session": middle, "seccomp": middle, "relay": middle, "socks5": middle, "torrc": middle, "torctl": middle, "clock": middle, "fdd": middle,
		"leakproof": proof,
		"firewall":  domain, "oniongrater": domain, "uwt": domain, "bindp": domain, "isolate": domain, "stackedtor": domain, "sdwdate": domain, "gateway": domain, "leaktest": domain, "qubes": domain, "onionauth": domain, "harden": domain, "basesys": domain,
		"netlab": tests, "torctl/tortest": tests, "clock/clocktest": tests, "tornet": tests, "lab": tests, "house": tests, "e2e": tests,
	}
}

const module = "whonix-networking"

// listed is what `go list -json` tells of a package.
type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// TestImportRule: cmd imports one domain and cli; domains import what is below
// them and no other domain; nothing but tests and the lab imports test
// packages.
func TestImportRule(t *testing.T) {
	known := layers()
	for _, p := range packages(t) {
		var own []string
		for _, i := range p.Imports {
			if rest, ok := strings.CutPrefix(i, module+"/pkg/"); ok {
				own = append(own, rest)
			}
		}
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		switch {
		case strings.HasPrefix(name, "cmd/"):
			command(t, name, own)
		case strings.HasPrefix(name, "pkg/"):
			name = strings.TrimPrefix(name, "pkg/")
			layer, ok := known[name]
			if !ok {
				t.Errorf("pkg/%s is in no layer: give it one in layers()", name)
			}
			for _, i := range own {
				if below := known[i]; below > layer || below == layer && layer != foundation && layer != tests {
					t.Errorf("pkg/%s must not import pkg/%s", name, i)
				}
			}
		}
	}
}

func command(t *testing.T, name string, own []string) {
	t.Helper()
	if !slices.Contains(own, "cli") || len(own) != 2 {
		t.Errorf("%s imports %v: want cli and one domain", name, own)
	}
	for _, i := range own {
		layer := layers()[i]
		if i != "cli" && layer != domain && (layer != tests || name != "cmd/whonix-lab") {
			t.Errorf("%s must not import pkg/%s", name, i)
		}
	}
}
