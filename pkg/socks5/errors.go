// SPDX-License-Identifier: GPL-3.0-or-later

package socks5

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Errors of the dialogue.
var (
	// ErrMalformed says that the server does not speak SOCKS 5.
	ErrMalformed = errors.New("malformed answer of the SOCKS server")
	// ErrMethod says that the server does not take what was offered.
	ErrMethod = errors.New("the SOCKS server does not take this kind of authentication")
	// ErrRefused says that username and password were not accepted.
	ErrRefused = errors.New("the SOCKS server refuses the username and password")
	// ErrNotGranted is all that SOCKS 4A says of a failure.
	ErrNotGranted = errors.New("the SOCKS server does not grant the request")
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Code is the answer to a request.
type Code byte

// Codes of RFC 1928, and Tor's for onion services, which it gives on ports
// with the flag ExtendedErrors.
const (
	Succeeded           Code = 0x00
	GeneralFailure      Code = 0x01
	NotAllowed          Code = 0x02
	NetworkUnreachable  Code = 0x03
	HostUnreachable     Code = 0x04
	ConnectionRefused   Code = 0x05
	TTLExpired          Code = 0x06
	CommandNotSupported Code = 0x07
	AddressNotSupported Code = 0x08
	OnionNotFound       Code = 0xf0
	OnionInvalid        Code = 0xf1
	OnionIntroFailed    Code = 0xf2
	OnionRendezvous     Code = 0xf3
	OnionAuthMissing    Code = 0xf4
	OnionAuthWrong      Code = 0xf5
	OnionAddressBad     Code = 0xf6
	OnionIntroTimedOut  Code = 0xf7
)

// String is the code in words.
func (c Code) String() string {
	text, ok := map[Code]string{
		Succeeded:           "succeeded",
		GeneralFailure:      "general failure",
		NotAllowed:          "not allowed",
		NetworkUnreachable:  "network unreachable",
		HostUnreachable:     "host unreachable",
		ConnectionRefused:   "connection refused",
		TTLExpired:          "timed out",
		CommandNotSupported: "command not supported",
		AddressNotSupported: "kind of address not supported",
		OnionNotFound:       "onion service: descriptor not found",
		OnionInvalid:        "onion service: descriptor invalid",
		OnionIntroFailed:    "onion service: introduction failed",
		OnionRendezvous:     "onion service: rendezvous failed",
		OnionAuthMissing:    "onion service: client authorization missing",
		OnionAuthWrong:      "onion service: client authorization wrong",
		OnionAddressBad:     "onion service: address invalid",
		OnionIntroTimedOut:  "onion service: introduction timed out",
	}[c]
	if !ok {
		return fmt.Sprintf("unknown code %#02x", byte(c))
	}
	return text
}

// Error is a request that the server answered with a Code other than
// Succeeded.
type Error struct{ Code Code }

// Error names the code.
func (e *Error) Error() string { return "the SOCKS server says: " + e.Code.String() }

// Unwrap is the error that a direct connection would have met.
func (e *Error) Unwrap() error {
	switch e.Code {
	case NotAllowed:
		return unix.EACCES
	case NetworkUnreachable:
		return unix.ENETUNREACH
	case ConnectionRefused:
		return unix.ECONNREFUSED
	case TTLExpired, OnionIntroTimedOut:
		return unix.ETIMEDOUT
	case AddressNotSupported:
		return unix.EAFNOSUPPORT
	case CommandNotSupported:
		return unix.EOPNOTSUPP
	}
	return unix.EHOSTUNREACH
}
