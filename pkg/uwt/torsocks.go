// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"crypto/md5"
	"encoding/hex"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/fsx"
)

// Where Debian's torsocks is, and what dpkg(1) knows of it.
const (
	torsocksPath   = "/usr/bin/torsocks"
	torsocksDigest = "/var/lib/dpkg/info/torsocks.md5sums"
	libraryName    = "libtorsocks.so"
)

// library is what torsocks(1) would put into LD_PRELOAD. It is known where
// torsocks is the script that Debian ships, unchanged: then there is no need
// to run it, which takes some milliseconds, in Debian 13 tens of them. Else
// only the place of the library is told, for looking at it.
func (w *wrapper) library(torsocks []string) (value string, known bool) {
	value = libraryPath(fsx.Host)
	path := elfx.LookPath(torsocks[0], w.set.Vars["PATH"])
	if value == "" || len(torsocks) != 1 || path != torsocksPath && path != "/bin/torsocks" || !pristine(fsx.Host) {
		return value, false
	}
	if unix.Access(value, unix.R_OK) != nil {
		return value, false // torsocks says what is wrong
	}
	// Since Debian 13 the dynamic linker knows the library's directory, so that
	// its name alone serves programs of every architecture.
	if exists("/etc/ld.so.conf.d/torsocks-"+triplet()+".conf") && w.set.Vars["LD_LIBRARY_PATH"] == "" {
		value = libraryName
	}
	return value, true
}

// libraryPath is the library for programs of this one's architecture; empty
// if it is not there.
func libraryPath(root fsx.Root) string {
	p := "/usr/lib/" + triplet() + "/torsocks/" + libraryName
	if !root.IsFile(p) {
		return ""
	}
	return p
}

// triplet names the architecture in Debian's library directories.
func triplet() string {
	return map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]
}

// pristine reports whether torsocks is as its package has it. The digest is
// good enough against accident and administrators' edits, which is what it is
// for: who can write the one file can write the other.
func pristine(root fsx.Root) bool {
	const scriptMax, listMax = 1 << 20, 64 << 10
	script, err := root.ReadFile(torsocksPath, scriptMax)
	if err != nil {
		return false
	}
	list, err := root.ReadFile(torsocksDigest, listMax)
	if err != nil {
		return false
	}
	sum := md5.Sum(script)
	want := hex.EncodeToString(sum[:]) + "  " + strings.TrimPrefix(torsocksPath, "/")
	for line := range strings.Lines(string(list)) {
		if strings.TrimSpace(line) == want {
			return true
		}
	}
	return false
}
