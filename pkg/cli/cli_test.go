// SPDX-License-Identifier: GPL-3.0-or-later

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestRun(t *testing.T) {
	cause := errors.New("no such thing")
	for _, c := range []struct {
		name        string
		args        []string
		err         error
		code        int
		out, errOut string
	}{
		{"success", []string{"/usr/bin/tool"}, nil, 0, "", ""},
		{"failure", []string{"/usr/bin/tool"}, cause, 1, "", "tool: error: no such thing\n"},
		{"usage", []string{"tool"}, Usagef("bad %q", "x"), 2, "", "tool: error: bad \"x\"\n"},
		{"hint", []string{"tool"}, WithHint(fmt.Errorf("read: %w", cause), "look in %s", "there"), 1, "", "tool: error: read: no such thing\ntool: hint: look in there\n"},
		{"code without a word", []string{"tool"}, &Exit{Code: 7}, 7, "", ""},
		{"code with hint inside", []string{"tool"}, &Exit{Code: 3, Err: WithHint(cause, "h")}, 3, "", "tool: error: no such thing\ntool: hint: h\n"},
		{"version", []string{"tool", "--version"}, cause, 0, "tool (whonix-networking) unreleased\n", ""},
		{"version is no option among others", []string{"tool", "--version", "x"}, cause, 1, "", "tool: error: no such thing\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			env := Env{Args: c.args, Stdout: &out, Stderr: &errOut}
			code := Run(context.Background(), env, func(context.Context, Env) error { return c.err })
			if code != c.code || out.String() != c.out || errOut.String() != c.errOut {
				t.Errorf("code %d, output %q, errors %q", code, out.String(), errOut.String())
			}
		})
	}
}

func TestEnv(t *testing.T) {
	e := Env{Environ: []string{"A=1", "AB=x", "A=2", "E="}}
	for key, want := range map[string]string{"A": "2", "E": "", "B": "-"} {
		got, ok := e.Lookup(key)
		if !ok {
			got = "-"
		}
		if got != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if e.Name() != "unknown" || (Env{Args: []string{""}}).Name() != "unknown" || (Env{Args: []string{"/a/b"}}).Name() != "b" {
		t.Error("the name is wrong")
	}
}

func TestExitUnwraps(t *testing.T) {
	cause := errors.New("x")
	if !errors.Is(&Exit{Code: 1, Err: cause}, cause) || (&Exit{Code: 4}).Error() != "exit status 4" || Code(fmt.Errorf("w: %w", &Exit{Code: 9})) != 9 {
		t.Error("an Exit hides its cause")
	}
}
