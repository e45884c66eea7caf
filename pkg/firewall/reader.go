// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"errors"
	"fmt"
	"strings"

	"whonix-networking/pkg/nft"
)

// itemsMax bounds the items of one list; the largest list anybody needs has
// some dozens.
const itemsMax = 4096

// reader turns variables into typed values. The first error stays, and names
// the assignment at fault.
type reader struct {
	vars     Variables
	text     map[string]string // effective values: configured, or the default
	facts    *Facts
	warnings []string
	err      error
}

func (r *reader) fail(name, item string, err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s: %s %w", r.vars[name].where(item), name, quote(item), err)
	}
}

func (r *reader) warn(name, format string, args ...any) {
	r.warnings = append(r.warnings, fmt.Sprintf("%s: %s: ", r.vars[name].where(""), name)+fmt.Sprintf(format, args...))
}

// quoteMax is how much of a value an error shows.
const quoteMax = 64

// quote shows an item on one line, however long and strange it is.
func quote(item string) string {
	if len(item) > quoteMax {
		return fmt.Sprintf("%q... (%d bytes)", item[:quoteMax], len(item))
	}
	return fmt.Sprintf("%q", item)
}

// items splits a list into what the shell would, after the forms of iptables
// that users' files still have.
func (r *reader) items(name string, separators string) []string {
	text := r.text[name]
	if separators != "" {
		text = strings.Map(func(c rune) rune {
			if strings.ContainsRune(separators, c) {
				return ' '
			}
			return c
		}, text)
	}
	list := words(text)
	if len(list) > itemsMax {
		r.fail(name, text, fmt.Errorf("has %d items, more than %d", len(list), itemsMax))
		return nil
	}
	return list
}

// is reports a switch that is on exactly when its value is on.
func (r *reader) is(name, on string) bool {
	text := r.text[name]
	switch strings.ToLower(text) {
	case "", "0", "false", "no", "off":
		return false
	}
	switch {
	case text == on:
		return true
	case plausibleSwitch(text):
		r.warn(name, "%s does not switch it on, it stays off; write %s=%s to switch it on", quote(text), name, on)
	case strings.TrimSpace(text) != "":
		r.fail(name, text, fmt.Errorf("is not a value for a switch: %s=%s switches it on", name, on))
	}
	return false
}

// plausibleSwitch tells a value somebody may have meant as on or off from
// garbage.
func plausibleSwitch(text string) bool {
	const wordMax, digitsMax = 8, 3
	letters, digits := 0, 0
	for i := range len(text) {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			letters++
		default:
			return false
		}
	}
	return digits == 0 && letters <= wordMax || letters == 0 && digits <= digitsMax
}

// tunnelSwitch reads a switch whose user must not believe it is on when it is
// off (D15): anything that is not plainly on or off is an error.
func (r *reader) tunnelSwitch(name string) bool {
	switch text := r.text[name]; strings.ToLower(text) {
	case "1", "true", "yes", "on":
		return true
	case "", "0", "false", "no", "off":
		return false
	default:
		r.fail(name, text, errors.New("is neither on (1, true, yes, on) nor off (0, false, no, off)"))
		return false
	}
}

func (r *reader) port(name string) uint16 {
	p, err := nft.ParsePorts(r.text[name], r.facts.Service)
	if err == nil && p.First != p.Last {
		err = errors.New("is a range, one port is needed")
	}
	if err != nil {
		r.fail(name, r.text[name], err)
	}
	return p.First
}

func (r *reader) ports(name string) []nft.Ports {
	var out []nft.Ports
	for _, item := range r.items(name, ",") {
		p, err := nft.ParsePorts(item, r.facts.Service)
		if err != nil {
			r.fail(name, item, err)
			return nil
		}
		out = append(out, p)
	}
	return out
}

// Address families a list of networks may hold.
const (
	onlyIPv4  = "ip"
	onlyIPv6  = "ip6"
	anyFamily = ""
)

func (r *reader) nets(name, family string) []nft.Net {
	var out []nft.Net
	for _, item := range r.items(name, ",") {
		n, err := r.net(item, family)
		if err != nil {
			r.fail(name, item, err)
			return nil
		}
		out = append(out, n)
	}
	return out
}

func (r *reader) net(item, family string) (nft.Net, error) {
	n, err := nft.ParseNet(item)
	switch {
	case err != nil:
		return n, err
	case family == onlyIPv4 && n.Family() != family:
		return n, errors.New("is an IPv6 network, this list is for IPv4")
	case family == onlyIPv6 && n.Family() != family:
		return n, errors.New("is an IPv4 network, this list is for IPv6")
	case n.Everything():
		return n, errors.New("is every address there is; name the networks that are meant")
	}
	return n, nil
}

// addr reads exactly one address.
func (r *reader) addr(name, family string) nft.Net {
	n, err := r.net(r.text[name], family)
	if err == nil && n.First != n.Last {
		err = errors.New("is a network, one address is needed")
	}
	if err != nil {
		r.fail(name, r.text[name], err)
	}
	return n
}

func (r *reader) interfaces(name string) []nft.Interface {
	var out []nft.Interface
	for _, item := range r.items(name, "") {
		i, err := nft.ParseInterface(item)
		if err != nil {
			r.fail(name, item, err)
			return nil
		}
		out = append(out, i)
	}
	return out
}

func (r *reader) oneInterface(name string) nft.Interface {
	list := r.interfaces(name)
	if r.err == nil && len(list) != 1 {
		r.fail(name, r.text[name], errors.New("must be one interface name"))
	}
	if len(list) != 1 {
		return nft.Interface{}
	}
	return list[0]
}

func (r *reader) users(name string) []nft.User {
	var out []nft.User
	for _, item := range r.items(name, "") {
		u, err := nft.ParseUser(item, r.facts.Account)
		if err != nil {
			r.fail(name, item, err)
			return nil
		}
		out = append(out, u)
	}
	return out
}

// user reads one account; nil stands for an empty value, an account that does
// not exist on this machine.
func (r *reader) user(name string) *nft.User {
	list := r.users(name)
	switch {
	case len(list) == 1:
		return &list[0]
	case len(list) > 1:
		r.fail(name, r.text[name], errors.New("must be one account"))
	}
	return nil
}
