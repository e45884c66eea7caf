// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"log/syslog"
	"sync"

	"whonix-networking/pkg/cli"
)

// journal is where the helper complains: it has no terminal. It says each kind
// of thing once.
type journal struct {
	env    cli.Env
	mu     sync.Mutex
	said   map[string]bool
	writer *syslog.Writer // nil until something is said, or without a syslog
}

func newJournal(env cli.Env) *journal { return &journal{env: env, said: map[string]bool{}} }

// report writes err down, unless something of its kind was before.
func (j *journal) report(kind string, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.said[kind] {
		return
	}
	j.said[kind] = true
	if j.writer == nil {
		const tag = "bindp-launcher"
		w, dialErr := syslog.New(syslog.LOG_WARNING|syslog.LOG_USER, tag)
		if dialErr != nil {
			j.env.Warnf("%v", err) // to standard error, which is nowhere when started by the launcher
			return
		}
		j.writer = w
	}
	_ = j.writer.Warning(err.Error()) // there is nobody to tell
}

func (j *journal) close() {
	if j.writer != nil {
		j.writer.Close()
	}
}
