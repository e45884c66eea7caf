// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// becomeBound runs a program that is to listen on the machine's own address.
// done is false where there is no such address: then the program listens where
// it chooses. Rewriting to 127.0.0.1, as the original does, would cut it off
// (U23).
func (w *wrapper) becomeBound() (done bool, err error) {
	if w.set.Vars[varBindAddr] == "" {
		name := w.set.or("bindp_interface", "eth0")
		address, err := interfaceAddress(name)
		if err != nil {
			w.trace("%s: %v", name, err)
			fmt.Fprintf(w.env.Stderr, "uwtwrapper: WARNING: no IPv4 address on '%s'; '%s' listens where it chooses.\n", name, w.parent)
			return false, nil
		}
		w.setEnv(varBindAddr, address)
	}
	w.setEnv(varBindAddr, w.set.Vars[varBindAddr])
	args := w.env.Args[1:]
	uwtexec := words(w.set.or("uwtexec_bin", uwtexecPath))
	if library := w.set.or("bindp_so", bindpLibrary); library != bindpLibrary {
		w.setEnv(varPreload, w.set.Vars[varPreload]+" "+library)
		return true, w.chained(append(uwtexec, args...))
	}
	argv := []string{bindpPath, "--argv0=" + w.zeroarg, "--", w.program()}
	return true, w.replace(bindpPath, append(argv, args...), w.environ())
}

// interfaceAddress is the first IPv4 address of an interface, or that of an
// address label such as eth0:1; see netdevice(7).
func interfaceAddress(name string) (string, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFADDR, request); err != nil {
		return "", err
	}
	address, err := request.Inet4Addr()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d.%d.%d", address[0], address[1], address[2], address[3]), nil
}
