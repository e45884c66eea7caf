// SPDX-License-Identifier: GPL-3.0-or-later

package torctl

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"whonix-networking/pkg/fsx"
)

// Methods of authentication, as PROTOCOLINFO names them.
const (
	MethodNull       = "NULL"
	MethodCookie     = "COOKIE"
	MethodSafeCookie = "SAFECOOKIE"
	MethodPassword   = "HASHEDPASSWORD"
)

const (
	cookieSize = 32
	nonceSize  = 32
	// Keys of control-spec, section "AUTHCHALLENGE".
	serverKey     = "Tor safe cookie authentication server-to-controller hash"
	controllerKey = "Tor safe cookie authentication controller-to-server hash"
)

// ErrNoMethod says that Tor offers no way to log in that could be gone.
var ErrNoMethod = errors.New("no usable way of authentication")

// ErrImpostor says that the server does not know the cookie.
var ErrImpostor = errors.New("the server does not know the cookie")

// CookieError says that the cookie cannot be had, as while Tor starts.
type CookieError struct {
	Path string
	Err  error
}

// Error names the file.
func (e *CookieError) Error() string { return fmt.Sprintf("cookie %s: %v", e.Path, e.Err) }

// Unwrap is the reason.
func (e *CookieError) Unwrap() error { return e.Err }

// Credentials are what a controller can log in with. The cookie is read from
// the path given here, never from one that the server names.
type Credentials struct {
	Root     fsx.Root
	Cookie   string // path; empty is none
	Password string
}

// ProtocolInfo is what Tor tells before a login.
type ProtocolInfo struct {
	Methods    []string
	CookieFile string
	Version    string
}

// ParseProtocolInfo reads the reply to PROTOCOLINFO.
func ParseProtocolInfo(m Message) (ProtocolInfo, error) {
	var info ProtocolInfo
	if err := m.Err(); err != nil {
		return info, err
	}
	for l := range m.Lines() {
		kind, rest, _ := strings.Cut(string(l.Text), " ")
		switch values := Assignments(rest); kind {
		case "AUTH":
			info.Methods = strings.Split(values["METHODS"], ",")
			info.CookieFile = values["COOKIEFILE"]
		case "VERSION":
			info.Version = values["Tor"]
		}
	}
	return info, nil
}

// Authenticate logs in by the best way that is offered and that the
// credentials allow: SAFECOOKIE, COOKIE, a password, or nothing at all.
func (c *Conn) Authenticate(ctx context.Context, with Credentials) error {
	reply, err := c.Ask(ctx, "PROTOCOLINFO 1")
	if err != nil {
		return err
	}
	info, err := ParseProtocolInfo(reply)
	if err != nil {
		return err
	}
	offered := func(method string) bool { return slices.Contains(info.Methods, method) }
	switch {
	case with.Cookie != "" && offered(MethodSafeCookie):
		return c.safeCookie(ctx, with)
	case with.Cookie != "" && offered(MethodCookie):
		cookie, err := with.cookie()
		if err != nil {
			return err
		}
		return c.login(ctx, hex.EncodeToString(cookie))
	case with.Password != "" && offered(MethodPassword):
		quoted, err := Quote(with.Password)
		if err != nil {
			return errors.New("the password cannot be sent to tor")
		}
		return c.login(ctx, quoted)
	case offered(MethodNull):
		return c.login(ctx, "")
	}
	return fmt.Errorf("%w: tor offers %s", ErrNoMethod, strings.Join(info.Methods, ","))
}

// cookie reads the cookie.
func (with Credentials) cookie() ([]byte, error) {
	cookie, err := with.Root.ReadFile(with.Cookie, cookieSize)
	if err == nil && len(cookie) != cookieSize {
		err = fmt.Errorf("%d bytes, not %d", len(cookie), cookieSize)
	}
	if err != nil {
		return nil, &CookieError{Path: with.Cookie, Err: err}
	}
	return cookie, nil
}

// safeCookie proves to know the cookie, once the server has.
func (c *Conn) safeCookie(ctx context.Context, with Credentials) error {
	cookie, err := with.cookie()
	if err != nil {
		return err
	}
	own := make([]byte, nonceSize)
	rand.Read(own) // never fails, see crypto/rand
	reply, err := c.Ask(ctx, "AUTHCHALLENGE SAFECOOKIE "+hex.EncodeToString(own))
	if err != nil {
		return err
	}
	if err := reply.Err(); err != nil {
		return err
	}
	values := Assignments(strings.TrimPrefix(reply.Last(), "250 AUTHCHALLENGE"))
	hash, err1 := hex.DecodeString(values["SERVERHASH"])
	nonce, err2 := hex.DecodeString(values["SERVERNONCE"])
	if err1 != nil || err2 != nil || len(nonce) != nonceSize {
		return fmt.Errorf("%w: AUTHCHALLENGE", ErrMalformed)
	}
	proof := func(key string) []byte {
		h := hmac.New(sha256.New, []byte(key))
		h.Write(slices.Concat(cookie, own, nonce))
		return h.Sum(nil)
	}
	if !hmac.Equal(hash, proof(serverKey)) {
		return ErrImpostor
	}
	return c.login(ctx, hex.EncodeToString(proof(controllerKey)))
}

// login sends AUTHENTICATE. Its errors do not repeat the secret.
func (c *Conn) login(ctx context.Context, secret string) error {
	reply, err := c.Ask(ctx, strings.TrimSuffix("AUTHENTICATE "+secret, " "))
	if err != nil {
		return err
	}
	return reply.Err()
}
