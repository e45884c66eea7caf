// SPDX-License-Identifier: GPL-3.0-or-later

package session

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

// bashPath is the shell that sources what is not plain.
const bashPath = "/bin/bash"

// Records that the script writes to its private descriptor, each followed by
// its NUL-terminated fields.
const (
	recFile  = "F" // path: a fragment begins
	recFail  = "E" // file, line, command: a command failed
	recState = "S" // what is set now; see readState
)

// script is the shell's script. Fragments are sourced in one function, as the
// wrapper of old does: what they declare local lasts to the end of the last.
//
// Errexit ends the shell at an unguarded failure in a fragment. Only that the
// last command of a whole file yields a status other than 0 is no failure
// (U8), unless the file says so itself by a return: for that the handler sets
// errexit aside for one command.
const script = `
exec {__session_out}>&3- {__session_in}<&4-
unset __session_mend
__session_put() { builtin printf '%s\0' "$@" >&"$__session_out"; }
__session_failed() {
	if [[ $4 == "$__session_function" && -z ${__session_strict["$i"]-} && $2 == 'source "$i"' ]]; then
		__session_mend=1
		builtin set +e
		return 0
	fi
	__session_put E "$3" "$1" "$2"
	builtin exit 1
}
__session_state() {
	builtin local -
	builtin set +eu -f
	builtin local IFS=$'\n' __session_n __session_k
	__session_put S
	builtin ulimit -Sn >&"$__session_out"
	builtin printf '\0' >&"$__session_out"
	for __session_n in $(builtin compgen -e); do
		[[ $__session_n == __session_* || -z ${!__session_n+set} ]] || __session_put x "$__session_n" "${!__session_n}"
	done
	for __session_n in $__session_names; do
		[[ -z ${!__session_n+set} ]] || __session_put v "$__session_n" "${!__session_n}"
	done
	for __session_n in $__session_arrays; do
		builtin local -n __session_a=$__session_n
		for __session_k in "${!__session_a[@]}"; do
			__session_put a "$__session_n" "$__session_k" "${__session_a["$__session_k"]}"
		done
		builtin unset -n __session_a
	done
	for __session_n in $__session_hooks; do
		! builtin declare -F "$__session_n" >/dev/null || __session_put h "$__session_n"
	done
	__session_put . "$i"
}
builtin readonly -f __session_put __session_failed __session_state
`

// driver is the part that sources; %s is the function's name.
const driver = `
%[1]s() {
	builtin shopt -s nullglob
	for i in "${__session_files[@]}"; do
		__session_put F "$i"
		if [[ -n ${__session_checked["$i"]-} ]]; then
			/bin/bash --norc --noprofile -n "$i"
		fi
		source "$i"
		if [[ -n ${__session_mend-} ]]; then
			builtin unset __session_mend
			builtin set -e
		fi
		! (( __session_each )) || __session_state
	done
}
i=
__session_state
builtin trap '__session_failed "$LINENO" "$BASH_COMMAND" "${BASH_SOURCE[0]-}" "${FUNCNAME[0]-}"' ERR
builtin set -eE -o pipefail
%[1]s "$@"
__session_state
while IFS= builtin read -r -d '' -u "$__session_in" __session_line; do
	case $__session_line in
	=*)
		__session_line=${__session_line#=}
		builtin printf -v "${__session_line%%%%=*}" %%s "${__session_line#*=}" ;;
	*) "$__session_line" "$@" ; __session_state ;;
	esac
done
`

// shell is a running bash that has sourced fragments and waits.
type shell struct {
	cmd    *exec.Cmd
	report *os.File
	from   *bufio.Reader
	to     *os.File
}

// start starts bash on the fragments.
func (o *Options) start(ctx context.Context, frags []fragment) (*shell, error) {
	text, extra, err := o.scriptFor(frags)
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, bashPath, append([]string{"--norc", "--noprofile", "-c", text, o.Name}, o.Args...)...)
	cmd.Env = forBash(o.Environ)
	cmd.Stdout, cmd.Stderr = o.Stderr, o.Stderr
	cmd.WaitDelay = time.Second
	cmd.ExtraFiles = append([]*os.File{outW, inR}, extra...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The shell is to end with this process; the kernel takes the end of the
	// thread that started it for that.
	runtime.LockOSThread()
	err = cmd.Start()
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("%s: %w", bashPath, err)
	}
	return &shell{cmd: cmd, report: outR, from: bufio.NewReader(outR), to: inW}, nil
}

// end waits for a shell that ends by itself.
func (sh *shell) end() error {
	defer runtime.UnlockOSThread()
	sh.to.Close()
	sh.report.Close()
	return sh.cmd.Wait()
}

// kill ends a waiting shell: a trap on its exit is not to run, as it does not
// when the shell becomes the program.
func (sh *shell) kill() {
	_ = sh.cmd.Process.Kill()
	_ = sh.end()
}

// returns finds a return with a status of its own.
const returns = `(^|[\s;&|{(])return[ \t]+[^0\s;&|})]`

// scriptFor writes the script. A fragment with a byte-order mark, which bash
// does not know, is handed over as a descriptor without it.
func (o *Options) scriptFor(frags []fragment) (string, []*os.File, error) {
	var b strings.Builder
	var extra []*os.File
	b.WriteString(script)
	each := 0
	if o.Origins {
		each = 1
	}
	says := regexp.MustCompile(returns)
	fmt.Fprintf(&b, "declare -g __session_function=%s __session_names=%s __session_arrays=%s __session_hooks=%s\n", quoted(o.Function),
		quoted(strings.Join(o.Names, "\n")), quoted(strings.Join(o.Arrays, "\n")), quoted(strings.Join(o.Hooks, "\n")))
	fmt.Fprintf(&b, "declare -gi __session_each=%d\n", each)
	b.WriteString("declare -ga __session_files=()\ndeclare -gA __session_checked=() __session_strict=()\n")
	for i, f := range frags {
		path := o.Root.Path(f.path)
		if f.bom {
			file, err := fsx.Memory("fragment", f.text)
			if err != nil {
				return "", extra, err
			}
			const firstExtra = 5
			path = fmt.Sprintf("/dev/fd/%d", firstExtra+len(extra))
			extra = append(extra, file)
		}
		frags[i].handed = path
		fmt.Fprintf(&b, "__session_files+=(%s)\n", quoted(path))
		if f.why != nil {
			fmt.Fprintf(&b, "__session_checked[%s]=1\n", quoted(path))
		}
		if says.Match(f.text) {
			fmt.Fprintf(&b, "__session_strict[%s]=1\n", quoted(path))
		}
	}
	for name, value := range o.Preset {
		fmt.Fprintf(&b, "declare -g %s=%s\n", name, quoted(value))
	}
	for _, name := range o.Arrays {
		fmt.Fprintf(&b, "declare -gA %s\n", name)
	}
	fmt.Fprintf(&b, driver, o.Function)
	return b.String(), extra, nil
}

// quoted is text as one word of the shell.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// forBash is the environment without what would steer bash itself (U25).
func forBash(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "ENV", "SHELLOPTS", "POSIXLY_CORRECT", "PS4":
			return true
		}
		return strings.HasPrefix(name, "BASH") || strings.HasPrefix(name, "__session")
	})
}

// Call calls a function that a fragment defined, with the program's arguments,
// after setting variables. State is then what it left behind.
func (s *Session) Call(function string, set map[string]string) error {
	if s.shell == nil {
		return errors.New("no shell runs that could call " + function)
	}
	var b bytes.Buffer
	for name, value := range set {
		fmt.Fprintf(&b, "=%s=%s\x00", name, value)
	}
	b.WriteString(function + "\x00")
	if _, err := s.shell.to.Write(b.Bytes()); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	return s.next(1, function, nil)
}
