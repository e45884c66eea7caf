// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/relay"
)

// Exit codes of socat-unix-sockets.
const (
	codeNothing = 125 // nothing to do
	codeStopped = 143 // as if SIGTERM had ended it
)

const redirectsHelp = `usage: socat-unix-sockets
Serves the redirections that drop-ins in /etc/anon-ws-disable-stacked-tor.d
start. See socat-unix-sockets(8).
`

// redirects serves what drop-ins start: relays by socat in this process, what
// else there is as children.
type redirects struct {
	env  cli.Env
	most int // connections of one relay, so that none takes all descriptors

	engine *relay.Engine

	mu sync.Mutex // one line at a time
}

// job is a command of a drop-in.
type job struct {
	confd.Command
	relay  *relay.Socat // nil is a child
	circle bool         // it leads to itself by way of others
}

// Redirects is the program socat-unix-sockets.
func Redirects(ctx context.Context, env cli.Env) error {
	if len(env.Args) > 1 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
		fmt.Fprint(env.Stdout, redirectsHelp)
		return nil
	}
	// Taken and not acted upon; children have it as it was.
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	defer signal.Stop(hangup)
	return serveRedirects(ctx, env, fsx.Host)
}

func serveRedirects(ctx context.Context, env cli.Env, root fsx.Root) error {
	gateway := settings(root, env, warner(env.Stderr))
	e := evaluation{root: root, dirs: dropInDirs(), environ: env.Environ, output: env.Stdout, stderr: env.Stderr,
		set: map[string]string{varGateway: gateway.IP, varGateway6: gateway.IP6, varControlPort: gateway.ControlPort}}
	res, err := e.dropIns(ctx)
	var exit *cli.Exit
	switch {
	case err != nil && ctx.Err() != nil:
		return &cli.Exit{Code: codeStopped}
	case errors.As(err, &exit) && exit.Err == nil:
		return err
	case err != nil:
		fmt.Fprintf(env.Stderr, "ERROR: %v\n", err)
		return &cli.Exit{Code: cli.Code(err)}
	case len(res.Commands) == 0:
		fmt.Fprintln(env.Stdout, "INFO: No processes launched into background, ok.")
		return &cli.Exit{Code: codeNothing}
	}
	r := &redirects{env: env}
	return r.run(ctx, res.Commands)
}

// run serves all commands until ctx ends, or none is left.
func (r *redirects) run(ctx context.Context, commands []confd.Command) error {
	jobs, bad := r.jobs(commands)
	r.most = share(len(jobs))
	engine, err := relay.NewEngine()
	if err != nil {
		return err
	}
	defer engine.Close()
	r.engine = engine
	failed := make([]bool, len(jobs))
	var all sync.WaitGroup
	for i, j := range jobs {
		all.Add(1)
		go func() {
			defer all.Done()
			failed[i] = !r.serve(ctx, j)
		}()
	}
	all.Wait()
	switch {
	case ctx.Err() != nil:
		return &cli.Exit{Code: codeStopped}
	case bad || slices.Contains(failed, true):
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// share is how many connections each relay may have: with two descriptors for
// each, and as many again for pipes of those that are busy, others still have
// their own. What one relay has too much waits.
func share(relays int) int {
	const reserve, each, least = 128, 4, 16
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<20 {
		l.Cur = 1 << 20
	}
	return max((int(l.Cur)-reserve)/each/max(relays, 1), least)
}

// jobs are the commands that can be tried; the others are reported.
func (r *redirects) jobs(commands []confd.Command) (jobs []job, bad bool) {
	listeners := map[relay.Endpoint]confd.Origin{}
	for _, c := range commands {
		j := job{Command: c}
		if c.Args[0] != "socat" || len(c.Environ) > 0 || c.Text != "" {
			jobs = append(jobs, j)
			continue
		}
		s, err := relay.ParseSocat(c.Args[1:])
		if err == nil {
			at, twice := listeners[s.Listen]
			if twice && s.Fork {
				err = fmt.Errorf("%s listens there already", at)
			} else {
				listeners[s.Listen] = c.Origin
			}
		}
		foreign := errors.Is(err, relay.ErrForeign)
		if foreign && elfx.LookPath("socat", r.pathList(j)) == "" {
			err, foreign = fmt.Errorf("%w, and socat is not installed", err), false
		}
		if err != nil && !foreign {
			r.complain(j, "%v", err)
			bad = true
			continue
		}
		if !foreign {
			j.relay = s
			if !c.Background {
				r.inform(j, "in the foreground, which would keep all that follows from running: served as in the background")
			}
		}
		jobs = append(jobs, j)
	}
	var relays []*relay.Socat
	for _, j := range jobs {
		relays = append(relays, j.relay)
	}
	for i, circle := range circles(relays) {
		jobs[i].circle = circle
	}
	return jobs, bad
}

func (r *redirects) complain(j job, format string, args ...any) {
	r.say(r.env.Stderr, "ERROR", j, fmt.Sprintf(format, args...))
}

func (r *redirects) inform(j job, format string, args ...any) {
	r.say(r.env.Stdout, "INFO", j, fmt.Sprintf(format, args...))
}

// say prints one line, whatever the command's words are.
func (r *redirects) say(to io.Writer, kind string, j job, text string) {
	words := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, cmp.Or(j.Text, strings.Join(j.Args, " "))+": "+text)
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(to, "%s: %s: %s\n", kind, j.Origin, words)
}

// serve returns when the command is done for good; not ok if it never will be.
func (r *redirects) serve(ctx context.Context, j job) (ok bool) {
	if j.relay == nil {
		return r.again(ctx, j, r.child)
	}
	own := listening{addressOf(j.relay.Listen)}
	if j.circle || own.leadsBack(ctx, j.relay.Connect.Network, j.relay.Connect.Address) {
		r.complain(j, "%v", errLoop)
		return false
	}
	log := func(text string) {
		if text == relay.LimitText {
			r.inform(j, "has as many connections as it may have: more wait")
			return
		}
		r.complain(j, "%s", text)
	}
	return r.again(ctx, j, func(ctx context.Context, j job) error {
		return relayOnce(ctx, r.engine, j.relay, own, r.most, func() { r.inform(j, "listens") }, log)
	})
}

// addressOf is a listener's address before there is one.
func addressOf(e relay.Endpoint) net.Addr {
	if e.Network == "unix" {
		return &net.UnixAddr{Name: e.Address, Net: "unix"}
	}
	a, err := net.ResolveTCPAddr(e.Network, e.Address)
	if err != nil {
		// Not known now: as if it were on all addresses.
		_, port, _ := net.SplitHostPort(e.Address)
		n, _ := strconv.Atoi(port)
		return &net.TCPAddr{Port: n, IP: net.IPv6unspecified}
	}
	return a
}

// again runs a command until it succeeds, with pauses that grow.
func (r *redirects) again(ctx context.Context, j job, run func(context.Context, job) error) bool {
	const first, longest = time.Second, 30 * time.Second
	for pause := first; ; pause = min(2*pause, longest) {
		begin := time.Now()
		err := run(ctx, j)
		if err == nil || ctx.Err() != nil {
			return true
		}
		if time.Since(begin) > longest {
			pause = first // it had worked
		}
		r.complain(j, "%v; again in %v", err, pause)
		select {
		case <-ctx.Done():
			return true
		case <-time.After(pause):
		}
	}
}

// environ is what a child gets.
func (r *redirects) environ(j job) []string {
	return append(append(slices.Clone(r.env.Environ), j.Exported...), j.Environ...)
}

func (r *redirects) pathList(j job) string {
	path, ok := cli.Env{Environ: r.environ(j)}.Lookup("PATH")
	if !ok {
		return execx.SearchPath
	}
	return path
}

// child runs a command as a child of this process, and ends it with all that it
// has started itself.
func (r *redirects) child(ctx context.Context, j job) error {
	path := elfx.LookPath(j.Args[0], r.pathList(j))
	if path == "" {
		return fmt.Errorf("%s: command not found", j.Args[0])
	}
	cmd := exec.CommandContext(ctx, path, j.Args[1:]...)
	cmd.Args[0] = j.Args[0]
	cmd.Env, cmd.Dir = r.environ(j), j.Dir
	cmd.Stdout, cmd.Stderr = r.env.Stdout, r.env.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = drainTime
	return cmd.Run()
}
