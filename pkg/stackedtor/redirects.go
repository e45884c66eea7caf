// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/elfx"
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
	env      cli.Env
	environ  []string
	pathList string

	mu sync.Mutex // one line at a time
}

// Redirects is the program socat-unix-sockets.
func Redirects(ctx context.Context, env cli.Env) error {
	if len(env.Args) > 1 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
		fmt.Fprint(env.Stdout, redirectsHelp)
		return nil
	}
	return serveRedirects(ctx, env, fsx.Host)
}

func serveRedirects(ctx context.Context, env cli.Env, root fsx.Root) error {
	gateway := settings(root, env, warner(env.Stderr))
	e := evaluation{root: root, dirs: dropInDirs(), environ: env.Environ, output: env.Stdout, stderr: env.Stderr,
		set: map[string]string{varGateway: gateway.IP, varGateway6: gateway.IP6, varControlPort: gateway.ControlPort}}
	res, err := e.dropIns(ctx)
	if err != nil {
		return err
	}
	if len(res.Commands) == 0 {
		fmt.Fprintln(env.Stdout, "INFO: No processes launched into background, ok.")
		return &cli.Exit{Code: codeNothing}
	}
	r := &redirects{env: env, environ: slices.Clone(env.Environ)}
	for _, name := range slices.Sorted(maps.Keys(res.Exported)) {
		r.environ = append(r.environ, name+"="+res.Exported[name])
	}
	r.pathList, _ = env.Lookup("PATH")
	return r.run(ctx, res.Commands)
}

// run serves all commands until ctx ends, or none is left.
func (r *redirects) run(ctx context.Context, commands []confd.Command) error {
	failed := make([]bool, len(commands))
	var all sync.WaitGroup
	for i, c := range commands {
		all.Add(1)
		go func() {
			defer all.Done()
			failed[i] = !r.serve(ctx, c)
		}()
	}
	all.Wait()
	switch {
	case ctx.Err() != nil:
		return &cli.Exit{Code: codeStopped}
	case slices.Contains(failed, true):
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

func (r *redirects) complain(c confd.Command, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(r.env.Stderr, "ERROR: %s: %s: %s\n", c.Origin, strings.Join(c.Args, " "), fmt.Sprintf(format, args...))
}

// serve returns when the command is done for good; not ok if it never will be.
func (r *redirects) serve(ctx context.Context, c confd.Command) (ok bool) {
	if c.Args[0] != "socat" || len(c.Environ) > 0 {
		return r.again(ctx, c, r.child)
	}
	s, err := relay.ParseSocat(c.Args[1:])
	switch {
	case errors.Is(err, relay.ErrForeign):
		if elfx.LookPath("socat", r.pathList) == "" {
			r.complain(c, "%v, and socat is not installed", err)
			return false
		}
		return r.again(ctx, c, r.child)
	case err != nil:
		r.complain(c, "%v", err)
		return false
	case s.Connect.Network != "unix" && leadsTo(s.Connect.Address, addressOf(s.Listen)):
		r.complain(c, "leads to itself")
		return false
	}
	return r.again(ctx, c, func(ctx context.Context, _ confd.Command) error {
		return relayOnce(ctx, s, func(text string) { r.complain(c, "%s", text) })
	})
}

// addressOf is a listener's address before there is one.
func addressOf(e relay.Endpoint) net.Addr {
	if e.Network == "unix" {
		return &net.UnixAddr{Name: e.Address, Net: "unix"}
	}
	a, err := net.ResolveTCPAddr(e.Network, e.Address)
	if err != nil {
		return &net.TCPAddr{}
	}
	return a
}

// again runs a command until it succeeds, with pauses that grow.
func (r *redirects) again(ctx context.Context, c confd.Command, run func(context.Context, confd.Command) error) bool {
	const first, longest = time.Second, 30 * time.Second
	for pause := first; ; pause = min(2*pause, longest) {
		begin := time.Now()
		err := run(ctx, c)
		if err == nil || ctx.Err() != nil {
			return true
		}
		if time.Since(begin) > longest {
			pause = first // it had worked
		}
		r.complain(c, "%v; again in %v", err, pause)
		select {
		case <-ctx.Done():
			return true
		case <-time.After(pause):
		}
	}
}

// relayOnce serves a listener until ctx ends.
func relayOnce(ctx context.Context, s *relay.Socat, log func(string)) error {
	l, err := s.Listener()
	if err != nil {
		return err
	}
	server := &relay.Server{Relay: relay.Relay{Linger: s.Linger, Idle: s.Idle}, Max: s.Max, Log: log}
	server.Dial = func(ctx context.Context) (relay.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, s.Connect.Network, s.Connect.Address)
		if err != nil {
			return nil, err
		}
		return c.(relay.Conn), nil
	}
	if !s.Fork { // one connection, and done
		one, cancel := context.WithCancel(ctx)
		defer cancel()
		server.Max = 1
		server.Changed = func(count int) {
			if count == 0 {
				cancel()
			}
		}
		ctx = one
	}
	server.Serve(ctx, drainTime, l)
	return nil
}

// child runs a command as a child of this process.
func (r *redirects) child(ctx context.Context, c confd.Command) error {
	path := elfx.LookPath(c.Args[0], r.pathList)
	if path == "" {
		return fmt.Errorf("%s: command not found", c.Args[0])
	}
	cmd := exec.CommandContext(ctx, path, c.Args[1:]...)
	cmd.Env = append(slices.Clone(r.environ), c.Environ...)
	cmd.Stdout, cmd.Stderr = r.env.Stdout, r.env.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = drainTime
	return cmd.Run()
}
