// SPDX-License-Identifier: GPL-3.0-or-later

package socks5

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// address is what a server names in its answer: a name or an address.
type address struct {
	Addr netip.Addr
	Name string
	Port uint16
}

// ErrName says that a host cannot be asked for.
type ErrName struct{ Host string }

// Error quotes the host.
func (e *ErrName) Error() string { return fmt.Sprintf("%q is no host name for SOCKS", e.Host) }

// appendAddress encodes host, an address in text form or else a name, and
// port.
func appendAddress(b []byte, host string, port uint16) ([]byte, error) {
	addr, err := netip.ParseAddr(host)
	switch addr = addr.Unmap(); {
	case err == nil && addr.Zone() != "":
		return nil, &ErrName{host} // a zone means something here only
	case err == nil && addr.Is4():
		b = append(append(b, typeIPv4), addr.AsSlice()...)
	case err == nil:
		b = append(append(b, typeIPv6), addr.AsSlice()...)
	case host == "" || len(host) > fieldMax || strings.ContainsFunc(host, notInNames):
		return nil, &ErrName{host}
	default:
		b = append(append(b, typeName, byte(len(host))), host...)
	}
	return binary.BigEndian.AppendUint16(b, port), nil
}

// notInNames tells what no name holds, whatever its script: the server is not
// to see controls, blanks or delimiters.
func notInNames(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune(`/\:@[]"'`, r)
}

// readChoice reads the server's choice of authentication.
func readChoice(r io.Reader, offered byte) error {
	var b [2]byte
	if err := read(r, b[:]); err != nil {
		return err
	}
	switch {
	case b[0] != version5:
		return malformed("version %d in the greeting", b[0])
	case b[1] != offered:
		return fmt.Errorf("%w (method %#02x)", ErrMethod, b[1])
	}
	return nil
}

func readAuthStatus(r io.Reader) error {
	var b [2]byte
	if err := read(r, b[:]); err != nil {
		return err
	}
	switch {
	case b[0] != authVersion:
		return malformed("version %d of authentication", b[0])
	case b[1] != 0:
		return ErrRefused
	}
	return nil
}

// readReply reads the answer to a request, to its last byte and no further. A
// code other than success is an *Error.
func readReply(r io.Reader) (address, error) {
	var head [4]byte
	if err := read(r, head[:]); err != nil {
		return address{}, err
	}
	if head[0] != version5 || head[2] != 0 {
		return address{}, malformed("answer begins with % x", head[:3])
	}
	if head[1] != byte(Succeeded) {
		// What follows says nothing, and a server that fails may leave it out.
		return address{}, &Error{Code(head[1])}
	}
	return readAddress(r, head[3])
}

func readAddress(r io.Reader, kind byte) (a address, err error) {
	size := map[byte]int{typeIPv4: 4, typeIPv6: 16}[kind]
	if kind == typeName {
		var n [1]byte
		if err := read(r, n[:]); err != nil {
			return address{}, err
		}
		size = int(n[0])
	}
	if size == 0 {
		return address{}, malformed("answer with an address of type %#02x and no bytes", kind)
	}
	const portSize = 2
	b := make([]byte, size+portSize)
	if err := read(r, b); err != nil {
		return address{}, err
	}
	if kind == typeName {
		if a.Name = string(b[:size]); strings.ContainsFunc(a.Name, notInNames) {
			return address{}, malformed("answer with the name %q", a.Name)
		}
	} else {
		a.Addr, _ = netip.AddrFromSlice(b[:size])
		a.Addr = a.Addr.Unmap()
	}
	a.Port = binary.BigEndian.Uint16(b[size:])
	return a, nil
}

// read fills b. An end of the stream is one in the middle of the dialogue.
func read(r io.Reader, b []byte) error {
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("read from the SOCKS server: %w", err)
	}
	return nil
}
