// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// capture receives the frames that a machine sends, or those it gets.
type capture struct {
	file *os.File
	buf  []byte
	lost uint32 // frames that the kernel had no room for
}

// direction is what a capture is for.
type direction bool

const (
	incoming direction = false
	outgoing direction = true
)

// openCapture opens a packet(7) socket on the interface of that index; 0 is
// every interface. Frames come without the header of the link, so that links
// of all kinds look alike.
func openCapture(index int, d direction) (*capture, error) {
	// With no protocol nothing is received before the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	const room = 32 << 20
	err = errors.Join(filter(fd, d), setRoom(fd, room), unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: index}))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	const largest = 1 << 16
	return &capture{file: os.NewFile(uintptr(fd), "packet socket"), buf: make([]byte, largest)}, nil
}

// setRoom asks for a large buffer: without CAP_NET_ADMIN as large as may be.
func setRoom(fd, room int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, room)
}

// bigEndian is a number as the network has it, in memory.
func bigEndian(n uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, n))
}

// filter lets the kernel drop frames of the other direction.
func filter(fd int, d direction) error {
	const packetType = 0xfffff000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	yes, no := uint32(1<<18), uint32(0)
	if d == incoming {
		yes, no = no, yes
	}
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: packetType},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.PACKET_OUTGOING},
		{Code: unix.BPF_RET | unix.BPF_K, K: yes},
		{Code: unix.BPF_RET | unix.BPF_K, K: no},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// next is the next frame: one that has come already, or else one that is waited
// for until interrupt.
func (c *capture) next() (frame, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return frame{}, err
	}
	for {
		var n int
		var from unix.Sockaddr
		var failed error
		receive := func(fd uintptr) bool {
			n, from, failed = unix.Recvfrom(int(fd), c.buf, 0)
			return !errors.Is(failed, unix.EAGAIN)
		}
		err := raw.Control(func(fd uintptr) { receive(fd) })
		if err == nil && errors.Is(failed, unix.EAGAIN) {
			err = raw.Read(receive)
		}
		if err == nil {
			err = failed
		}
		switch ll, ok := from.(*unix.SockaddrLinklayer); {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return frame{}, err
		case ok:
			return decode(bigEndian(ll.Protocol), c.buf[:n]), nil
		}
	}
}

// interrupt lets next wait no longer: it returns what has come, and then
// os.ErrDeadlineExceeded.
func (c *capture) interrupt() { _ = c.file.SetReadDeadline(time.Unix(1, 0)) }

// losses is how many frames were lost since the capture began: what was not
// seen must not count as not sent.
func (c *capture) losses() (uint32, error) {
	raw, err := c.file.SyscallConn()
	if err != nil {
		return c.lost, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var s *unix.TpacketStats
		if s, failed = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); failed == nil {
			c.lost += s.Drops // reading it sets it to zero
		}
	})
	return c.lost, errors.Join(err, failed)
}

// Close ends the capture.
func (c *capture) Close() error { return c.file.Close() }
