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
// while bytes flow: it would cost two descriptors for each direction.
type Pipes struct{ free chan *pipe }

// NewPipes keeps up to the given number of idle pipes.
func NewPipes(idle int) *Pipes { return &Pipes{make(chan *pipe, idle)} }

// get returns nil if there are no descriptors left.
func (p *Pipes) get() *pipe {
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
}

func newMover(dst, src syscall.Conn, pipes *Pipes, seen func()) (*mover, error) {
	d, err := dst.SyscallConn()
	if err != nil {
		return nil, err
	}
	s, err := src.SyscallConn()
	return &mover{d, s, pipes, seen}, err
}

// move moves until src ends (nil), or something fails.
func (m *mover) move() (moved int64, err error) {
	for {
		p, n, err := m.fill()
		if err != nil || n == 0 {
			return moved, err
		}
		if p != nil {
			err = m.drain(p, n)
		}
		if err != nil {
			return moved, err
		}
		moved += int64(n)
		m.seen()
	}
}

// fill waits for bytes, and takes them into a pipe; 0 is the end. Where no pipe
// can be had it moves them by itself, and returns none.
func (m *mover) fill() (p *pipe, n int, err error) {
	none := false
	waitErr := m.src.Read(func(fd uintptr) bool {
		if p = m.pipes.get(); p == nil {
			none = true
			return true
		}
		n, err = splice(int(fd), p.w, pipeSize)
		if errors.Is(err, unix.EAGAIN) {
			m.pipes.put(p)
			p, err = nil, nil
			return false
		}
		return true
	})
	if none {
		n, err := m.carry()
		return nil, n, err
	}
	if err == nil {
		err = waitErr
	}
	if p != nil && (err != nil || n == 0) {
		m.pipes.put(p)
		p = nil
	}
	return p, n, err
}

// drain gives all of a pipe's bytes to dst.
func (m *mover) drain(p *pipe, n int) (err error) {
	for n > 0 {
		var written int
		waitErr := m.dst.Write(func(fd uintptr) bool {
			written, err = splice(p.r, int(fd), n)
			return !errors.Is(err, unix.EAGAIN)
		})
		if err == nil {
			err = waitErr
		}
		if err != nil {
			p.close() // it is not empty
			return err
		}
		n -= written
	}
	m.pipes.put(p)
	return nil
}

// carry moves some bytes through this process's memory.
func (m *mover) carry() (n int, err error) {
	const portion = 16 << 10
	buffer := make([]byte, portion)
	transfer := func(wait func(func(uintptr) bool) error, call func(fd int) (int, error)) (n int, err error) {
		waitErr := wait(func(fd uintptr) bool {
			n, err = call(int(fd))
			return !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
		})
		if err == nil {
			err = waitErr
		}
		return max(n, 0), err
	}
	if n, err = transfer(m.src.Read, func(fd int) (int, error) { return unix.Read(fd, buffer) }); err != nil {
		return 0, err
	}
	for sent := 0; sent < n; {
		k, err := transfer(m.dst.Write, func(fd int) (int, error) { return unix.Write(fd, buffer[sent:n]) })
		if err != nil {
			return sent, err
		}
		sent += k
	}
	return n, nil
}

func splice(from, to, size int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, size, unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if !errors.Is(err, unix.EINTR) {
			return int(max(n, 0)), err
		}
	}
}
