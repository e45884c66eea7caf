// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import "net/netip"

// Verdict is what a rule does with the packets it matches.
type Verdict interface {
	nft() string
}

// The verdicts.
type (
	// Accept lets the packet go on.
	Accept struct{}
	// Drop forgets the packet.
	Drop struct{}
	// Reject answers with an ICMP error, a TCP segment too.
	Reject struct{}
	// RejectReset answers a TCP segment with a reset.
	RejectReset struct{}
	// Return leaves the chain; in a base chain its policy then holds.
	Return struct{}
	// Redirect sends the packet to the machine itself, to one of the ports To;
	// the zero value keeps the port.
	Redirect struct{ To Ports }
	// DNAT gives the packet another destination.
	DNAT struct{ To netip.AddrPort }
	// SetARPSender rewrites the sender address of an ARP packet and lets it go on.
	SetARPSender struct{ Addr netip.Addr }
)

func (Accept) nft() string      { return "accept" }
func (Drop) nft() string        { return "drop" }
func (Reject) nft() string      { return "reject" }
func (RejectReset) nft() string { return "reject with tcp reset" }
func (Return) nft() string      { return "return" }

func (v Redirect) nft() string {
	if v.To == (Ports{}) {
		return "redirect"
	}
	return "redirect to :" + v.To.Text
}

func (v DNAT) nft() string { return "dnat to " + v.To.String() }

func (v SetARPSender) nft() string { return "arp saddr ip set " + v.Addr.String() }
