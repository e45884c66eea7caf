// SPDX-License-Identifier: GPL-3.0-or-later

package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const stream = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"why\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"no tool\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"skip","Package":"q"}
{"Action":"pass","Package":"r","Elapsed":0.1}
not json
`
	var out strings.Builder
	r := &report{out: &out, output: map[string]*strings.Builder{}}
	if err := r.read(strings.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	if r.passed != 1 || r.failed != 1 || r.skipped != 1 || !r.broken {
		t.Errorf("%+v", r)
	}
	for _, want := range []string{"why\n", "SKIPPED", "no tool\n", "FAIL\tp\t1.5s", "?\tq\tno tests", "ok\tr\t0.1s", "not json\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
	if strings.Contains(out.String(), "noise") {
		t.Error("the output of a test that passed is shown")
	}
}
