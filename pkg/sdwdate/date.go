// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"errors"
	"strings"
	"time"
)

// What is wrong with a Date, in the order of url_to_unixtime's exit codes.
var (
	errDateLength = errors.New("the Date is missing, repeated, or of the wrong length")
	errDateEarly  = errors.New("the Date is not after 1970-01-01 00:00:00")
	errDateLate   = errors.New("the Date has more than 10 digits as a unixtime")
	errDateForm   = errors.New("the Date is not of the form `Sun, 06 Nov 1994 08:49:37 GMT`")
	errDateStale  = errors.New("the answer comes from a cache (Age)")
)

// Lengths that the original takes for a Date; what is of another length was no
// attempt at one.
const (
	dateShortest = 29
	dateLongest  = 100
)

const unixtimeMax = 9999999999 // ten digits

// parseDate reads an IMF-fixdate (RFC 9110, 5.6.7) and nothing else: GMT,
// English names, the right weekday (D7). A leap second is the one before it.
func parseDate(text string) (int64, error) {
	if len(text) < dateShortest || len(text) > dateLongest {
		return 0, errDateLength
	}
	if len(text) != dateShortest || !fixdateDigits(text) {
		return 0, errDateForm
	}
	if text[23:25] == "60" {
		text = text[:23] + "59" + text[25:]
	}
	t, err := time.Parse("Mon, 02 Jan 2006 15:04:05 GMT", text)
	// time.Parse takes any case and does not look at the weekday.
	if err != nil || t.Format("Mon, 02 Jan 2006 15:04:05 GMT") != text {
		return 0, errDateForm
	}
	switch unix := t.Unix(); {
	case unix <= 0:
		return 0, errDateEarly
	case unix > unixtimeMax:
		return 0, errDateLate
	default:
		return unix, nil
	}
}

// fixdateDigits reports whether digits are where an IMF-fixdate has them, and
// punctuation where it has that.
func fixdateDigits(text string) bool {
	const form = "aaa, 00 aaa 0000 00:00:00 GMT"
	for i := range len(form) {
		c := text[i]
		switch form[i] {
		case '0':
			if c < '0' || c > '9' {
				return false
			}
		case 'a':
			if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz", rune(c|0x20)) {
				return false
			}
		default:
			if c != form[i] {
				return false
			}
		}
	}
	return true
}
