// SPDX-License-Identifier: GPL-3.0-or-later

package sd

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
)

// firstListen is SD_LISTEN_FDS_START.
const firstListen = 3

// Listen returns the descriptors that the service manager has passed, in order,
// each named as in FileDescriptorName=; see sd_listen_fds_with_names(3). What is
// meant for another process does not count. They are closed on exec.
func Listen(env cli.Env) []*os.File {
	if pid, _ := env.Lookup("LISTEN_PID"); pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	text, _ := env.Lookup("LISTEN_FDS")
	count, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil
	}
	all, _ := env.Lookup("LISTEN_FDNAMES")
	names := strings.Split(all, ":")
	files := make([]*os.File, count)
	for i := range files {
		name := "unknown"
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		unix.CloseOnExec(firstListen + i)
		files[i] = os.NewFile(uintptr(firstListen+i), name)
	}
	return files
}
