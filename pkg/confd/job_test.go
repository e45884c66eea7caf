// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"whonix-networking/pkg/fsx"
)

// jobs are drop-ins that start more than one command at a time.
var jobs = map[string]string{
	"group":             "a='x  y'\n{ printf '%s\\n' \"$a\"; echo two; } &",
	"subshell":          "( sleep 0.01; echo after ) &",
	"list":              "true && echo yes &",
	"otherwise":         "false || echo no &",
	"pipeline":          "echo abc | tr a-c A-C &",
	"negated":           "! false && echo turned &",
	"loop":              "for i in 1 2; do echo \"in $i\"; done &",
	"while":             "n=0\nwhile [ $n -lt 3 ]; do n=$((n+1)); echo $n; done &",
	"in a loop":         "for p in 1 2; do { echo $p; echo $((p*10)); } & done",
	"condition":         "if true; then echo yes; else echo no; fi &",
	"function":          "f() { local x=1; echo \"f $1 $x\"; g; }\ng() { echo g; }\nf 'a b' &",
	"function by name":  "f() { echo \"f $*\"; }\nwhich=f\n$which a 'b c' &",
	"variable before":   "f() { echo \"$X\"; }\nX=1 f &",
	"in a function":     "f() { local x=inner; { echo \"$x $1\"; } & }\nx=outer\nf arg",
	"case":              "case x in x) { echo chosen; } & ;; esac",
	"builtin":           "eval 'echo evaluated' &",
	"colon":             ": &\necho still",
	"redirected":        "echo hidden > /dev/null &\n{ echo shown; } 2>&1 &",
	"plain redirected":  "sh -c 'echo to stderr >&2' 2>&1 &",
	"here-document":     "v=5\ncat <<EOF &\nv is $v\nEOF\necho behind",
	"here-string":       "v=6\ncat <<< \"v is $v\" &",
	"process":           "cat <(echo from a process) &",
	"directory":         "cd /usr\n{ pwd; echo \"$PWD\"; } &\npwd &\ncd /\n{ pwd; } &",
	"umask":             "umask 027\n{ umask; } &",
	"exported":          "export A=1\nB=2\n{ sh -c 'echo \"$A-$B\"'; echo $B; } &",
	"not exported":      "{ sh -c 'echo \"$GATEWAY_IP6\"'; echo \"$GATEWAY_IP6 $GATEWAY_IP\"; } &",
	"unset":             "unset GATEWAY_IP\n{ echo \"${GATEWAY_IP-unset}\"; sh -c 'echo ${GATEWAY_IP-none}'; } &",
	"arrays":            "a=(1 'b c' '')\ndeclare -A m=([k]='v w')\n{ printf '<%s>' \"${a[@]}\" \"${m[k]}\"; echo; } &",
	"odd text":          "a=$'q\"\\'$`\\\\\\n\\te'\n{ printf '%q\\n' \"$a\"; } &",
	"nullglob":          "{ echo /nowhere/*; } &",
	"shell options":     "shopt -s extglob\nset -f\n{ echo *; [[ abb == a+(b) ]] && echo matches; } &",
	"fields":            "IFS=:\nv=a:b\n{ printf '%s\\n' $v; } &",
	"ends at a failure": "{ echo one; false; echo never; } &",
	"background of its": "{ { sleep 0.05; echo late; } & echo early; } &",
	"subshell of jobs":  "( cd /usr; { pwd; echo x; } & wait )",
	"exported function": "f() { echo exported; }\nexport -f f\n{ bash -c f; } &",
	"positional":        "{ echo \"$# <$*>\"; } &",
	"substitution":      "v=$( { echo in; } ; echo out )\n{ echo \"$v\"; } &",
	"readonly":          "readonly R=fixed\n{ echo $R; } &",
	"two in a line":     "{ echo a; } & { echo b; } & echo c",
	"comment":           "{ echo a; # not & this\n echo '&'; } & # nor this &",
}

// TestJobs: what is more than one command does what it does when bash starts it.
func TestJobs(t *testing.T) {
	for name, text := range jobs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "etc", "x.conf")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			environ := []string{"GATEWAY_IP=10.152.152.10", "GATEWAY_IP6=fd19::10", "TZ=UTC"}
			bash := exec.Command("/bin/bash", "-c", "export -n GATEWAY_IP6; set -e; shopt -s nullglob; . "+path+"; wait")
			bash.Env = environ
			want, err := bash.Output()
			if err != nil {
				t.Fatal(err)
			}

			var got bytes.Buffer
			res, err := Evaluate(context.Background(), Options{
				Root: fsx.Root(dir), Dirs: []string{"/etc"}, Shell: Shell{Errexit: true, Nullglob: true}, AnyOwner: true,
				Environ: environ, Note: []string{"socat"}, Plain: []string{"GATEWAY_IP6"}, Output: &got, Stderr: os.Stderr,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range res.Commands {
				cmd := exec.Command(c.Args[0], c.Args[1:]...)
				cmd.Env, cmd.Dir = append(append(slices.Clone(environ[:1]), environ[2:]...), c.Exported...), c.Dir
				out, _ := cmd.Output() // it may be meant to fail
				got.Write(out)
			}
			if a, b := sortedLines(got.String()), sortedLines(string(want)); a != b {
				t.Errorf("%q gives\n%s, and in bash\n%s", text, a, b)
			}
		})
	}
}

func sortedLines(text string) string {
	lines := slices.Collect(strings.Lines(text))
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// TestJobNamesItsLine: bash's own messages name the drop-in and its line, and so
// does what is noted.
func TestJobNamesItsLine(t *testing.T) {
	for _, text := range []string{"{ nonesuch; } &", "# one\n# two\n{ true\n nonesuch; } &", "x=1\n( cat <<EOF; nonesuch ) &\nbody\nEOF\n", "f() {\n nonesuch\n}\n{ true; nonesuch; } &"} {
		res, _, _, err := noting(t, text)
		if err != nil || len(res.Commands) != 1 {
			t.Fatalf("%q: %v %v", text, res, err)
		}
		c := res.Commands[0]
		var stderr bytes.Buffer
		cmd := exec.Command(c.Args[0], c.Args[1:]...)
		cmd.Stderr = &stderr
		if err := cmd.Run(); err == nil {
			t.Errorf("%q: success", text)
		}
		line := 1 + strings.Count(text[:strings.LastIndex(text, "nonesuch")], "\n")
		want := "/etc/x.conf: line " + strconv.Itoa(line) + ": nonesuch: command not found\n"
		if stderr.String() != want {
			t.Errorf("%q: %q, want %q", text, stderr.String(), want)
		}
		if c.Text == "" || !strings.Contains(c.Text, "nonesuch") || c.Origin.File != "/etc/x.conf" {
			t.Errorf("%+v", c)
		}
	}
}
