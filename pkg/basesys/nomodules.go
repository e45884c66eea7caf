// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"context"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const noModulesHelp = `usage: %s
Keeps the kernel from loading modules, until it is started again. See
disable-kernel-module-loading(8).
  --version  print the version
`

const modulesDisabled = "/proc/sys/kernel/modules_disabled"

// NoModules is the program disable-kernel-module-loading.
func NoModules(_ context.Context, env cli.Env) error { return noModules(fsx.Host, env) }

func noModules(root fsx.Root, env cli.Env) error {
	if done, err := none(env, noModulesHelp); done {
		return err
	}
	f, err := os.OpenFile(root.Path(modulesDisabled), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("1\n")
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
