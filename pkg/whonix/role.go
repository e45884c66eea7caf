// SPDX-License-Identifier: GPL-3.0-or-later

// Package whonix holds what every tool must know alike: which machine this is,
// the addresses of the internal network, and the one port table.
package whonix

import "whonix-networking/pkg/fsx"

// Marker files: each is put in place by the package that makes a machine what
// it is. The host and Qubes markers have had two paths; both count.
const (
	GatewayMarker     = "/usr/share/anon-gw-base-files/gateway"
	WorkstationMarker = "/usr/share/anon-ws-base-files/workstation"
	HostMarker        = "/usr/share/libvirt-dist/marker"
	HostMarker2020    = "/usr/share/whonix-libvirt/marker"
	QubesMarker       = "/usr/share/qubes/marker-vm"
	TemplateMarker    = "/run/qubes/this-is-templatevm"
	NetVMMarker       = "/run/qubes/this-is-netvm"
	ProxyVMMarker     = "/run/qubes/this-is-proxyvm"
)

// Role is what a machine does in the network.
type Role int

// The roles. RoleNone is a machine without any marker.
const (
	RoleNone Role = iota
	Gateway
	Workstation
	Host
)

// String names the role in lower case.
func (r Role) String() string {
	return [...]string{"none", "gateway", "workstation", "host"}[r]
}

// Machine is what the marker files say.
type Machine struct {
	Role     Role
	Qubes    bool // any Qubes virtual machine
	Template bool // a Qubes template: its network is the updates proxy alone
	NetVM    bool // a Qubes machine that gives others network (netvm, proxyvm)
}

// Detect reads the marker files below root. Where several role markers are
// there, the gateway's counts first, then the workstation's, then the host's.
func Detect(root fsx.Root) Machine {
	m := Machine{
		Qubes:    root.IsFile(QubesMarker),
		Template: root.IsFile(TemplateMarker),
		NetVM:    root.Exists(NetVMMarker) || root.Exists(ProxyVMMarker),
	}
	switch {
	case root.IsFile(GatewayMarker):
		m.Role = Gateway
	case root.IsFile(WorkstationMarker):
		m.Role = Workstation
	case root.IsFile(HostMarker), root.IsFile(HostMarker2020):
		m.Role = Host
	}
	return m
}
