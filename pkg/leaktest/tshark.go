// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const tsharkPath = "/usr/bin/tshark"

// runTshark shows packets by tshark as the account user. What it needs to
// capture it gets for this one time: nothing is left on the disk (defect 22).
func (g *gatewayTest) runTshark(ctx context.Context, root fsx.Root) error {
	filter, err := tsharkFilter(g.device)
	if err != nil {
		return err
	}
	cmd := exec.Command(root.Path(tsharkPath), "-i", g.device, "-f", filter)
	cmd.Stdout, cmd.Stderr = g.env.Stdout, g.env.Stderr
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/nonexistent"}
	if cmd.SysProcAttr, err = asUser(root); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return cli.WithHint(err, "install the package tshark, or leave out --tshark")
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(unix.SIGINT) })
	defer stop()
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil // it was told to end
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("%s: %w", tsharkPath, err)
}

// asUser is the account user, with the rights to capture.
func asUser(root fsx.Root) (*syscall.SysProcAttr, error) {
	list, err := passwd(root)
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if a.name == "user" {
			return &syscall.SysProcAttr{
				Credential:  &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)},
				AmbientCaps: []uintptr{unix.CAP_NET_RAW, unix.CAP_NET_ADMIN},
			}, nil
		}
	}
	return nil, cli.WithHint(errors.New("/etc/passwd: there is no account user to run tshark as"), "leave out --tshark")
}

// tsharkFilter is the original's, for all addresses of the interface.
func tsharkFilter(device string) (string, error) {
	i, err := net.InterfaceByName(device)
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", device, err)
	}
	list, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("interface %s: %w", device, err)
	}
	var hosts []string
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok {
			hosts = append(hosts, "src host "+n.IP.String())
		}
	}
	if hosts == nil {
		return "", fmt.Errorf("interface %s has no address", device)
	}
	return "(" + strings.Join(hosts, " or ") + ") and not (port 80 or port 443 or port 9001 or port 9030 or port 22)", nil
}
