// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
)

// unavailable says why isolation cannot be had here.
type unavailable struct{ error }

func (u *unavailable) Unwrap() error { return u.error }

// available makes a namespace ready, and lets it go. The error says why
// isolation cannot be had here.
func available(ctx context.Context) error {
	if _, err := execx.Find(fsx.Host, "nsenter"); err != nil {
		return errors.New("nsenter is not installed (package util-linux)")
	}
	if _, err := execx.Find(fsx.Host, "nft"); err != nil {
		return nft.ErrNoNft
	}
	ns, handed, err := makeNamespaces(ctx)
	for _, f := range []*os.File{ns.user, ns.net, ns.mount} {
		if f != nil {
			f.Close()
		}
	}
	for _, f := range handed {
		f.Close()
	}
	return err
}

// explain says why the kernel does not make the namespaces.
func explain(err error) error {
	text := func(path string) string {
		const sizeMax = 64
		data, _ := fsx.Host.ReadFile(path, sizeMax)
		return strings.TrimSpace(string(data))
	}
	const sysctl = "/proc/sys/"
	switch {
	case text(sysctl+"kernel/unprivileged_userns_clone") == "0" && os.Geteuid() != 0:
		return errors.New("user namespaces are for root only here (kernel.unprivileged_userns_clone = 0)")
	case text(sysctl+"user/max_user_namespaces") == "0":
		return errors.New("user namespaces are switched off (user.max_user_namespaces = 0)")
	case text(sysctl+"user/max_net_namespaces") == "0":
		return errors.New("network namespaces are switched off (user.max_net_namespaces = 0)")
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("the kernel refuses user namespaces here: in a chroot, a sandbox, or by a security module (%w)", err)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EUSERS):
		return fmt.Errorf("too many namespaces: %w", err)
	}
	return fmt.Errorf("new namespaces: %w", err)
}
