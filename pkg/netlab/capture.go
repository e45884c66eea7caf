// SPDX-License-Identifier: GPL-3.0-or-later

package netlab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Socket sends and receives whole frames on an interface.
type Socket struct {
	file  *os.File
	index int
}

// OpenSocket opens a packet(7) socket for frames of every type.
func (p Port) OpenSocket() (*Socket, error) {
	s := &Socket{}
	err := p.Namespace.Do(func() error {
		i, err := net.InterfaceByName(p.Interface)
		if err != nil {
			return err
		}
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(all))
		if err != nil {
			return fmt.Errorf("packet socket: %w", err)
		}
		const bufferSize = 64 << 20
		err = errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}),
		)
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("packet socket: %w", err)
		}
		s.index, s.file = i.Index, os.NewFile(uintptr(fd), "packet socket")
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Send sends a frame.
func (s *Socket) Send(frame []byte) error {
	_, err := s.file.Write(frame)
	if errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE) {
		return nil // the kernel does not send such a frame
	}
	return err
}

// Close closes the socket.
func (s *Socket) Close() error { return s.file.Close() }

// Captured is a frame and the direction in which the interface saw it.
type Captured struct {
	Decoded
	Outgoing bool
	Raw      []byte
	Note     string // the Capture's note when the frame came
}

// Capture collects the frames of an interface, in a goroutine of its own,
// until Close.
type Capture struct {
	socket *Socket
	keep   func(Captured) bool
	done   chan struct{}

	mu      sync.Mutex
	note    string
	frames  []Captured
	marks   map[string]bool
	changed chan struct{} // closed and replaced whenever something came
	err     error
}

// Capture begins to collect the frames that keep wants; nil keeps all.
func (p Port) Capture(keep func(Captured) bool) (*Capture, error) {
	s, err := p.OpenSocket()
	if err != nil {
		return nil, err
	}
	if keep == nil {
		keep = func(Captured) bool { return true }
	}
	c := &Capture{socket: s, keep: keep, done: make(chan struct{}), marks: map[string]bool{}, changed: make(chan struct{})}
	go c.read()
	return c, nil
}

func (c *Capture) read() {
	defer close(c.done)
	raw, err := c.socket.file.SyscallConn()
	if err != nil {
		c.finish(err)
		return
	}
	buf := make([]byte, 1<<16)
	for {
		var n int
		var from unix.Sockaddr
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			n, from, readErr = unix.Recvfrom(int(fd), buf, 0)
			return !errors.Is(readErr, unix.EAGAIN)
		})
		if err != nil {
			c.finish(nil) // closed
			return
		}
		if readErr != nil {
			if errors.Is(readErr, unix.EINTR) || errors.Is(readErr, unix.ENETDOWN) {
				continue
			}
			c.finish(readErr)
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		c.take(buf[:n], ok && ll.Pkttype == unix.PACKET_OUTGOING)
	}
}

func (c *Capture) take(frame []byte, outgoing bool) {
	f := Captured{Decoded: Decode(frame), Outgoing: outgoing}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.EtherType == EtherMarker {
		if !outgoing {
			c.marks[string(frame[14:])] = true
		}
	} else if f.Note = c.note; c.keep(f) {
		f.Raw = slices.Clone(frame)
		f.Decoded = Decode(f.Raw)
		c.frames = append(c.frames, f)
	} else {
		return
	}
	c.wake()
}

func (c *Capture) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	c.wake()
}

// wake tells everybody who waits to look again; the lock is held.
func (c *Capture) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Annotate sets the note that frames get from now on.
func (c *Capture) Annotate(note string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note = note
}

// Frames returns what was kept so far, and whether capturing failed.
func (c *Capture) Frames() ([]Captured, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.frames), c.err
}

// Forget drops what was kept so far.
func (c *Capture) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frames = nil
}

// Count is the number of frames kept so far.
func (c *Capture) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.frames)
}

// waitMark waits for a marker frame.
func (c *Capture) waitMark(ctx context.Context, mark string) error {
	return c.wait(ctx, func() bool { return c.marks[mark] })
}

// Wait returns the first kept frame that want agrees to, from the one numbered
// from on, waiting for it until ctx ends.
func (c *Capture) Wait(ctx context.Context, from int, want func(Captured) bool) (found Captured, ok bool) {
	err := c.wait(ctx, func() bool {
		for ; from < len(c.frames); from++ {
			if want(c.frames[from]) {
				found = c.frames[from]
				return true
			}
		}
		return false
	})
	return found, err == nil
}

// wait waits until look, which is called with the lock held, says yes.
func (c *Capture) wait(ctx context.Context, look func() bool) error {
	for {
		c.mu.Lock()
		done, changed, err := look(), c.changed, c.err
		c.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("what was waited for did not come: %w", ctx.Err())
		}
	}
}

// Lost is how many frames came that there was no room for, since it was asked
// last.
func (c *Capture) Lost() (lost int, err error) {
	raw, err := c.socket.file.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := raw.Control(func(fd uintptr) {
		var st *unix.TpacketStats
		if st, err = unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			lost = int(st.Drops)
		}
	})
	return lost, errors.Join(ctlErr, err)
}

// Close ends the capture.
func (c *Capture) Close() {
	c.socket.Close()
	<-c.done
}

// Fence sends a marker frame from a port and waits until the capture at the
// other end of the link has seen it: everything sent there before has been
// received, and what the receiving kernel did with it at once is done.
func Fence(ctx context.Context, from *Socket, to *Capture, mark string) error {
	const minPayload = 46
	payload := make([]byte, max(minPayload, len(mark)))
	copy(payload, mark)
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	if err := from.Send(Ethernet(broadcast, net.HardwareAddr{2, 0, 0, 0, 0, 1}, EtherMarker, payload)); err != nil {
		return err
	}
	return to.waitMark(ctx, string(payload))
}
