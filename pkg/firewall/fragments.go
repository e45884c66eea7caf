// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"slices"
	"strings"

	"whonix-networking/pkg/confd"
)

// configDirs are the directories of fragments, in order.
func configDirs() []string {
	return []string{"/etc/whonix_firewall.d", "/usr/local/etc/whonix_firewall.d"}
}

// oldConfigDir was read between the two until 2023.
const oldConfigDir = "/rw/config/whonix_firewall.d"

// variables evaluates the fragments.
func (r *run) variables(ctx context.Context) (Variables, error) {
	if old, _ := r.root.ConfFiles(oldConfigDir, ".conf"); len(old) > 0 {
		r.log.warn(old[0] + ": files in " + oldConfigDir + " are not read any more; move them to " + configDirs()[1])
	}
	if _, ok := r.env.Lookup("nftables_cmd"); ok {
		r.log.warn("environment: nftables_cmd is ignored")
	}
	res, err := confd.Evaluate(ctx, r.fragmentOptions())
	if err != nil {
		return nil, err
	}
	vars := make(Variables, len(res.Vars))
	for name, v := range res.Vars {
		w := Variable{Text: v.Text, Parts: make([]Part, len(v.Parts))}
		for i, p := range v.Parts {
			w.Parts[i] = Part{Text: p.Text, Origin: p.Origin.String()}
		}
		vars[name] = w
	}
	return vars, nil
}

func (r *run) fragmentOptions() confd.Options {
	return confd.Options{
		Root:           r.root,
		Dirs:           configDirs(),
		Shell:          confd.Shell{Errexit: true, Nounset: true, Pipefail: true, Errtrace: true, Nullglob: true},
		Stderr:         r.env.Stderr,
		Environ:        r.env.Environ,
		RefuseVariable: refusedVariable,
		RefuseFunction: refusedFunction,
		AnyOwner:       r.euid != 0,
		Account:        r.account,
		QubesDB:        r.qubesDB,
	}
}

// refusedVariable: internals of the original, which some files set to change
// what it does. They cannot be honoured, and must not be dropped silently.
func refusedVariable(name string) string {
	switch name {
	case "dry_run", "source_only", "info_enabled", "firewall_mode_cli":
		return "it is set by an option of the command line only"
	case "firewall_mode_detected":
		return "it is an outcome; set firewall_mode instead"
	case "firewall_dir", "firewall_script", "nftables_cmd":
		return "it is no setting"
	}
	return ""
}

// refusedFunction: functions of the original that some files replace.
func refusedFunction(name string) string {
	internals := strings.Fields(`variables_defaults nft_defaults qubes qubes_dns nft_input_rules nft_input_defaults
		nft_forward nft_output nft_check nft_load status_files main`)
	if slices.Contains(internals, name) || strings.HasSuffix(name, "_gateway") {
		return "rules can no longer be changed by replacing the firewall's functions"
	}
	return ""
}
