// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
	"whonix-networking/pkg/whonix"
)

// The SocksPort that programs of no port of their own use; see socks-extensions
// of Tor's specification for the user name, with which the password isolates.
const (
	torAddress    = whonix.LoopbackIP + ":" + whonix.DefaultPortText
	torAddress6   = "[" + whonix.LoopbackIP6 + "]:" + whonix.DefaultPortText
	isolationUser = "<torS0X>0"
)

// answerLimit is how long Tor may take to say that it is there.
const answerLimit = 3 * time.Second

// torAnswers checks that a SOCKS 5 server (RFC 1928) answers in time.
func torAnswers(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	// Version 5; two methods: none, and user name with password.
	if _, err := conn.Write([]byte{5, 2, 0, 2}); err != nil {
		return err
	}
	answer := make([]byte, 2)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return fmt.Errorf("%s: no answer: %w", address, err)
	}
	if answer[0] != 5 {
		return fmt.Errorf("%s: answers, but not as a SOCKS 5 server", address)
	}
	return nil
}

// isolationPassword is a password that was never used before.
func isolationPassword(prefix string) (string, error) {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	const length = 43 // 256 bits
	out := make([]byte, 0, length)
	for random := make([]byte, 2*length); len(out) < length; {
		if _, err := rand.Read(random); err != nil {
			return "", fmt.Errorf("no random password: %w", err)
		}
		for _, b := range random {
			const fair = 256 / len(letters) * len(letters)
			if int(b) < fair && len(out) < length {
				out = append(out, letters[int(b)%len(letters)])
			}
		}
	}
	return prefix + string(out), nil
}

// handOver puts text into an anonymous file that the program to be executed
// inherits, and returns the file's path there.
func handOver(text string) (string, error) {
	fd, err := unix.MemfdCreate("uwt", unix.MFD_ALLOW_SEALING)
	if err != nil {
		return "", fmt.Errorf("memfd_create: %w", err)
	}
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		return "", fmt.Errorf("memfd: %w", err)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE|unix.F_SEAL_GROW|unix.F_SEAL_SHRINK|unix.F_SEAL_SEAL); err != nil {
		return "", fmt.Errorf("memfd: %w", err)
	}
	return fmt.Sprintf("/dev/fd/%d", fd), nil
}
