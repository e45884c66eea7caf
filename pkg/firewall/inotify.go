// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// inotifyEvent is struct inotify_event of inotify(7).
type inotifyEvent struct {
	wd   int32
	mask uint32
	size int // of the name with its padding
	name string
}

func parseInotify(b []byte) inotifyEvent {
	e := inotifyEvent{
		wd:   int32(binary.NativeEndian.Uint32(b[0:])),
		mask: binary.NativeEndian.Uint32(b[4:]),
		size: int(binary.NativeEndian.Uint32(b[12:])),
	}
	e.name = unix.ByteSliceToString(b[unix.SizeofInotifyEvent:min(len(b), unix.SizeofInotifyEvent+e.size)])
	return e
}
