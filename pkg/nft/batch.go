// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Verdicts of <linux/netfilter.h> as policies.
const (
	policyDrop   = 0
	policyAccept = 1
)

// familyNumber maps nft(8)'s address families to the kernel's.
func familyNumber(family string) uint8 {
	switch family {
	case "inet":
		return unix.NFPROTO_INET
	case "ip6":
		return unix.NFPROTO_IPV6
	case "arp":
		return unix.NFPROTO_ARP
	}
	return unix.NFPROTO_IPV4
}

// hookNumber maps hooks to enum nf_inet_hooks, or for ARP to NF_ARP_IN and
// NF_ARP_OUT.
func hookNumber(family, hook string) (uint32, error) {
	hooks := []string{"prerouting", "input", "forward", "output", "postrouting"}
	if family == "arp" {
		hooks = []string{"input", "output"}
	}
	n := slices.Index(hooks, hook)
	if n < 0 {
		return 0, fmt.Errorf("no such hook of family %s: %s", family, hook)
	}
	return uint32(n), nil
}

// LoadNetlink applies a script of tables and chains, without rules, as one
// transaction over netlink: the way to shut everything where nft(8) itself is
// missing (D5). Deleting a table that does not exist is no error if the script
// adds it before.
func LoadNetlink(script Script) error {
	const begin, end = unix.NFNL_MSG_BATCH_BEGIN, unix.NFNL_MSG_BATCH_END
	seq := uint32(1)
	batch := message(begin, unix.NLM_F_REQUEST, seq, nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))
	for _, st := range script {
		seq++
		m, err := statementMessage(st, seq)
		if err != nil {
			return err
		}
		batch = append(batch, m...)
	}
	last := seq
	batch = append(batch, message(end, unix.NLM_F_REQUEST, seq+1, nfgenmsg(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES))...)
	if _, err := transact(last, batch); err != nil {
		return fmt.Errorf("the kernel refused the ruleset, nothing was changed: %w", err)
	}
	return nil
}

func statementMessage(st Statement, seq uint32) ([]byte, error) {
	const subsystem = unix.NFNL_SUBSYS_NFTABLES << 8
	const flags = unix.NLM_F_REQUEST | unix.NLM_F_ACK
	switch st := st.(type) {
	case AddTable:
		payload := append(nfgenmsg(familyNumber(st.Table.Family), 0), stringAttribute(unix.NFTA_TABLE_NAME, st.Table.Name)...)
		return message(subsystem|unix.NFT_MSG_NEWTABLE, flags|unix.NLM_F_CREATE, seq, payload), nil
	case DeleteTable:
		payload := append(nfgenmsg(familyNumber(st.Table.Family), 0), stringAttribute(unix.NFTA_TABLE_NAME, st.Table.Name)...)
		return message(subsystem|unix.NFT_MSG_DELTABLE, flags, seq, payload), nil
	case AddChain:
		payload, err := chainPayload(st)
		return message(subsystem|unix.NFT_MSG_NEWCHAIN, flags|unix.NLM_F_CREATE, seq, payload), err
	}
	return nil, errors.New("only tables and chains can be loaded without nft")
}

func chainPayload(c AddChain) ([]byte, error) {
	p := nfgenmsg(familyNumber(c.Chain.Table.Family), 0)
	p = append(p, stringAttribute(unix.NFTA_CHAIN_TABLE, c.Chain.Table.Name)...)
	p = append(p, stringAttribute(unix.NFTA_CHAIN_NAME, c.Chain.Name)...)
	if c.Base == nil {
		return p, nil
	}
	hook, err := hookNumber(c.Chain.Table.Family, c.Base.Hook)
	if err != nil {
		return nil, err
	}
	nested := append(uint32Attribute(unix.NFTA_HOOK_HOOKNUM, hook), uint32Attribute(unix.NFTA_HOOK_PRIORITY, uint32(int32(c.Base.Priority)))...)
	p = append(p, attribute(unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, nested)...)
	policy := uint32(policyAccept)
	if c.Base.Policy == "drop" {
		policy = policyDrop
	}
	p = append(p, uint32Attribute(unix.NFTA_CHAIN_POLICY, policy)...)
	return append(p, stringAttribute(unix.NFTA_CHAIN_TYPE, c.Base.Type)...), nil
}

// ChainPolicy asks the kernel for a base chain's policy: accept or drop. It is
// empty if there is no such chain.
func ChainPolicy(c Chain) (string, error) {
	payload := nfgenmsg(familyNumber(c.Table.Family), 0)
	payload = append(payload, stringAttribute(unix.NFTA_CHAIN_TABLE, c.Table.Name)...)
	payload = append(payload, stringAttribute(unix.NFTA_CHAIN_NAME, c.Name)...)
	kind := uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETCHAIN)
	answers, err := transact(1, message(kind, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 1, payload))
	if errors.Is(err, unix.ENOENT) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("ask for chain %s: %w", c, err)
	}
	for _, a := range answers {
		if v, ok := attributeOf(a.body, unix.NFTA_CHAIN_POLICY); ok && len(v) == 4 {
			if binary.BigEndian.Uint32(v) == policyDrop {
				return "drop", nil
			}
			return "accept", nil
		}
	}
	return "", nil
}

// HasTable asks the kernel whether a table exists.
func HasTable(t Table) (bool, error) {
	payload := append(nfgenmsg(familyNumber(t.Family), 0), stringAttribute(unix.NFTA_TABLE_NAME, t.Name)...)
	kind := uint16(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETTABLE)
	_, err := transact(1, message(kind, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 1, payload))
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask for table %s: %w", t, err)
	}
	return true, nil
}
