// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import "golang.org/x/sys/unix"

const (
	pipeSize  = 256 << 10 // how much one holds, in bytes; more gives no more speed
	idlePipes = 64        // how many are kept for the next who wants one
)

// pipe carries bytes between two sockets without their coming here.
type pipe struct{ r, w int }

// pipes are the idle ones. A connection has one only while bytes that were not
// taken yet are in it: it would cost two descriptors for each direction.
type pipes []pipe

// get reports whether there was one, or the descriptors for it.
func (p *pipes) get() (pipe, bool) {
	if last := len(*p) - 1; last >= 0 {
		one := (*p)[last]
		*p = (*p)[:last]
		return one, true
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return pipe{}, false
	}
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize) // a smaller one works too
	return pipe{fds[0], fds[1]}, true
}

// put takes an empty pipe back.
func (p *pipes) put(one pipe) {
	if len(*p) == idlePipes {
		one.close()
		return
	}
	*p = append(*p, one)
}

// close closes all idle pipes.
func (p *pipes) close() {
	for _, one := range *p {
		one.close()
	}
	*p = nil
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}
