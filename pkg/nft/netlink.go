// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// netlinkTimeout bounds the wait for the kernel's answer.
const netlinkTimeout = 5 * time.Second

// nfgenmsg is struct nfgenmsg of <linux/netfilter/nfnetlink.h>.
func nfgenmsg(family uint8, resource uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{family, unix.NFNETLINK_V0}, resource)
}

// message is one netlink message, see netlink(7).
func message(kind uint16, flags uint16, seq uint32, payload []byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(payload))
	binary.NativeEndian.PutUint32(b[0:], uint32(unix.NLMSG_HDRLEN+len(payload)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	return append(b, payload...)
}

// attribute is one netlink attribute, padded to 4 bytes.
func attribute(kind uint16, value []byte) []byte {
	const headerLen, align = 4, 4
	b := make([]byte, headerLen, headerLen+len(value)+align)
	binary.NativeEndian.PutUint16(b[0:], uint16(headerLen+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, value...)
	for len(b)%align != 0 {
		b = append(b, 0)
	}
	return b
}

func stringAttribute(kind uint16, text string) []byte {
	return attribute(kind, append([]byte(text), 0))
}

func uint32Attribute(kind uint16, n uint32) []byte {
	return attribute(kind, binary.BigEndian.AppendUint32(nil, n))
}

// netfilterSocket opens a netlink socket to netfilter in the calling thread's
// network namespace.
func netfilterSocket(groups uint32) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("netlink socket: %w", err)
	}
	tv := unix.NsecToTimeval(int64(netlinkTimeout))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}),
	)
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("netlink socket: %w", err)
	}
	return fd, nil
}

// answer is one message from the kernel: body is what follows the netlink
// header, beginning with struct nfgenmsg.
type answer struct {
	kind uint16
	body []byte
}

// transact sends messages and waits until the one numbered last is
// acknowledged. It returns what the kernel sent besides acknowledgements; the
// first refusal is the error.
func transact(last uint32, messages []byte) ([]answer, error) {
	fd, err := netfilterSocket(0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	var answers []answer
	buf := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("netlink: no answer from the kernel: %w", err)
		}
		done, err := eachMessage(buf[:n], func(kind uint16, seq uint32, body []byte) (bool, error) {
			if kind != unix.NLMSG_ERROR {
				answers = append(answers, answer{kind: kind, body: bytes.Clone(body)})
				return false, nil
			}
			return acknowledged(seq, last, body)
		})
		if done || err != nil {
			return answers, err
		}
	}
}

// acknowledged reads an NLMSG_ERROR: a refusal is the error, an
// acknowledgement of the message numbered last is the end.
func acknowledged(seq, last uint32, body []byte) (bool, error) {
	if len(body) < 4 {
		return false, errMalformed
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code != 0 {
		return false, fmt.Errorf("netlink: %w", unix.Errno(-code))
	}
	return seq == last, nil
}

var errMalformed = errors.New("netlink: malformed answer")

// eachMessage calls f for every netlink message in b, with the message's type,
// number and what follows its header, until f returns true or an error.
func eachMessage(b []byte, f func(kind uint16, seq uint32, body []byte) (bool, error)) (bool, error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, errMalformed
		}
		done, err := f(binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:size])
		if done || err != nil {
			return done, err
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return false, nil
}

// attributeOf finds an attribute behind struct nfgenmsg in a message's body.
func attributeOf(body []byte, kind uint16) ([]byte, bool) {
	const nfgenmsgLen, headerLen = 4, 4
	b := body[min(len(body), nfgenmsgLen):]
	for len(b) >= headerLen {
		size := int(binary.NativeEndian.Uint16(b))
		if size < headerLen || size > len(b) {
			return nil, false
		}
		if binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER) == kind {
			return b[headerLen:size], true
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return nil, false
}

// FlushConntrack forgets all tracked connections of the network namespace, of
// both families: what was established is established no more.
func FlushConntrack() error {
	const subsystem, deleteMsg = unix.NFNL_SUBSYS_CTNETLINK << 8, 2 // IPCTNL_MSG_CT_DELETE
	_, err := transact(1, message(subsystem|deleteMsg, unix.NLM_F_REQUEST|unix.NLM_F_ACK, 1, nfgenmsg(unix.AF_UNSPEC, 0)))
	if err != nil {
		return fmt.Errorf("forget tracked connections: %w", err)
	}
	return nil
}
