// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
)

// HelperName is the name under which the launcher's program is the helper, and
// which the helper has in lists of processes.
const HelperName = "bindp-helper"

// Launcher and helper talk in messages of one line over a SOCK_SEQPACKET pair:
//
//	launcher: probe PID ADDRESS DESCRIPTOR   try to read magic and to duplicate
//	helper:   0 or an error number
//	launcher: MODE                            with the listener
//	helper:   its identity                    it serves from now on
//
// The end of the connection is the end of the other side.
const (
	messageMax  = 256
	magicLength = 16
)

// magic is what the helper should find in the launcher's memory.
func magic() [magicLength]byte {
	return [magicLength]byte{'b', 'i', 'n', 'd', 'p', ' ', 'p', 'r', 'o', 'b', 'e', 0, 0xff, 0x55, 0xaa, 1}
}

// helperClient is the launcher's side.
type helperClient struct{ socket int }

// startHelper starts the helper of a program.
func startHelper(s Settings, program string) (*helperClient, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket pair: %w", err)
	}
	defer unix.Close(pair[1])
	argv := []string{HelperName, filepath.Base(program)}
	if err := execx.StartOrphan("/proc/self/exe", argv, s.Environ(), pair[1]); err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("start the helper: %w", err)
	}
	return &helperClient{pair[0]}, nil
}

func (c *helperClient) close() { unix.Close(c.socket) }

// probe returns what keeps the helper from reading this process's memory and
// from duplicating its descriptors; nil: nothing does.
func (c *helperClient) probe() (refused, err error) {
	known := magic()
	err = send(c.socket, fmt.Sprintf("probe %d %d %d", os.Getpid(), uintptr(unsafe.Pointer(&known)), c.socket), -1)
	if err != nil {
		return nil, err
	}
	answer, _, err := receive(c.socket)
	runtime.KeepAlive(&known)
	if err != nil {
		return nil, err
	}
	var errno int
	if _, err := fmt.Sscanf(answer, "%d", &errno); err != nil {
		return nil, fmt.Errorf("answer %q", answer)
	}
	if errno != 0 {
		return unix.Errno(errno), nil
	}
	return nil, nil
}

// begin hands the listener over, and returns the helper's identity when it
// serves.
func (c *helperClient) begin(mode Mode, listener int) (marker string, err error) {
	err = send(c.socket, string(mode), listener)
	unix.Close(listener) // the program must not have it
	if err != nil {
		return "", err
	}
	marker, _, err = receive(c.socket)
	if err == nil && !strings.Contains(marker, ":") {
		err = errors.New(marker)
	}
	return marker, err
}

// send sends a line and, unless it is negative, a descriptor.
func send(socket int, line string, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	for {
		err := unix.Sendmsg(socket, []byte(line), rights, nil, unix.MSG_NOSIGNAL)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive receives a line and the descriptor that came with it; -1: none.
func receive(socket int) (line string, fd int, err error) {
	buffer, control := make([]byte, messageMax), make([]byte, unix.CmsgSpace(4))
	var n, controlLen, flags int
	for {
		n, controlLen, flags, _, err = unix.Recvmsg(socket, buffer, control, unix.MSG_CMSG_CLOEXEC)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case err != nil:
		return "", -1, err
	case n == 0:
		return "", -1, errors.New("the other side has ended")
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return "", -1, errors.New("the message is too long")
	case controlLen == 0:
		return string(buffer[:n]), -1, nil
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlLen])
	if err != nil || len(messages) != 1 {
		return "", -1, fmt.Errorf("control messages: %d, %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return "", -1, fmt.Errorf("descriptors: %d, %w", len(fds), err)
	}
	return string(buffer[:n]), fds[0], nil
}
