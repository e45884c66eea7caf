// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import "whonix-networking/pkg/nft"

// template is the ruleset of a Qubes template, of whatever role: a template
// has no network but the updates proxy on loopback, and that only for its
// checker until the checker has seen that the proxy is torified (D11).
func (r *rules) template() {
	r.workstationTables()
	r.invalid(input, nft.Drop{})
	r.add(input, nft.Accept{}, nft.IIfName{Interface: loopback})
	r.add(input, nft.Accept{}, nft.CTState{"established"})
	r.inputReject()
	r.add(forward, nft.Drop{})
	r.invalidOutput()
	r.templateProxy()
	r.add(output, nft.Accept{}, nft.OIfName{Interface: loopback})
	r.add(output, nft.Reject{})
}

func (r *rules) templateProxy() {
	s := r.s
	if !s.Timesync && s.SecureProxySeen {
		return
	}
	proxy := tcp(nft.Port(s.UpdatesProxyPort))
	onLoopback := nft.OIfName{Interface: loopback}
	if !s.Timesync && s.UpdatesCheck != nil {
		r.add(output, nft.Accept{}, onLoopback, proxy, nft.SKUID{User: *s.UpdatesCheck})
	}
	r.add(output, nft.Reject{}, onLoopback, proxy)
}
