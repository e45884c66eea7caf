// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
)

// lockdownScript shuts everything, loopback too: our tables without a rule,
// every filter chain dropping. What restricts ARP on a Gateway stays: the
// machine still answers it.
func lockdownScript(ipv6 bool) nft.Script {
	r := &rules{}
	if ipv6 {
		r.script = append(r.script, nft.AddTable{Table: nat6Table}, nft.DeleteTable{Table: nat6Table})
	}
	r.base(natTable, filterTable)
	r.filterChains()
	return r.script
}

// shutter shuts the network, by whatever way still works.
type shutter struct {
	root     fsx.Root
	nft      nft.Runner
	native   func(nft.Script) error
	linksOff func() error
}

func newShutter(root fsx.Root) *shutter {
	return &shutter{root: root, nft: nft.NewExec(root), native: nft.LoadNetlink, linksOff: linksDown}
}

// shut loads the lockdown ruleset: by nft(8), else over netlink, else by
// taking the links down (D5). It warns of each way that failed; an error says
// that the network may be open.
func (s *shutter) shut(ctx context.Context, env cli.Env) error {
	script := lockdownScript(s.root.Exists(ipv6Dir))
	byNft := nft.Load(ctx, s.nft, script.Bytes())
	if byNft == nil {
		return nil
	}
	env.Warnf("shutting the network over netlink, as nft cannot: %v", byNft)
	byNetlink := s.native(script)
	if byNetlink == nil {
		return nil
	}
	env.Warnf("shutting the network by taking its links down, as the kernel takes no ruleset: %v", byNetlink)
	byLinks := s.linksOff()
	if byLinks == nil {
		return nil
	}
	return fmt.Errorf("THE NETWORK MAY BE OPEN: %w", errors.Join(byNft, byNetlink, byLinks))
}

// linksDown sets every interface but loopback down.
func linksDown() error {
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("take links down: %w", err)
	}
	defer unix.Close(fd)
	var failed error
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		req, err := unix.NewIfreq(i.Name)
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req)
		}
		if err == nil {
			req.SetUint16(req.Uint16() &^ unix.IFF_UP)
			err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("take link %s down: %w", i.Name, err))
		}
	}
	return failed
}
