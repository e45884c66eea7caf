// SPDX-License-Identifier: GPL-3.0-or-later

// Package elfx classifies executables by what decides whether LD_PRELOAD
// reaches them: elf(5), execve(2), ld.so(8).
package elfx

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kind is what execve(2) makes of a file.
type Kind int

// The kinds. Other is what the kernel refuses with ENOEXEC, unless
// binfmt_misc knows it.
const (
	Other Kind = iota
	Script
	ELF
)

// File is an examined executable.
type File struct {
	Path string
	Kind Kind

	// Of a script, the words of its first line: the interpreter's path, and
	// what it is given. execve(2) passes the rest of the line as one word.
	Interpreter, Argument string

	// Of an ELF file.
	Loader  string // PT_INTERP: the dynamic linker; empty in static programs
	Class   elf.Class
	Machine elf.Machine
	Go      bool // built by the Go toolchain, which makes system calls itself
	Libc    bool // linked with glibc's libc.so.6, through which it makes them

	// Of env(1) as an interpreter: it changes what the dynamic linker is told.
	Clears bool

	Setuid, Setgid bool
	Capabilities   bool // has the attribute security.capability
}

// ErrNotRegular says that execve(2) would refuse a file for its type.
var ErrNotRegular = errors.New("not a regular file")

// Limits on what is read of a file.
const (
	lineMax   = 256 // BINPRM_BUF_SIZE: the kernel reads no more of a first line
	loaderMax = 4096
)

// Examine reads what matters of the executable at path, following links.
func Examine(path string) (File, error) {
	f := File{Path: path}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return f, err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return f, err
	}
	if !fi.Mode().IsRegular() {
		return f, &fs.PathError{Op: "examine", Path: path, Err: ErrNotRegular}
	}
	f.Setuid, f.Setgid = fi.Mode()&fs.ModeSetuid != 0, fi.Mode()&fs.ModeSetgid != 0
	f.Capabilities, err = capable(file)
	if err != nil {
		return f, &fs.PathError{Op: "getxattr", Path: path, Err: err}
	}
	start := make([]byte, lineMax)
	n, err := io.ReadFull(file, start)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return f, err
	}
	start = start[:n]
	switch {
	case bytes.HasPrefix(start, []byte("#!")):
		f.script(start[2:])
		return f, nil
	case bytes.HasPrefix(start, []byte(elf.ELFMAG)):
		return f, f.elf(file)
	}
	return f, nil
}

func capable(file *os.File) (bool, error) {
	const attribute = "security.capability"
	_, err := unix.Fgetxattr(int(file.Fd()), attribute, nil)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return false, nil
	}
	return false, err
}

// script reads the first line behind #!, as the kernel's binfmt_script does.
func (f *File) script(line []byte) {
	line, _, _ = bytes.Cut(line, []byte("\n"))
	line = bytes.Trim(line, " \t\x00")
	word, rest, _ := bytes.Cut(line, []byte(" "))
	if i := bytes.IndexByte(line, '\t'); i >= 0 && i < len(word) {
		word, rest = line[:i], line[i+1:]
	}
	if len(word) > 0 {
		f.Kind = Script
		f.Interpreter, f.Argument = string(word), strings.Trim(string(rest), " \t")
	}
}

func (f *File) elf(file *os.File) error {
	x, err := elf.NewFile(file)
	if err != nil {
		return fmt.Errorf("%s: %w", f.Path, err)
	}
	f.Kind, f.Class, f.Machine = ELF, x.Class, x.Machine
	for _, p := range x.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, min(p.Filesz, loaderMax))
		if _, err := p.ReadAt(text, 0); err != nil {
			return fmt.Errorf("%s: the dynamic linker's name cannot be read: %w", f.Path, err)
		}
		f.Loader = string(bytes.TrimRight(text, "\x00"))
	}
	f.Go = builtByGo(x)
	f.Libc = f.Loader != "" && slices.Contains(needed(x), "libc.so.6")
	return nil
}

// builtByGo looks for the section .go.buildinfo, or, where sections were
// stripped off, for its mark at the begin of the data, as debug/buildinfo does.
func builtByGo(x *elf.File) bool {
	if len(x.Sections) > 0 {
		return x.Section(".go.buildinfo") != nil || x.Section(".note.go.buildid") != nil
	}
	const mark, searched = "\xff Go buildinf:", 1 << 20
	for _, p := range x.Progs {
		if p.Type != elf.PT_LOAD || p.Flags&elf.PF_W == 0 {
			continue
		}
		data := make([]byte, min(p.Filesz, searched))
		n, err := p.ReadAt(data, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return false
		}
		return bytes.Contains(data[:n], []byte(mark))
	}
	return false
}

// Privileged names the privilege that executing the file gives, for which the
// dynamic linker ignores LD_PRELOAD; empty if there is none.
func (f File) Privileged() string {
	switch {
	case f.Setuid:
		return "setuid"
	case f.Setgid:
		return "setgid"
	case f.Capabilities:
		return "capabilities"
	}
	return ""
}

// Unreached says why a preloaded library that looks like lib does not reach
// the program, or does not hold its system calls: one of "setuid", "setgid",
// "capabilities", "static", "Go", "other architecture", "other libc", "no libc",
// "clears LD_PRELOAD", "unknown format". Empty means that the library is in
// force, or, for a script, that its interpreter decides. A script's privilege
// bits have no effect in Linux, but libtorsocks refuses it for them.
func (f File) Unreached(lib File) string {
	switch {
	case f.Privileged() != "":
		return f.Privileged()
	case f.Kind == Script:
		return ""
	case f.Kind != ELF:
		return "unknown format"
	case f.Loader == "":
		return "static"
	case f.Go:
		return "Go"
	case f.Class != lib.Class || f.Machine != lib.Machine:
		return "other architecture"
	case !strings.HasPrefix(filepath.Base(f.Loader), "ld-linux"):
		return "other libc"
	case !f.Libc:
		return "no libc"
	case f.Clears:
		return "clears LD_PRELOAD"
	}
	return ""
}
