// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// forever is a span that does not end.
const forever time.Duration = -1

// spanUnits are those of systemd.time(7).
func spanUnits() map[string]time.Duration {
	const day = 24 * time.Hour
	const year = 365*day + 6*time.Hour
	units := map[string]time.Duration{}
	for names, length := range map[string]time.Duration{
		"us usec µs μs": time.Microsecond, "ms msec": time.Millisecond, "s sec second seconds": time.Second, "m min minute minutes": time.Minute,
		"h hr hour hours": time.Hour, "d day days": day, "w week weeks": 7 * day, "M month months": year / 12, "y year years": year,
	} {
		for _, name := range strings.Fields(names) {
			units[name] = length
		}
	}
	units[""] = time.Second
	return units
}

// parseSpan reads a span as in systemd.time(7).
func parseSpan(text string) (total time.Duration, err error) {
	const most = float64(100 * 365 * 24 * time.Hour)
	rest := strings.TrimSpace(text)
	if rest == "infinity" {
		return forever, nil
	}
	if rest == "" {
		return 0, errors.New("empty")
	}
	units := spanUnits()
	for rest != "" {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		number, err := strconv.ParseFloat(rest[:digits], 64)
		if err != nil {
			return 0, err
		}
		rest = strings.TrimLeft(rest[digits:], " \t")
		letters := len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsLetter))
		unit, ok := units[rest[:letters]]
		if !ok {
			return 0, fmt.Errorf("unknown unit %q", rest[:letters])
		}
		if number = number*float64(unit) + float64(total); number > most {
			return 0, errors.New("too long")
		}
		total = time.Duration(number)
		rest = strings.TrimLeft(rest[letters:], " \t")
	}
	return total, nil
}
