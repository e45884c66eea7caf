// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"strings"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const torrcMax = 1 << 20

// torEnabled reports whether Tor's configuration lets it use the network: the
// last DisableNetwork decides; there is none in a Qubes template.
func torEnabled(root fsx.Root) bool {
	if root.Exists(whonix.TemplateMarker) {
		return true
	}
	files := []string{"/usr/share/tor/tor-service-defaults-torrc", "/etc/tor/torrc"}
	for _, dir := range []string{"/etc/torrc.d", "/usr/local/etc/torrc.d"} {
		more, err := root.ConfFiles(dir, "")
		if err == nil {
			files = append(files, more...)
		}
	}
	enabled := true
	for _, path := range files {
		data, err := root.ReadFile(path, torrcMax)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			if len(f) == 2 && strings.EqualFold(f[0], "DisableNetwork") && (f[1] == "0" || f[1] == "1") {
				enabled = f[1] == "0"
			}
		}
	}
	return enabled
}
