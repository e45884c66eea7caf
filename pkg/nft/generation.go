// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Generation tells one state of the kernel's rulesets from every other: it
// changes with each transaction, whoever makes it.
type Generation struct {
	Namespace string // the network namespace
	ID        uint32
}

// CurrentGeneration asks the kernel, of the calling thread's namespace.
func CurrentGeneration() (g Generation, err error) {
	if g.Namespace, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
		return g, err
	}
	kind := uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN)
	answers, err := transact(1, message(kind, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 1, nfgenmsg(unix.AF_UNSPEC, 0)))
	if err != nil {
		return g, err
	}
	const genID = 1 // NFTA_GEN_ID
	for _, a := range answers {
		if id, ok := attributeOf(a.body, genID); ok && len(id) == 4 {
			g.ID = binary.BigEndian.Uint32(id)
			return g, nil
		}
	}
	return g, fmt.Errorf("the kernel names no generation of its ruleset: %w", errMalformed)
}

// Next reports whether just one transaction lies between g and later.
func (g Generation) Next(later Generation) bool {
	return g.Namespace == later.Namespace && g.ID+1 == later.ID
}
