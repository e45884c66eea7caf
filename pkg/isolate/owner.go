// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// diagnosticLimit is how long the kernel may take to answer: it does so at
// once, or not at all where it lacks the module tcp_diag.
const diagnosticLimit = time.Second

// diagnostic asks the kernel about sockets of the namespace, see sock_diag(7).
type diagnostic struct {
	mu     sync.Mutex
	socket *os.File
	number uint32
}

func newDiagnostic(socket *os.File) (*diagnostic, error) {
	tv := unix.NsecToTimeval(diagnosticLimit.Nanoseconds())
	fd := int(socket.Fd())
	return &diagnostic{socket: socket}, errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
}

// inode is the number of the TCP socket that is connected from one address to
// another, as its owner sees them.
func (d *diagnostic) inode(from, to netip.AddrPort) (uint32, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.number++
	fd := int(d.socket.Fd())
	query := socketQuery(d.number, from, to)
	if err := retry(func() error { return unix.Sendto(fd, query, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return 0, err
	}
	answer := make([]byte, os.Getpagesize())
	for {
		var n int
		err := retry(func() (err error) { n, _, err = unix.Recvfrom(fd, answer, 0); return err })
		if err != nil {
			return 0, err
		}
		if n >= unix.NLMSG_HDRLEN && binary.NativeEndian.Uint32(answer[8:]) == d.number {
			return socketInode(answer[:n])
		} // else it is late, for one that was given up
	}
}

// diagByFamily is SOCK_DIAG_BY_FAMILY of <linux/sock_diag.h>.
const diagByFamily = 20

// socketQuery is struct inet_diag_req_v2 of <linux/inet_diag.h>, for exactly
// one socket.
func socketQuery(number uint32, from, to netip.AddrPort) []byte {
	b := newRequest(diagByFamily, 0)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	family := byte(unix.AF_INET6)
	if to.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	const everyState, noCookie = ^uint32(0), ^uint32(0)
	b = binary.NativeEndian.AppendUint32(b, everyState)
	b = binary.BigEndian.AppendUint16(b, from.Port())
	b = binary.BigEndian.AppendUint16(b, to.Port())
	for _, a := range []netip.Addr{from.Addr(), to.Addr()} {
		var field [16]byte
		copy(field[:], a.Unmap().AsSlice())
		b = append(b, field[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, 0) // any interface
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint32(b[8:], number)
	return b
}

// socketInode reads struct inet_diag_msg.
func socketInode(answer []byte) (uint32, error) {
	const inodeAt, size = unix.NLMSG_HDRLEN + 68, unix.NLMSG_HDRLEN + 72
	if kind := binary.NativeEndian.Uint16(answer[4:]); kind == unix.NLMSG_ERROR && len(answer) >= unix.NLMSG_HDRLEN+4 {
		return 0, fmt.Errorf("find a socket: %w", unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:]))))
	} else if kind != diagByFamily || len(answer) < size {
		return 0, errors.New("unexpected answer of the kernel")
	}
	inode := binary.NativeEndian.Uint32(answer[inodeAt:])
	if inode == 0 {
		return 0, errors.New("the socket has no owner any more")
	}
	return inode, nil
}
