// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// logger prints messages in the form that administrators and programs know:
// `YYYY-MM-DD HH:MM:SS - NAME - TEXT`, in UTC.
type logger struct {
	name string
	out  io.Writer // what is said in the normal course
	err  io.Writer // warnings and errors
	now  func() time.Time
}

func (l *logger) say(text string)  { l.line(l.out, text) }
func (l *logger) warn(text string) { l.line(l.err, "WARNING: "+text) }
func (l *logger) fail(err error)   { l.line(l.err, "ERROR: "+err.Error()) }
func (l *logger) line(w io.Writer, text string) {
	fmt.Fprintf(w, "%s - %s - %s\n", l.stamp(), l.name, text)
}
func (l *logger) stamp() string { return l.now().UTC().Format(time.DateTime) }

// banner says on standard output that the run failed.
func (l *logger) banner() {
	rule := strings.Repeat("#", 50)
	fmt.Fprintf(l.out, "%s %s\n%s ERROR: Whonix firewall script failed!\n%s %s\n", l.name, rule, l.name, l.name, rule)
}
