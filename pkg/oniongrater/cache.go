// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"

	"whonix-networking/pkg/fsx"
)

// filterCache has the filters of the files as they are now. Every client gets
// those of the moment at which it connects; files that did not change are not
// read again.
type filterCache struct {
	root fsx.Root
	log  *journal

	mu        sync.Mutex
	loaded    bool
	signature string
	filters   []*Filter
}

// current returns the filters, read anew if a file has changed.
func (c *filterCache) current() []*Filter {
	c.mu.Lock()
	defer c.mu.Unlock()
	signature := c.sign()
	if c.loaded && signature == c.signature {
		return c.filters
	}
	filters, _ := c.load()
	c.signature, c.filters, c.loaded = signature, filters, true
	return filters
}

// reload reads all files at an administrator's word. If something is wrong with
// them, the filters that are in use stay, until a file changes again.
func (c *filterCache) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	signature := c.sign()
	filters, broken := c.load()
	switch {
	case broken && c.loaded:
		c.log.print("reload: there are errors, the old filters stay in use")
	default:
		c.filters = filters
		c.log.printf("reload: %d filters are in use", len(filters))
	}
	c.signature, c.loaded = signature, true
}

// load reads the files, and tells whether something had to be left out.
func (c *filterCache) load() (filters []*Filter, broken bool) {
	files, err := c.root.ConfFiles(FilterDir, profileSuffix)
	if err != nil {
		c.log.print(escaped(err.Error()))
		return nil, true
	}
	for _, file := range files {
		loaded, problems := LoadFile(c.root, file)
		for _, p := range problems {
			c.log.print(escaped(p.String()))
		}
		broken = broken || Broken(problems)
		filters = append(filters, loaded...)
	}
	return filters, broken
}

// sign is what changes when a file does: name, inode, size, times.
func (c *filterCache) sign() string {
	files, err := c.root.ConfFiles(FilterDir, profileSuffix)
	if err != nil {
		return "error: " + err.Error()
	}
	var out strings.Builder
	for _, file := range files {
		fi, err := os.Stat(c.root.Path(file))
		if err != nil {
			fmt.Fprintf(&out, "%q: %v\n", file, err)
			continue
		}
		st := fi.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%q %d:%d %d %o %d %d\n", file, st.Dev, st.Ino, st.Size, st.Mode, fi.ModTime().UnixNano(), st.Ctim.Nano())
	}
	return out.String()
}
