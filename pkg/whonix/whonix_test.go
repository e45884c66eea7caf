// SPDX-License-Identifier: GPL-3.0-or-later

package whonix

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
)

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		markers []string
		want    Machine
	}{
		{nil, Machine{}},
		{[]string{GatewayMarker}, Machine{Role: Gateway}},
		{[]string{WorkstationMarker}, Machine{Role: Workstation}},
		{[]string{HostMarker}, Machine{Role: Host}},
		{[]string{HostMarker2020}, Machine{Role: Host}},
		{[]string{HostMarker, WorkstationMarker, GatewayMarker}, Machine{Role: Gateway}},
		{[]string{HostMarker, WorkstationMarker}, Machine{Role: Workstation}},
		{[]string{QubesMarker, TemplateMarker, GatewayMarker}, Machine{Role: Gateway, Qubes: true, Template: true}},
		{[]string{NetVMMarker}, Machine{NetVM: true}},
		{[]string{ProxyVMMarker}, Machine{NetVM: true}},
	} {
		root := fsx.Root(t.TempDir())
		for _, m := range c.markers {
			if err := os.MkdirAll(filepath.Dir(root.Path(m)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(root.Path(m), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := Detect(root); got != c.want {
			t.Errorf("%v: %+v", c.markers, got)
		}
	}
	root := fsx.Root(t.TempDir())
	if err := os.MkdirAll(root.Path(GatewayMarker), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := Detect(root); got.Role != RoleNone {
		t.Errorf("a directory is a marker: %v", got.Role)
	}
}

// TestSocksPorts are the 22 ports of the contract, ascending.
func TestSocksPorts(t *testing.T) {
	var ports []string
	for _, p := range SocksPorts() {
		ports = append(ports, fmt.Sprint(p.Port))
		if p.Name == "" || p.Purpose == "" {
			t.Errorf("%d has no name or purpose", p.Port)
		}
	}
	const want = "9050 9100 9101 9102 9103 9104 9105 9106 9107 9108 9109 9110 9111 9114 9115 9117 9118 9122 9123 9124 9125 9150"
	if got := strings.Join(ports, " "); got != want {
		t.Errorf("%s", got)
	}
}
