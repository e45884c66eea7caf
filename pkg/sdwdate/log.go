// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// level is the severity of a log line.
type level string

const (
	levelInfo    level = "INFO"
	levelWarning level = "WARNING"
	levelError   level = "ERROR"
)

const humanTime = "2006-01-02 15:04:05"

// human is a time as logs and files have it.
func human(unixtime int64) string { return time.Unix(unixtime, 0).UTC().Format(humanTime) }

// logger writes lines in the original's form. Everything passes the sanitiser.
// What goes on in the background logs too.
type logger struct {
	mu  sync.Mutex
	out io.Writer // of the log
	raw io.Writer // of the report on servers
	now func() time.Time
}

func (l *logger) line(lv level, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "%s - sdwdate - %s - %s\n", l.now().UTC().Format(humanTime), lv, sanitise(text))
}

func (l *logger) infof(format string, args ...any) { l.line(levelInfo, fmt.Sprintf(format, args...)) }
func (l *logger) warnf(format string, args ...any) {
	l.line(levelWarning, fmt.Sprintf(format, args...))
}
func (l *logger) errorf(format string, args ...any) { l.line(levelError, fmt.Sprintf(format, args...)) }

// report writes a line about a server, bare.
func (l *logger) report(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.raw, "%s\n", sanitise(fmt.Sprintf(format, args...)))
}

// pythonList is a list of texts as Python prints it, which programs that read
// the log know.
func pythonList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = "'" + s + "'"
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func pythonInts[T ~int | ~int64](list []T) string {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = strconv.FormatInt(int64(n), 10)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// pythonFloats are seconds with the digits that they need, to the hundredth.
func pythonFloats(list []time.Duration) string {
	texts := make([]string, len(list))
	for i, d := range list {
		texts[i] = seconds(d)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// seconds is a duration rounded to the hundredth, as Python prints it.
func seconds(d time.Duration) string {
	text := strconv.FormatFloat(d.Round(10*time.Millisecond).Seconds(), 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
