// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
)

// noting evaluates a fragment with socat noted, and tells what was, one
// command a line.
func noting(t *testing.T, text string) (res *Result, told, output string, err error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/etc", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/etc/x.conf", []byte(text+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	res, err = Evaluate(context.Background(), Options{
		Root: fsx.Root(dir), Dirs: []string{"/etc"}, Shell: Shell{Errexit: true, Nullglob: true}, AnyOwner: true,
		Environ: []string{"GATEWAY_IP=10.152.152.10", "GATEWAY_IP6=[fd19:c33d:88bc::10]"}, Note: []string{"socat"}, Plain: []string{"GATEWAY_IP6"}, Output: out, Stderr: out,
	})
	printed, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	if res == nil {
		return nil, "", string(printed), err
	}
	var b strings.Builder
	for _, c := range res.Commands {
		fmt.Fprintf(&b, "%d %v %q %q\n", c.Origin.Line, c.Background, c.Environ, c.Args)
	}
	return res, b.String(), string(printed), err
}

// TestNoted: what the published drop-ins start is noted, without bash where
// the contract wants that, and the same by bash.
func TestNoted(t *testing.T) {
	const gateway = "10.152.152.10"
	for _, c := range []struct{ name, text, want, output string }{
		{"plain", "socat TCP-LISTEN:9998,fork,bind=127.0.0.1 TCP:$GATEWAY_IP:9998 &", `1 true [] ["socat" "TCP-LISTEN:9998,fork,bind=127.0.0.1" "TCP:` + gateway + `:9998"]`, ""},
		{"idiom", "[ -n \"$pre_command\" ] || pre_command=\"\"\n$pre_command socat A B &", `2 true [] ["socat" "A" "B"]`, ""},
		{"before it", "pre_command='env X=1'\n$pre_command socat A B &", `2 true [] ["env" "X=1" "socat" "A" "B"]`, ""},
		{"loop", "for p in $LIST 7656 7657; do socat TCP-LISTEN:\"$p\",fork,bind=127.0.0.1 TCP:$GATEWAY_IP:\"$p\" & done",
			`1 true [] ["socat" "TCP-LISTEN:7656,fork,bind=127.0.0.1" "TCP:` + gateway + `:7656"]` + "\n" + `1 true [] ["socat" "TCP-LISTEN:7657,fork,bind=127.0.0.1" "TCP:` + gateway + `:7657"]`, ""},
		{"brackets", "socat A TCP:$GATEWAY_IP6:9 &\nsocat A TCP:[::1]:9 &", `1 true [] ["socat" "A" "TCP:[fd19:c33d:88bc::10]:9"]` + "\n" + `2 true [] ["socat" "A" "TCP:[::1]:9"]`, ""},
		{"foreground", "socat A B", `1 false [] ["socat" "A" "B"]`, ""},
		{"function", "f() { socat A B & }\nf", `1 true [] ["socat" "A" "B"]`, ""},
		{"output", "echo a  b; printf '%s\\n' c d", "", "a b\nc\nd\n"},
		{"variable before", "X=1 socat A B &", `1 true ["X=1"] ["socat" "A" "B"]`, ""},
		{"other", "sleep 100 &", `1 true [] ["sleep" "100"]`, ""},
		{"nothing", "$nothing &", "", ""},
	} {
		for tier, more := range map[Tier]string{Native: "", Bash: "\nx=$((1))"} {
			res, told, output, err := noting(t, c.text+more)
			want := strings.TrimLeft(c.want+"\n", "\n")
			if tier == Bash {
				want = strings.ReplaceAll(want, `["X=1"] ["socat"`, `[] ["env" "X=1" "socat"`)
			}
			if err != nil || res.Tier != tier || told != want || output != c.output {
				t.Errorf("%s: %v, %v: %q, want %q; output %q", c.name, err, res, told, want, output)
			}
		}
	}
}

// TestNotedByBashOnly: what needs bash is found in it all the same.
func TestNotedByBashOnly(t *testing.T) {
	for text, want := range map[string]string{
		"( socat A B & )": `1 true [] ["socat" "A" "B"]` + "\n", "p=$(echo 80)\nsocat \"TCP-LISTEN:$p\" B &": `2 true [] ["socat" "TCP-LISTEN:80" "B"]` + "\n",
		"for ((i=1;i<3;i++)); do socat $i B & done": `1 true [] ["socat" "1" "B"]` + "\n" + `1 true [] ["socat" "2" "B"]` + "\n", "eval 'socat A B'": `1 false [] ["socat" "A" "B"]` + "\n",
	} {
		_, told, _, err := noting(t, text)
		if err != nil || told != want {
			t.Errorf("%q: %q, want %q; %v", text, told, want, err)
		}
	}
	for text, want := range map[string]string{
		"socat A B >/dev/null 2>&1 &": `1 true [] ["socat" "A" "B"]` + "\n", "socat A B 2>> /dev/null &\nsocat C D &": `1 true [] ["socat" "A" "B"]` + "\n" + `2 true [] ["socat" "C" "D"]` + "\n",
	} {
		if _, told, _, err := noting(t, text); err != nil || told != want {
			t.Errorf("%q: %q, want %q; %v", text, told, want, err)
		}
	}
	if _, told, _, err := noting(t, "coproc cat"); err == nil || !strings.Contains(err.Error(), "x.conf:1: a coprocess cannot") {
		t.Errorf("%q %v", told, err)
	}
}

// TestNotedExport: exported variables are for what is started behind them, and
// what fragments only find is for nobody.
func TestNotedExport(t *testing.T) {
	for _, more := range []string{"", "\nx=$((1))"} {
		res, _, _, err := noting(t, "sleep 1 &\nexport A=1 B\nB=2\nsleep 2 &\nA=3 C=4 GATEWAY_IP=5 GATEWAY_IP6=6\nsleep 3 &"+more)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range [][]string{nil, {"A=1", "B=2"}, {"A=3", "B=2", "GATEWAY_IP=5"}} {
			got := slices.Sorted(slices.Values(res.Commands[i].Exported))
			if !slices.Equal(got, want) {
				t.Errorf("%q: command %d gets %q, want %q", more, i, got, want)
			}
		}
	}
}

// TestNotedExit: exit ends everything, with its status.
func TestNotedExit(t *testing.T) {
	for _, text := range []string{"exit 7", "x=$((1))\nexit 7", "f() { exit 7; }\nf"} {
		_, _, _, err := noting(t, text)
		var exit *ExitError
		if !errors.As(err, &exit) || exit.Status != 7 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestNotedFailure: the status of what failed is known.
func TestNotedFailure(t *testing.T) {
	for text, want := range map[string]int{"[ 1 = 2 ] && x=1": 1, "x=$((1))\n(exit 7)": 7, "x=$((1))\n[ 1 = 2 ] && x=1": 1, "return 3": 3, "x=$((1))\nreturn 3": 3, "false": 1} {
		_, _, _, err := noting(t, text)
		var failed *EvalError
		if !errors.As(err, &failed) || failed.Status != want || failed.Origin.Line != 1+strings.Count(text, "\n") {
			t.Errorf("%q: %+v, want %d", text, err, want)
		}
	}
}
