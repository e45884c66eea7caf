// SPDX-License-Identifier: GPL-3.0-or-later

package elfx

import (
	"bytes"
	"debug/elf"
	"io"
)

// needed is the libraries that a program is linked with, DT_NEEDED, as far as
// they can be read: by the program's headers, as the dynamic linker does, since
// sections can be stripped off.
func needed(x *elf.File) []string {
	const entriesMax = 4096
	wide := x.Class == elf.ELFCLASS64
	size := 8
	if wide {
		size = 16
	}
	var names []uint64 // offsets in the table of strings
	var table uint64
	data := segment(x, elf.PT_DYNAMIC, uint64(entriesMax*size))
	for ; len(data) >= size; data = data[size:] {
		var tag, value uint64
		if wide {
			tag, value = x.ByteOrder.Uint64(data), x.ByteOrder.Uint64(data[8:])
		} else {
			tag, value = uint64(x.ByteOrder.Uint32(data)), uint64(x.ByteOrder.Uint32(data[4:]))
		}
		switch elf.DynTag(tag) {
		case elf.DT_NULL:
			return texts(x, table, names)
		case elf.DT_NEEDED:
			names = append(names, value)
		case elf.DT_STRTAB:
			table = value
		}
	}
	return texts(x, table, names)
}

// segment is the first segment of a type, up to a size.
func segment(x *elf.File, kind elf.ProgType, sizeMax uint64) []byte {
	for _, p := range x.Progs {
		if p.Type == kind {
			data := make([]byte, min(p.Filesz, sizeMax))
			n, err := p.ReadAt(data, 0)
			if err != nil && err != io.EOF {
				return nil
			}
			return data[:n]
		}
	}
	return nil
}

// texts reads strings of a table that is at an address in memory.
func texts(x *elf.File, table uint64, offsets []uint64) []string {
	const nameMax = 256
	var out []string
	for _, p := range x.Progs {
		if p.Type != elf.PT_LOAD || table < p.Vaddr || table-p.Vaddr >= p.Filesz {
			continue
		}
		for _, offset := range offsets {
			at := table - p.Vaddr + offset
			if at < offset || at >= p.Filesz {
				continue
			}
			data := make([]byte, min(p.Filesz-at, nameMax))
			n, _ := p.ReadAt(data, int64(at))
			if name, _, ended := bytes.Cut(data[:n], []byte{0}); ended {
				out = append(out, string(name))
			}
		}
	}
	return out
}
