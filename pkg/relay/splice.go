// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipeSize is how much one pipe holds, in bytes. More gives no more speed.
const pipeSize = 256 << 10

// pipe carries bytes between two sockets without their coming here.
type pipe struct{ r, w int }

// Pipes are idle ones, for any number of relays. A connection has one only
// while bytes flow: it would cost two descriptors for each direction. The zero
// value gives none; bytes go through this process's memory then.
type Pipes struct{ free chan *pipe }

// NewPipes keeps up to the given number of idle pipes.
func NewPipes(idle int) *Pipes { return &Pipes{make(chan *pipe, idle)} }

// get returns nil if there are no descriptors left.
func (p *Pipes) get() *pipe {
	if p.free == nil {
		return nil
	}
	select {
	case one := <-p.free:
		return one
	default:
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize) // a smaller one works too
	return &pipe{fds[0], fds[1]}
}

// put takes an empty pipe back.
func (p *Pipes) put(one *pipe) {
	select {
	case p.free <- one:
	default:
		one.close()
	}
}

// close closes all idle pipes.
func (p *Pipes) close() {
	for {
		select {
		case one := <-p.free:
			one.close()
		default:
			return
		}
	}
}

func (p *pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// mover moves bytes in one direction.
type mover struct {
	dst, src syscall.RawConn
	pipes    *Pipes
	seen     func()

	held  *pipe // has left bytes that dst has not taken yet
	left  int
	moved int64

	buffer []byte // where splice cannot be had
}

func newMover(dst, src syscall.Conn, pipes *Pipes, seen func()) (*mover, error) {
	d, err := dst.SyscallConn()
	if err != nil {
		return nil, err
	}
	s, err := src.SyscallConn()
	return &mover{dst: d, src: s, pipes: pipes, seen: seen}, err
}

// move moves until src ends (nil), or something fails. After a deadline it can
// be called again, and loses nothing.
func (m *mover) move() error {
	for {
		n, err := m.fill()
		if err != nil || n == 0 {
			return err
		}
		if err := m.drain(); err != nil {
			return err
		}
	}
}

// fill waits for bytes, and takes them into a pipe, or into this process's
// memory where no pipe can be had, or no splice; 0 is the end.
func (m *mover) fill() (n int, err error) {
	if m.left > 0 {
		return m.left, nil
	}
	none := false
	waitErr := m.src.Read(func(fd uintptr) bool {
		p := m.pipes.get()
		if p == nil {
			none = true
			return true
		}
		n, err = splice(int(fd), p.w, pipeSize)
		if err == nil && n > 0 {
			m.held, m.left = p, n
			return true
		}
		m.pipes.put(p)
		none = errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case none:
		n, err = m.take()
		m.left = n
	}
	return n, err
}

// drain gives all that is held to dst.
func (m *mover) drain() (err error) {
	for m.left > 0 {
		var written int
		waitErr := m.dst.Write(func(fd uintptr) bool {
			if m.held != nil {
				written, err = splice(m.held.r, int(fd), m.left)
			} else {
				written, err = again(func() (int, error) { return unix.Write(int(fd), m.buffer[len(m.buffer)-m.left:]) })
			}
			return !errors.Is(err, unix.EAGAIN)
		})
		if waitErr != nil {
			return waitErr
		}
		if err != nil {
			return err
		}
		m.left -= written
		m.moved += int64(written)
		m.seen()
	}
	m.buffer = nil
	if m.held != nil {
		m.pipes.put(m.held)
		m.held = nil
	}
	return nil
}

// take reads some bytes into this process's memory; 0 is the end.
func (m *mover) take() (n int, err error) {
	const portion = 32 << 10
	buffer := make([]byte, portion)
	waitErr := m.src.Read(func(fd uintptr) bool {
		n, err = again(func() (int, error) { return unix.Read(int(fd), buffer) })
		return !errors.Is(err, unix.EAGAIN)
	})
	if waitErr != nil {
		return 0, waitErr
	}
	m.buffer = buffer[:n]
	return n, err
}

// close gives up what is held.
func (m *mover) close() {
	if m.held != nil {
		m.held.close() // it is not empty
		m.held = nil
	}
	m.left = 0
}

func splice(from, to, size int) (int, error) {
	return again(func() (int, error) {
		n, err := unix.Splice(from, nil, to, nil, size, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		return int(n), err
	})
}

// again repeats a call that a signal has interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}
