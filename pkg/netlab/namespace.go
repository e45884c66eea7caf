// SPDX-License-Identifier: GPL-3.0-or-later

// Package netlab builds small networks out of network namespaces on one
// machine: hosts and links, raw frames sent and captured, probes as any
// account, and a stand-in for Tor. Nothing of it is seen by the machine's own
// network, and nothing remains when a namespace is closed.
package netlab

import (
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Namespace is a network namespace of its own.
type Namespace struct {
	Name   string
	handle *os.File
}

// New creates a network namespace with loopback up. It lives until Close and
// the end of what runs in it.
func New(name string) (*Namespace, error) {
	n := &Namespace{Name: name}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return err
		}
		n.handle = f
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// Close lets the namespace go.
func (n *Namespace) Close() {
	if n.handle != nil {
		n.handle.Close()
		n.handle = nil
	}
}

// Do runs f on a thread that is in the namespace. Sockets opened by f stay in
// it; goroutines started by f are not in it.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.handle.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// As is Do with the account uid as the owner of the sockets that f opens: what
// the firewall sees as their account.
func (n *Namespace) As(uid int, f func() error) error {
	return n.Do(func() error {
		if err := unix.Setfsuid(uid); err != nil {
			return fmt.Errorf("become account %d: %w", uid, err)
		}
		return f()
	})
}

// onThread runs f on an operating system thread that ends with it, so that
// nothing f does to its thread can outlive it.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		done <- f()
	}()
	return <-done
}

// Sysctl sets a value of the namespace; name is a path below /proc/sys/net.
func (n *Namespace) Sysctl(name, value string) error {
	return n.Do(func() error { return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0) })
}
