// SPDX-License-Identifier: GPL-3.0-or-later

package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"whonix-networking/pkg/whonix"
)

// torListens asks Tor over its control port what it listens at.
func torListens() attempt {
	return attempt{"listeners, asked over the control port", "those of the port table and no others", func(ctx context.Context, l *Lab) (string, bool) {
		r, ok := l.tor.(*realTor)
		if !ok {
			return "a " + l.opts.Tor + " has no control port", false
		}
		got, err := r.listeners(ctx)
		if err != nil {
			return err.Error(), false
		}
		want := tableListeners()
		for _, w := range want {
			if !slices.Contains(got, w) {
				return "none at " + w, false
			}
		}
		for _, g := range got {
			if !slices.Contains(want, g) {
				return "one at " + g, false
			}
		}
		return fmt.Sprintf("%d, as in the table", len(got)), len(got) == len(want)
	}}
}

// listenerKinds are Tor's names for what listens, by the port table's.
func listenerKinds() map[string]string {
	return map[string]string{"SocksPort": "socks", "HTTPTunnelPort": "httptunnel", "TransPort": "trans", "DnsPort": "dns"}
}

// tableListeners are the listeners that the Gateway's Tor should have: those
// of the table, and for controllers.
func tableListeners() []string {
	list := []string{"control " + join(whonix.LoopbackIP, whonix.TorControlPort), "control unix:/run/tor/control"}
	for _, line := range whonix.TorListeners(whonix.GatewayIP, whonix.GatewayIP6) {
		words := strings.Fields(line)
		list = append(list, listenerKinds()[words[0]]+" "+words[1])
	}
	return list
}

// listeners are what Tor says it listens at.
func (r *realTor) listeners(ctx context.Context) ([]string, error) {
	var list []string
	for _, kind := range []string{"control", "socks", "httptunnel", "trans", "dns", "natd", "or", "dir", "extor"} {
		text, err := r.control.GetInfo(ctx, "net/listeners/"+kind)
		if err != nil {
			return nil, fmt.Errorf("net/listeners/%s: %w", kind, err)
		}
		for _, quoted := range strings.Fields(text) {
			list = append(list, kind+" "+strings.Trim(quoted, `"`))
		}
	}
	return list, nil
}
