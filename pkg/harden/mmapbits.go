// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"whonix-networking/pkg/cli"
)

const mmapUsage = `usage: mmap-rnd-bits [--help | --version]

Writes /etc/sysctl.d/30_security-misc_aslr-mmap.conf: as many random bits for
addresses of mappings as the newest kernel in /boot can have.
`

const (
	mmapDir  = "/etc/sysctl.d"
	mmapFile = mmapDir + "/30_security-misc_aslr-mmap.conf"
)

// mmapKey is one of the two values; usual is what a kernel of an architecture
// can have when its configuration does not tell, 0 if it has no such value.
type mmapKey struct {
	sysctl, option string
	usual          map[string]int
}

func mmapKeys() []mmapKey {
	return []mmapKey{
		{"vm.mmap_rnd_bits", "CONFIG_ARCH_MMAP_RND_BITS_MAX", map[string]int{"amd64": 32, "arm64": 33, "arm": 16, "386": 16}},
		{"vm.mmap_rnd_compat_bits", "CONFIG_ARCH_MMAP_RND_COMPAT_BITS_MAX", map[string]int{"amd64": 16, "arm64": 16}},
	}
}

// MmapRndBits is the program mmap-rnd-bits.
func MmapRndBits(_ context.Context, env cli.Env) error {
	return mmapRndBits(env, host(), runtime.GOARCH)
}

func mmapRndBits(env cli.Env, on system, arch string) error {
	if done, err := noArguments(env, "mmap-rnd-bits", mmapUsage); done || err != nil {
		return err
	}
	if !on.root.Exists(mmapDir) {
		return fmt.Errorf("the folder %s does not exist", mmapDir)
	}
	var config []byte
	name, err := newestConfig(on)
	if err == nil && name != "" {
		config, err = on.root.ReadFile(name, textMax)
	}
	switch {
	case err != nil:
		fmt.Fprintf(env.Stderr, "%s: ERROR: %v: using built-in defaults.\n", env.Args[0], err)
	case name == "":
		fmt.Fprintf(env.Stderr, "%s: INFO: No configuration of a kernel in /boot: using built-in defaults.\n", env.Args[0])
	}
	text := mmapText(env.Stderr, env.Args[0], config, arch, func(key string) bool { return on.root.Exists(sysctlPath(key)) })
	if err := on.root.WriteAtomic(mmapFile, []byte(text), fileMode); err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "%s: INFO: Successfully written ASLR map config file:\n%s\n", env.Args[0], mmapFile)
	return nil
}

// mmapText is the file's content. A value that the running kernel lacks is left
// out; without /proc nothing is known of it.
func mmapText(stderr io.Writer, called string, config []byte, arch string, has func(sysctl string) bool) string {
	var b strings.Builder
	b.WriteString("# SPDX-License-Identifier: GPL-3.0-or-later\n#\n# Written by mmap-rnd-bits(8), anew with each kernel: changes are lost.\n\n")
	keys := mmapKeys()
	known := has(keys[0].sysctl)
	for _, k := range keys {
		if known && !has(k.sysctl) {
			continue
		}
		bits, found := option(config, k.option)
		if !found {
			bits = k.usual[arch]
			if config != nil && bits > 0 {
				fmt.Fprintf(stderr, "%s: ERROR: no %s in the kernel's configuration: using the built-in default %d.\n", called, k.option, bits)
			}
		}
		if bits > 0 {
			fmt.Fprintf(&b, "%s=%d\n", k.sysctl, bits)
		}
	}
	return b.String()
}

// option reads NAME=NUMBER from a kernel's configuration.
func option(config []byte, name string) (int, bool) {
	const bitsMax = 64
	for line := range bytes.Lines(config) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(string(line)), name+"="); ok {
			if n, err := strconv.Atoi(value); err == nil && n > 0 && n < bitsMax {
				return n, true
			}
		}
	}
	return 0, false
}

// newestConfig is the configuration of the newest kernel, by its version: times
// of files say when they were unpacked.
func newestConfig(on system) (string, error) {
	const dir, prefix = "/boot", "config-"
	files, err := on.root.ConfFiles(dir, "")
	if err != nil {
		return "", err
	}
	files = slices.DeleteFunc(files, func(f string) bool {
		return !strings.HasPrefix(f, dir+"/"+prefix) || !on.root.IsFile(f)
	})
	if len(files) == 0 {
		return "", nil
	}
	return slices.MaxFunc(files, compareVersions), nil
}

// compareVersions orders names with numbers in them: 6.1.0-9 before 6.1.0-10.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		digitsA, digitsB := digits(a), digits(b)
		if digitsA == 0 || digitsB == 0 {
			if a[0] != b[0] {
				return cmp.Compare(a[0], b[0])
			}
			a, b = a[1:], b[1:]
			continue
		}
		x, y := strings.TrimLeft(a[:digitsA], "0"), strings.TrimLeft(b[:digitsB], "0")
		if c := cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(x, y)); c != 0 {
			return c
		}
		a, b = a[digitsA:], b[digitsB:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many digits a text begins with.
func digits(s string) int {
	n := 0
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}
