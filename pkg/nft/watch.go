// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Watch is a subscription to changes of the ruleset in the network namespace
// of the thread that opened it.
type Watch struct{ fd int }

// OpenWatch subscribes to what the kernel tells about nftables.
func OpenWatch() (*Watch, error) {
	const group = 1 << (unix.NFNLGRP_NFTABLES - 1)
	fd, err := netfilterSocket(group)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &Watch{fd: fd}, nil
}

// FD is the descriptor to wait on for input, as with poll(2).
func (w *Watch) FD() int { return w.fd }

// Close ends the subscription.
func (w *Watch) Close() error { return unix.Close(w.fd) }

// Changed reads what has come in and reports whether one of the tables, or a
// chain in one, was created, changed or deleted since. It never waits. Where
// messages were lost it reports true: the caller must look for itself.
func (w *Watch) Changed(tables ...Table) (bool, error) {
	buf := make([]byte, 1<<16)
	changed := false
	for {
		n, _, err := unix.Recvfrom(w.fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return changed, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOBUFS):
			changed = true
		case err != nil:
			return changed, fmt.Errorf("netlink: %w", err)
		default:
			changed = concerns(buf[:n], tables) || changed
		}
	}
}

// concerns reports whether a message is about one of the tables. The table's
// name is the first attribute of messages about tables and chains alike.
func concerns(b []byte, tables []Table) bool {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	kinds := []uint16{subsystem | unix.NFT_MSG_DELTABLE, subsystem | unix.NFT_MSG_NEWCHAIN, subsystem | unix.NFT_MSG_DELCHAIN}
	found, err := eachMessage(b, func(kind uint16, _ uint32, body []byte) (bool, error) {
		if !slices.Contains(kinds, kind) {
			return false, nil
		}
		name, ok := attributeOf(body, unix.NFTA_TABLE_NAME)
		return !ok || slices.ContainsFunc(tables, func(t Table) bool {
			return t.Name == unix.ByteSliceToString(name) && familyNumber(t.Family) == body[0]
		}), nil
	})
	return found || err != nil // not understood: look
}
