// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the files that come from code")

// Where the tree has what is installed below templateDir and /usr/share/tor.
const shippedShare = "../../scripts/anon-gw-anonymizer-config/"

// TestShipped: the files of the tree are what the code says.
func TestShipped(t *testing.T) {
	files := map[string]string{filepath.Base(listenersBase): ListenersBase()}
	for _, f := range templates() {
		files[filepath.Base(f.shipped)] = f.text
	}
	for name, want := range files {
		path := shippedShare + name
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != want {
			t.Errorf("%s is not what the code says: go test ./pkg/gateway -run TestShipped -update (%v)", path, err)
		}
	}
}

// TestOldLeakTest: what older leak tests look for is there as they look for it.
func TestOldLeakTest(t *testing.T) {
	data, err := os.ReadFile("../../etc/torrc.d/65_leak_tests.conf")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	i := slices.Index(lines, "#ReachableDirAddresses *:80")
	if i < 0 || lines[i+1] != "#ReachableORAddresses *:443" || lines[i+2] != "#FascistFirewall 1" || len(active(string(data))) != 0 {
		t.Errorf("%s", data)
	}
}
