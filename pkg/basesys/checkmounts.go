// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"slices"
	"strings"

	"whonix-networking/pkg/fsx"
)

// mountOptions are the options by mount point, see proc_pid_mountinfo(5): those of
// the mount, and of the file system. Of several at one point the last is on top.
func mountOptions(root fsx.Root) map[string]string {
	mounts := map[string]string{}
	data, _ := root.ReadFile("/proc/self/mountinfo", 16*fileMax)
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		n := slices.Index(f, "-")
		if len(f) < 7 || n < 6 || n+3 >= len(f) {
			continue
		}
		mounts[strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(f[4])] = f[5] + "," + f[n+3]
	}
	return mounts
}

// mountFinding wants every option; what is there besides does not matter.
func (i *inspector) mountFinding(s setting) finding {
	options, ok := i.mounts[s.name]
	if !ok {
		return found(s, s.wanted, "no mount", "")
	}
	have := strings.Split(options, ",")
	for _, want := range strings.Split(s.wanted, ",") {
		// 2 is what the kernel called it before it had words.
		if !slices.Contains(have, want) && (want != "hidepid=invisible" || !slices.Contains(have, "hidepid=2")) {
			return found(s, s.wanted, "no "+want, "")
		}
	}
	return found(s, s.wanted, s.wanted, "")
}
