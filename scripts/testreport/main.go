// SPDX-License-Identifier: GPL-3.0-or-later

// Command testreport reads the output of `go test -json` and makes of it what a
// person and a CI want to see: a line a package, the whole output of what
// failed, and a closing line with the counts. It fails if a test failed or was
// skipped, if a package could not be built, and if nothing was tested at all.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
)

// event is one record of test2json, see `go doc cmd/test2json`.
type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

// report counts, and keeps the output of tests until it is known whether
// anybody needs it.
type report struct {
	out                     io.Writer
	passed, failed, skipped int
	broken                  bool
	output                  map[string]*strings.Builder
}

func main() {
	r := &report{out: os.Stdout, output: map[string]*strings.Builder{}}
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport: error:", err)
		os.Exit(1)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped\n", r.passed, r.failed, r.skipped)
	if r.failed+r.skipped > 0 || r.passed == 0 || r.broken {
		os.Exit(1)
	}
}

func (r *report) read(in io.Reader) error {
	const lineMax = 64 << 20
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<20), lineMax)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Fprintln(r.out, lines.Text()) // what go itself says
			continue
		}
		r.take(e)
	}
	return lines.Err()
}

func (r *report) take(e event) {
	key := e.Package + "\x00" + e.Test
	switch e.Action {
	case "output", "build-output":
		if r.output[key] == nil {
			r.output[key] = &strings.Builder{}
		}
		r.output[key].WriteString(e.Output)
		return
	case "pass", "fail", "skip":
	case "build-fail":
		r.broken = true
		r.show(key)
		return
	default:
		return
	}
	if e.Test == "" {
		r.endPackage(e, key)
		return
	}
	switch e.Action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		r.show(key)
	case "skip":
		r.skipped++
		fmt.Fprintln(r.out, "SKIPPED, which counts as failed:")
		r.show(key)
	}
	delete(r.output, key)
}

func (r *report) endPackage(e event, key string) {
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok\t%s\t%.1fs\n", e.Package, e.Elapsed)
	case "skip":
		fmt.Fprintf(r.out, "?\t%s\tno tests\n", e.Package)
	default:
		r.broken = true
		r.show(key)
		fmt.Fprintf(r.out, "FAIL\t%s\t%.1fs\n", e.Package, e.Elapsed)
	}
}

func (r *report) show(key string) {
	if b := r.output[key]; b != nil {
		fmt.Fprint(r.out, b.String())
	}
}
