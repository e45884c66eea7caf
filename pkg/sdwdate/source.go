// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"crypto/sha3"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// source is one server of a pool.
type source struct {
	URL     string
	Comment string
	Group   int // services of one organisation have the same number; 0 is none
	Where   Notice
}

// target is a URL taken apart.
type target struct {
	TLS  bool
	Host string
	Port uint16
	Path string
}

const urlMax = 512

var errURL = errors.New("not a usable URL")

func badURL(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errURL, fmt.Sprintf(format, args...))
}

// parseURL takes a URL apart: http or https, a host name, perhaps a port and a
// path; no user, no blanks, no quotes (D9). Onion addresses must be of version
// 3 with a right checksum.
func parseURL(url string) (target, error) {
	if len(url) > urlMax {
		return target{}, badURL("longer than %d bytes", urlMax)
	}
	for _, c := range []byte(url) {
		if c <= ' ' || c > '~' || strings.IndexByte("\"'`\\<>", c) >= 0 {
			return target{}, badURL("byte %#02x in it", c)
		}
	}
	var t target
	rest, plain := cutScheme(url, "http://")
	if !plain {
		if rest, t.TLS = cutScheme(url, "https://"); !t.TLS {
			return target{}, badURL("neither http:// nor https://")
		}
	}
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority, path := rest[:end], rest[end:]
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	t.Path = path
	if strings.Contains(authority, "@") {
		return target{}, badURL("a user name in it")
	}
	host, port, hasPort := strings.Cut(authority, ":")
	t.Port = 80
	if t.TLS {
		t.Port = 443
	}
	if hasPort {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return target{}, badURL("port %q", port)
		}
		t.Port = uint16(n)
	}
	t.Host = strings.ToLower(host)
	return t, checkHost(t.Host)
}

func cutScheme(url, scheme string) (string, bool) {
	if len(url) < len(scheme) || !strings.EqualFold(url[:len(scheme)], scheme) {
		return url, false
	}
	return url[len(scheme):], true
}

// checkHost refuses what is no name of a server elsewhere.
func checkHost(host string) error {
	if host == "" || len(host) > 253 {
		return badURL("no host name")
	}
	if _, err := netip.ParseAddr(host); err == nil || strings.HasPrefix(host, "[") {
		return badURL("an address instead of a host name")
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return badURL("host name %q", host)
		}
	}
	last := labels[len(labels)-1]
	switch {
	case len(labels) < 2, last == "localhost", last == "local", strings.Trim(last, "0123456789") == "":
		return badURL("host name %q is of this machine or network", host)
	case last == "onion":
		return checkOnion(labels[len(labels)-2])
	}
	return nil
}

// checkOnion checks an onion address without its `.onion`: 32 bytes of key, 2
// of checksum, the version; see rend-spec-v3, "Encoding onion addresses".
func checkOnion(address string) error {
	const length, keyLength, version = 56, 32, 3
	if len(address) != length {
		return badURL("an onion address of version %d has %d characters, this one %d", version, length, len(address))
	}
	raw, err := base32.StdEncoding.DecodeString(strings.ToUpper(address))
	if err != nil {
		return badURL("onion address: %v", err)
	}
	key, sum, v := raw[:keyLength], raw[keyLength:keyLength+2], raw[keyLength+2]
	if v != version {
		return badURL("onion address of version %d", v)
	}
	want := sha3.Sum256(append(append([]byte(".onion checksum"), key...), version))
	if [2]byte(sum) != [2]byte(want[:2]) {
		return badURL("the checksum of the onion address is wrong")
	}
	return nil
}

// onion reports whether the host is an onion service.
func (t target) onion() bool { return strings.HasSuffix(t.Host, ".onion") }

// authority is what the Host field says.
func (t target) authority() string {
	if t.TLS && t.Port == 443 || !t.TLS && t.Port == 80 {
		return t.Host
	}
	return t.Host + ":" + strconv.Itoa(int(t.Port))
}

// same is alike for URLs that lead to the same place.
func (t target) same() string {
	return strconv.FormatBool(t.TLS) + " " + t.Host + ":" + strconv.Itoa(int(t.Port)) + t.Path
}

// parseEntry reads what stands between the quotes of a pool's entry: URL, `#`,
// comment. The first `#` behind a blank separates them, or else the first one
// behind the host (D23). Without a scheme it is http, as in 2020.
func parseEntry(text string) (source, target, error) {
	var s source
	url, comment := text, ""
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		rest := strings.TrimLeft(text[i:], " \t")
		if strings.HasPrefix(rest, "#") {
			url, comment = text[:i], rest[1:]
		} else if rest == "" {
			url = text[:i]
		}
	}
	if comment == "" {
		if before, after, ok := strings.Cut(url, "#"); ok {
			url, comment = before, after
		}
	}
	s.URL, s.Comment = strings.TrimSpace(url), strings.TrimSpace(comment)
	if s.URL == "" {
		return s, target{}, badURL("empty")
	}
	if !strings.Contains(s.URL, "://") {
		s.URL = "http://" + s.URL
	}
	t, err := parseURL(s.URL)
	return s, t, err
}
