// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"whonix-networking/pkg/socks5"
)

// secretSize is that of a key of HMAC-SHA-256.
const secretSize = sha256.Size

// credentials are a launch's: passwords that nobody outside can tell from
// random ones, without a table of them.
type credentials struct {
	secret [secretSize]byte
	shared string // the only password, if there is one
}

// newCredentials draws a secret for one launch. It never leaves this process,
// and no other launch has it.
func newCredentials(shared string) *credentials {
	c := &credentials{shared: shared}
	_, _ = rand.Read(c.secret[:]) // never fails, see its documentation
	return c
}

// process is the password of a process, which its number and the time it was
// started at tell from every other. Streams whose process is not known share
// that of the zero identity.
func (c *credentials) process(id identity) *socks5.Auth {
	if c.shared != "" {
		return socks5.Isolation(c.shared)
	}
	return socks5.Isolation(password(c.secret[:], fmt.Sprintf("process %d %d", id.pid, id.started)))
}

// password derives one of 43 characters.
func password(key []byte, from string) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(from))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
