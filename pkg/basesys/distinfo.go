// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const distInfoHelp = `usage: %s
Says which build of the distribution this is, as lines that a shell can read. See
dist-info(8).
  --version  print the version
`

// versionFiles hold the version; the first that is there counts.
func versionFiles() []string {
	return []string{"/usr/share/whonix/build_timestamp", "/var/lib/anon-dist/build_version", "/var/lib/dist-base-files/build_version"}
}

// DistInfo is the program dist-info.
func DistInfo(_ context.Context, env cli.Env) error { return distInfo(fsx.Host, env) }

func distInfo(root fsx.Root, env cli.Env) error {
	if done, err := none(env, distInfoHelp); done {
		return err
	}
	for _, file := range versionFiles() {
		if !root.IsFile(file) {
			continue
		}
		data, err := root.ReadFile(file, fileMax)
		if err != nil {
			return err
		}
		fi, err := os.Stat(root.Path(file))
		if err != nil {
			return err
		}
		at := fi.ModTime()
		// Each is a word for a shell, whatever it contains (defect D-26).
		fmt.Fprintf(env.Stdout, "BUILD_VERSION=%s\nBUILD_UNIXTIME='%d'\nBUILD_TIME='%s'\n",
			alwaysQuoted(strings.TrimRight(string(data), "\n")), at.Unix(), at.Format(time.UnixDate))
		return nil
	}
	return cli.WithHint(errors.New("there is no build version"), "looked for %s", strings.Join(versionFiles(), ", "))
}

func alwaysQuoted(text string) string {
	return "'" + strings.ReplaceAll(printable(text), "'", `'\''`) + "'"
}
