// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a message between our processes.
const (
	messageMax = 16 << 10
	filesMax   = 16
)

// answerLimit is how long one of our processes may take to say something. It
// takes milliseconds; on a machine that starves, more.
const answerLimit = 30 * time.Second

// message is what our processes say to each other, beside descriptors.
type message struct {
	Error    string   `json:"error,omitempty"`   // what failed, in words for the user
	Names    []string `json:"names,omitempty"`   // of the descriptors that come with it
	Settings settings `json:"settings,omitzero"` // for the supervisor
	Go       bool     `json:"go,omitempty"`      // the launcher is about to become the program
}

// channel is one end of a socket pair between two of our processes.
type channel struct{ file *os.File }

// newChannel makes a pair whose messages keep their bounds.
func newChannel() (ours, theirs *channel, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	return channelOf(uintptr(fds[0])), channelOf(uintptr(fds[1])), nil
}

func channelOf(fd uintptr) *channel { return &channel{os.NewFile(fd, "channel")} }

func (c *channel) close() { c.file.Close() }

// within bounds how long receive waits; 0 is for ever.
func (c *channel) within(d time.Duration) error {
	tv := unix.NsecToTimeval(d.Nanoseconds())
	return unix.SetsockoptTimeval(int(c.file.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
}

// send sends a message with descriptors.
func (c *channel) send(m message, files ...*os.File) error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = unix.UnixRights(fds...)
	}
	return retry(func() error { return unix.Sendmsg(int(c.file.Fd()), data, rights, nil, unix.MSG_NOSIGNAL) })
}

// receive reads one message. io.EOF says that the other end is gone.
func (c *channel) receive() (m message, files []*os.File, err error) {
	data, control := make([]byte, messageMax), make([]byte, unix.CmsgSpace(4*filesMax))
	var n, controlLen, flags int
	err = retry(func() (err error) {
		n, controlLen, flags, _, err = unix.Recvmsg(int(c.file.Fd()), data, control, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	if err != nil {
		return m, nil, err
	}
	if files, err = received(control[:controlLen]); err != nil {
		return m, nil, err
	}
	switch {
	case n == 0:
		err = io.EOF
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("message too long")
	default:
		err = json.Unmarshal(data[:n], &m)
	}
	if err == nil && m.Error == "" && len(m.Names) != len(files) {
		err = fmt.Errorf("message with %d names for %d descriptors", len(m.Names), len(files))
	}
	if err != nil {
		closeAll(files)
		return m, nil, err
	}
	return m, files, nil
}

// received takes descriptors out of control messages.
func received(control []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, err
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// retry repeats a call that a signal interrupted: the Go runtime sends some.
func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
