// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// Where APT is told of the Tor Project's packages, see sources.list(5).
const (
	sourcesPath     = "/etc/apt/sources.list.d/torproject.sources"
	sourcesPath2020 = "/etc/apt/sources.list.d/torproject.list"
	dpkgStatus      = "/var/lib/dpkg/status"
)

const infoHelp = `usage: %s
Shows where Tor's packages come from, and which version is installed. See
anon-info(8).
`

// Info is the program anon-info.
func Info(_ context.Context, env cli.Env) error {
	if done, err := plain(env, infoHelp); done {
		return err
	}
	return info(fsx.Host, env)
}

func info(root fsx.Root, env cli.Env) error {
	path := sourcesPath
	if !root.Exists(path) && root.Exists(sourcesPath2020) {
		path = sourcesPath2020
	}
	data, err := root.ReadFile(path, configMax)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(env.Stdout, "INFO: %s does not exist.\n", path)
	case err != nil:
		return err
	default:
		fmt.Fprintf(env.Stdout, "INFO: %s uncommented lines:\n", path)
		for _, line := range sources(string(data), path == sourcesPath) {
			fmt.Fprintln(env.Stdout, strings.Map(printable, line))
		}
	}
	version, err := installedVersion(root, "tor")
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "INFO: version of the 'tor' package: %s\n", version)
	return nil
}

// sources are the lines that count: of a deb822 file those that say where
// packages come from, and whether they do (defect 46).
func sources(text string, deb822 bool) []string {
	var out []string
	shown := []string{"types", "uris", "suites", "components", "enabled"}
	continued := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		trimmed := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(trimmed, "#"):
		case !deb822:
			if trimmed != "" {
				out = append(out, line)
			}
		case trimmed == "":
			continued = false
			if len(out) > 0 && out[len(out)-1] != "" {
				out = append(out, "") // between stanzas
			}
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			if continued {
				out = append(out, line)
			}
		default:
			field, _, _ := strings.Cut(line, ":")
			if continued = slices.Contains(shown, strings.ToLower(strings.TrimSpace(field))); continued {
				out = append(out, line)
			}
		}
	}
	if len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// installedVersion reads dpkg's database.
func installedVersion(root fsx.Root, name string) (string, error) {
	const statusMax = 256 << 20
	data, err := root.ReadFile(dpkgStatus, statusMax)
	if err != nil {
		return "", err
	}
	const none = "not installed"
	_, rest, ok := strings.Cut("\n\n"+string(data), "\n\nPackage: "+name+"\n")
	if !ok {
		return none, nil
	}
	stanza, _, _ := strings.Cut(rest, "\n\n")
	installed, version := false, none
	for line := range strings.Lines(stanza) {
		line = strings.TrimRight(line, "\n")
		installed = installed || strings.HasPrefix(line, "Status: ") && strings.HasSuffix(line, " installed")
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			version = v
		}
	}
	if !installed {
		return none, nil
	}
	return version, nil
}
