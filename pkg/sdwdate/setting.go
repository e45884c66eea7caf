// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// set takes one value. On an error the earlier one stays.
func (c *conf) set(key, value string) error {
	var err error
	switch key {
	case "PROXY_IP":
		c.ProxyIP, err = keep(c.ProxyIP, parseIP, value)
	case "PROXY_PORT":
		c.ProxyPort, err = keep(c.ProxyPort, parsePort, value)
	case "MAX_FAILURE_RATIO":
		c.MaxFailureRatio, err = keep(c.MaxFailureRatio, parseRatio, value)
	case "RANDOMIZE_TIME":
		c.Randomize, err = keep(c.Randomize, parseBool, value)
	case "PREPARATION":
		c.Preparation, err = keep(c.Preparation, oneOf("auto", "script", "native"), value)
	case "CONSENSUS_CHECK":
		c.Consensus, err = keep(c.Consensus, oneOf("require", "prefer", "off"), value)
	case "MAX_SLEW_PPM":
		c.MaxSlewPPM, err = keep(c.MaxSlewPPM, parseSlew, value)
	case "ALLOW_NON_ONION":
		c.AllowNonOnion, err = keep(c.AllowNonOnion, parseBool, value)
	case "HTTP_METHOD":
		c.Method, err = keep(c.Method, oneOf("auto", "HEAD", "GET"), value)
	case "USER_AGENT":
		c.UserAgent, err = keep(c.UserAgent, parseUserAgent, value)
	case "ANONDATE_TOR_CERT":
		c.AnondateTorCert, err = keep(c.AnondateTorCert, parseBool, value)
	default:
		err = errors.New("no such setting")
	}
	return err
}

func keep[T any](old T, parse func(string) (T, error), value string) (T, error) {
	v, err := parse(value)
	if err != nil {
		return old, err
	}
	return v, nil
}

// cleanValue takes quotes and a trailing comment away.
func cleanValue(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return "", errors.New("no value")
	}
	if quote := text[0]; quote == '"' || quote == '\'' {
		value, rest, ok := strings.Cut(text[1:], string(quote))
		if rest = strings.TrimSpace(rest); !ok || rest != "" && rest[0] != '#' {
			return "", errors.New("quotes that do not match")
		}
		return strings.TrimSpace(value), nil
	}
	for i := 1; i < len(text); i++ {
		if text[i] == '#' && (text[i-1] == ' ' || text[i-1] == '\t') {
			return strings.TrimSpace(text[:i]), nil
		}
	}
	return text, nil
}

func parseIP(value string) (netip.Addr, error) {
	bare, bracket := strings.CutPrefix(value, "[")
	if bracket {
		bare = strings.TrimSuffix(bare, "]")
	}
	a, err := netip.ParseAddr(bare)
	if err != nil || a.Zone() != "" || bracket && (!a.Is6() || !strings.HasSuffix(value, "]")) {
		return netip.Addr{}, fmt.Errorf("%s is no IP address", strconv.Quote(short(value)))
	}
	return a, nil
}

func parsePort(value string) (uint16, error) {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s is no port (1 to 65535)", strconv.Quote(short(value)))
	}
	return uint16(n), nil
}

func parseRatio(value string) (float64, error) {
	const most = 10
	r, err := strconv.ParseFloat(value, 64)
	if err != nil || !(r >= 0 && r <= most) {
		return 0, fmt.Errorf("%s is no number from 0 to %d", strconv.Quote(short(value)), most)
	}
	return r, nil
}

func parseBool(value string) (bool, error) {
	switch strings.ToLower(value) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("%s is neither true nor false", strconv.Quote(short(value)))
}

func parseSlew(value string) (int, error) {
	const least, most = 500, 100000
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		return 0, fmt.Errorf("%s is no number from %d to %d", strconv.Quote(short(value)), least, most)
	}
	return n, nil
}

func oneOf(words ...string) func(string) (string, error) {
	return func(value string) (string, error) {
		for _, w := range words {
			if strings.EqualFold(w, value) {
				return w, nil
			}
		}
		return "", fmt.Errorf("%s is none of %s", strconv.Quote(short(value)), strings.Join(words, ", "))
	}
}

func parseUserAgent(value string) (string, error) {
	const most = 200
	if len(value) > most {
		return "", fmt.Errorf("longer than %d bytes", most)
	}
	for _, c := range []byte(value) {
		if c < ' ' || c > '~' {
			return "", fmt.Errorf("byte %#02x in it", c)
		}
	}
	return value, nil
}
