// SPDX-License-Identifier: GPL-3.0-or-later

package elfx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const dynamicProgram = "/bin/true"

// copied is a copy of a dynamic program, changed by edit.
func copied(t *testing.T, edit func(data []byte) []byte) string {
	t.Helper()
	data, err := os.ReadFile(dynamicProgram)
	if err != nil {
		t.Fatal(err)
	}
	if edit != nil {
		data = edit(data)
	}
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func written(t *testing.T, text string) string {
	t.Helper()
	return copied(t, func([]byte) []byte { return []byte(text) })
}

// library looks like what is preloaded on this machine.
func library(t *testing.T) File {
	t.Helper()
	f, err := Examine(dynamicProgram)
	if err != nil || f.Kind != ELF || f.Loader == "" || f.Go {
		t.Fatalf("%+v %v", f, err)
	}
	return f
}

func built(t *testing.T, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, source)
	cmd.Env = append(os.Environ(), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

func TestUnreached(t *testing.T) {
	mode := func(m uint32) string {
		p := copied(t, nil)
		if err := unix.Chmod(p, m); err != nil {
			t.Fatal(err)
		}
		return p
	}
	capable := copied(t, nil)
	const revision2, netBind = 0x02000001, 1 << 10 // effective; see capability.h
	attribute := binary.LittleEndian.AppendUint32(nil, revision2)
	attribute = binary.LittleEndian.AppendUint32(attribute, netBind)
	attribute = append(attribute, make([]byte, 12)...)
	if err := unix.Setxattr(capable, "security.capability", attribute, 0); err != nil {
		t.Fatal(err)
	}
	machine := func(d []byte) []byte { d[18] ^= 0xff; return d }
	musl := func(d []byte) []byte {
		return bytes.Replace(d, []byte("/lib64/ld-linux-x86-64.so.2"), []byte("/lib64/ld-musl-x86_64.so.1\x00"), 1)
	}
	noLibc := func(d []byte) []byte {
		return bytes.ReplaceAll(d, []byte("\x00libc.so.6\x00"), []byte("\x00libx.so.6\x00"))
	}
	bare := func(d []byte) []byte { // without a section table
		d = noLibc(d)
		clear(d[0x28:0x30])
		clear(d[0x3a:0x40])
		return d
	}
	for name, c := range map[string]struct{ path, want string }{
		"without libc":        {copied(t, noLibc), "no libc"},
		"without sections":    {copied(t, bare), "no libc"},
		"dynamic":             {dynamicProgram, ""},
		"setuid":              {mode(0o4755), "setuid"},
		"setgid":              {mode(0o2755), "setgid"},
		"capabilities":        {capable, "capabilities"},
		"Go, static":          {built(t, "CGO_ENABLED=0"), "static"},
		"Go, position indep.": {built(t, "CGO_ENABLED=0", "GOFLAGS=-buildmode=pie"), "Go"},
		"another machine":     {copied(t, machine), "other architecture"},
		"musl":                {copied(t, musl), "other libc"},
		"script":              {written(t, "#!/bin/sh\n"), ""},
		"no format":           {written(t, "echo hello\n"), "unknown format"},
		"empty":               {written(t, ""), "unknown format"},
	} {
		f, err := Examine(c.path)
		if got := f.Unreached(library(t)); err != nil || got != c.want {
			t.Errorf("%s: %q, want %q (%v)", name, got, c.want, err)
		}
	}
}

// TestGoWithoutSections: a stripped section table hides nothing.
func TestGoWithoutSections(t *testing.T) {
	path := built(t, "CGO_ENABLED=0")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(data[0x28:0x30]) // e_shoff
	clear(data[0x3a:0x40]) // e_shentsize, e_shnum, e_shstrndx
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if f, err := Examine(path); err != nil || !f.Go {
		t.Errorf("%+v %v", f, err)
	}
}

func TestScriptLine(t *testing.T) {
	for line, want := range map[string][2]string{
		"#!/bin/sh\n":                     {"/bin/sh", ""},
		"#! /usr/bin/perl -w -T \nx":      {"/usr/bin/perl", "-w -T"},
		"#!\t/bin/sh\t-e\n":               {"/bin/sh", "-e"},
		"#!/usr/bin/env python3":          {"/usr/bin/env", "python3"},
		"#!":                              {"", ""},
		"#! \n/bin/sh":                    {"", ""},
		"#!" + strings.Repeat("a", 300):   {strings.Repeat("a", lineMax-2), ""},
		"#!/bin/a b\tc\n":                 {"/bin/a", "b\tc"},
		"#!/usr/bin/env -S python3 -I\n#": {"/usr/bin/env", "-S python3 -I"},
	} {
		f, err := Examine(written(t, line))
		if err != nil || f.Interpreter != want[0] || f.Argument != want[1] || (f.Kind == Script) != (want[0] != "") {
			t.Errorf("%q: %q %q %v %v", line, f.Interpreter, f.Argument, f.Kind, err)
		}
	}
}

// TestChain: every program that will run is examined, to the last.
func TestChain(t *testing.T) {
	static := built(t, "CGO_ENABLED=0")
	inner := written(t, "#!"+static+"\n")
	t.Chdir(filepath.Dir(static))
	for script, want := range map[string]string{
		"#!/bin/sh\n":                                  "/bin/sh",
		"#!" + static + " x\n":                         static,
		"#!" + inner + "\n":                            static,
		"#!/usr/bin/env program\n":                     filepath.Dir(static) + "/program",
		"#!/usr/bin/env -S A=1 program x\n":            filepath.Dir(static) + "/program",
		"#!/usr/bin/env --split-string=-i program x\n": filepath.Dir(static) + "/program",
		"#!/usr/bin/env not-there\n":                   "/usr/bin/env",
		"#!program\n":                                  "program",
		"echo no first line\n":                         "/bin/sh",
	} {
		chain, err := Chain(written(t, script), "/nowhere:"+filepath.Dir(static))
		if err != nil || len(chain) < 2 || chain[len(chain)-1].Path != want {
			t.Errorf("%q: %+v %v, want %s", script, chain, err, want)
		}
	}
	loop := filepath.Join(t.TempDir(), "loop")
	if err := os.WriteFile(loop, []byte("#!"+loop+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Chain(loop, ""); !errors.Is(err, unix.ELOOP) {
		t.Errorf("an interpreter loop: %v", err)
	}
	if _, err := Chain("/nothing/here", ""); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a missing program: %v", err)
	}
	if _, err := Examine("/"); err == nil {
		t.Error("a directory")
	}
}

// TestChainEnvironment: what env(1) runs without LD_PRELOAD is not held by it.
func TestChainEnvironment(t *testing.T) {
	for line, cleared := range map[string]bool{
		"#!/usr/bin/env sh": false, "#!/usr/bin/env -S sh -i": false, "#!/usr/bin/env -S A=1 B= sh": false, "#!/usr/bin/env -vS sh": false,
		"#!/usr/bin/env -S -i sh": true, "#!/usr/bin/env -iS sh": true, "#!/usr/bin/env -S - sh": true, "#!/usr/bin/env -S -u LD_PRELOAD sh": true,
		"#!/usr/bin/env -S LD_PRELOAD= sh": true, "#!/usr/bin/env -S LD_AUDIT=x sh": true, "#!/usr/bin/env -S --ignore-environment sh": true,
		"#!/usr/bin/env --split-string=-i sh": true, `#!/usr/bin/env -S "-i" sh`: true, `#!/usr/bin/env -S \-i sh`: true, "#!/usr/bin/env -S ${X} sh": true,
		"#!/usr/bin/env -i": true, "#!/usr/bin/env LD_PRELOAD=": true, "#!/bin/sh -i": false,
	} {
		chain, _ := Chain(written(t, line+"\n"), "/usr/bin:/bin")
		why := ""
		for _, f := range chain {
			why += f.Unreached(library(t))
		}
		if (why == "clears LD_PRELOAD") != cleared || !cleared && why != "" {
			t.Errorf("%s: %q", line, why)
		}
	}
}

func FuzzExamine(f *testing.F) {
	data, err := os.ReadFile(dynamicProgram)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data[:4096])
	f.Add([]byte("#!/bin/sh\n"))
	path := filepath.Join(f.TempDir(), "program")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		got, err := Examine(path)
		if err == nil && got.Kind == Script && got.Interpreter == "" {
			t.Errorf("%q: a script without interpreter", data)
		}
	})
}
