// SPDX-License-Identifier: GPL-3.0-or-later

package house

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryProfileIsEnforcedSomewhere: the virtual machine that holds AppArmor's
// profiles against what their programs do installs every package that has one.
func TestEveryProfileIsEnforcedSomewhere(t *testing.T) {
	const top = "../../"
	scenario, err := os.ReadFile(top + "scripts/vm/apparmor.scenario")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^packages='(.*)'$`).FindSubmatch(scenario)
	if found == nil {
		t.Fatal("the scenario installs nothing")
	}
	installed := strings.Fields(string(found[1]))
	lists, err := filepath.Glob(top + "scripts/packages/*/files")
	if err != nil || len(lists) == 0 {
		t.Fatal(lists, err)
	}
	profile, profiles := regexp.MustCompile(`(?m)^file etc/apparmor\.d/[^/ ]+ `), 0
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		if !profile.Match(data) {
			continue
		}
		profiles++
		if name := filepath.Base(filepath.Dir(list)); !slices.Contains(installed, name) {
			t.Errorf("no scenario of scripts/vmtest tries the profiles of %s", name)
		}
	}
	if profiles != len(installed) {
		t.Errorf("%d packages have profiles, %d are installed", profiles, len(installed))
	}
}
