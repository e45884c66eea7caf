// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
)

const torAskUsage = `usage: tor-ask QUESTION [SECONDS]
Asks Tor one question at its Control Port.
  bootstrap       how far it is; the exit code is the percentage
  established     1 if it has a circuit, else 0
  circuit         builds one, within SECONDS (8)
  stream          waits SECONDS (10) for a stream to succeed
  valid-after     when its consensus begins
  valid-until     when its consensus ends
  dormant         1 if it is dormant, else 0
  newnym          wakes it up, and asks for new circuits
  --version       print the version
`

// codeNoControl is the exit code without a Control Port.
const codeNoControl = 255

const streamLimit = 10 * time.Second

// torQuestions are the questions, by the names of the programs of before.
func torQuestions() map[string]string {
	return map[string]string{
		"tor_bootstrap_check.py": "bootstrap", "tor-circuit-established-check": "established", "tor_circuit_established_check.py": "established",
		"tor_circuit_built_check.py": "circuit", "tor_stream_success_check.py": "stream", "tor_consensus_valid-after.py": "valid-after",
		"tor_consensus_valid-until.py": "valid-until", "tor-dormant-check": "dormant", "tor-signal-newnym": "newnym",
	}
}

// TorAsk is the program tor-ask, also by the names of before.
func TorAsk(ctx context.Context, env cli.Env) error { return hostControl(fsx.Host).torAsk(ctx, env) }

func (c controlPort) torAsk(ctx context.Context, env cli.Env) error {
	args := env.Args[1:]
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		_, err := io.WriteString(env.Stdout, torAskUsage)
		return err
	}
	question, named := torQuestions()[env.Name()]
	if !named && len(args) > 0 {
		question, args = args[0], args[1:]
	}
	limit := map[string]time.Duration{"circuit": circuitLimit, "stream": streamLimit}[question]
	waits := limit > 0
	var err error
	switch {
	case waits && len(args) == 1:
		limit, err = parseSeconds(args[0])
	case len(args) > 0:
		err = fmt.Errorf("unexpected argument %q", short(args[0]))
	}
	if ask := torAnswers()[question]; ask == nil {
		err = fmt.Errorf("no question %q", short(question))
	} else if err == nil {
		if !waits {
			limit = controlLimit
		}
		return c.answer(ctx, env, limit, ask)
	}
	return cli.WithHint(cli.Usagef("%w", err), "tor-ask --help")
}

func parseSeconds(text string) (time.Duration, error) {
	const most = 3600
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q is no number of seconds from 1 to %d", short(text), most)
	}
	return time.Duration(n) * time.Second, nil
}

// torAnswer prints what Tor says, and ends with an exit code.
type torAnswer func(ctx context.Context, client *torctl.Client, env cli.Env, limit time.Duration) error

func (c controlPort) answer(ctx context.Context, env cli.Env, limit time.Duration, ask torAnswer) error {
	opening, cancel := context.WithTimeout(ctx, controlLimit)
	defer cancel()
	client, err := c.open(opening)
	if err != nil {
		return &cli.Exit{Code: codeNoControl, Err: err}
	}
	defer client.Close()
	ctx, cancel = context.WithTimeout(ctx, limit)
	defer cancel()
	return ask(ctx, client, env, limit)
}

func torAnswers() map[string]torAnswer {
	return map[string]torAnswer{
		"bootstrap":   askBootstrap,
		"established": askValue("status/circuit-established", func(value string) error { return exitCode(map[bool]int{false: cli.CodeFailed}[value == "1"]) }),
		"circuit":     askCircuit,
		"stream":      askStream,
		"valid-after": askValue("consensus/valid-after", func(string) error { return nil }),
		"valid-until": askValue("consensus/valid-until", func(string) error { return nil }),
		"dormant":     askValue("dormant", func(string) error { return nil }),
		"newnym":      askNewnym,
	}
}

func askValue(key string, code func(value string) error) torAnswer {
	return func(ctx context.Context, client *torctl.Client, env cli.Env, _ time.Duration) error {
		value, err := client.GetInfo(ctx, key)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(env.Stdout, sanitise(value)); err != nil {
			return err
		}
		return code(value)
	}
}

// askBootstrap: what cannot be asked must not look like a percentage that is
// good.
func askBootstrap(ctx context.Context, client *torctl.Client, env cli.Env, _ time.Duration) error {
	phase, err := client.GetInfo(ctx, "status/bootstrap-phase")
	if err != nil {
		return &cli.Exit{Code: codeNoControl, Err: err}
	}
	percent, err := strconv.Atoi(torctl.Assignments(phase)["PROGRESS"])
	if err != nil || percent < 0 || percent > bootstrapReady {
		return &cli.Exit{Code: codeNoControl, Err: fmt.Errorf("no progress in %q", short(phase))}
	}
	if _, err := fmt.Fprintln(env.Stdout, sanitise(phase)); err != nil {
		return err
	}
	return exitCode(percent)
}

func askCircuit(ctx context.Context, client *torctl.Client, env cli.Env, limit time.Duration) error {
	id, err := buildCircuit(ctx, client)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Fprintf(env.Stdout, "no new circuit built within %.0fs\n", limit.Seconds())
	case err != nil:
		fmt.Fprintf(env.Stdout, "circuit build failed: %s\n", sanitise(err.Error()))
	case id == "":
		fmt.Fprintln(env.Stdout, "circuit build failed: closed before it was built")
	default:
		_, err := fmt.Fprintf(env.Stdout, "Circuit %s built\n", sanitise(id))
		return err
	}
	return &cli.Exit{Code: cli.CodeFailed}
}

// askStream only listens: it makes no traffic of its own.
func askStream(ctx context.Context, client *torctl.Client, _ cli.Env, _ time.Duration) error {
	if err := client.SetEvents(ctx, "STREAM"); err != nil {
		return err
	}
	for {
		e, err := client.NextEvent(ctx)
		if errors.Is(err, context.DeadlineExceeded) {
			return &cli.Exit{Code: cli.CodeFailed}
		}
		if err != nil {
			return err
		}
		if f := strings.Fields(e.Text); e.Name == "STREAM" && len(f) > 1 && f[1] == "SUCCEEDED" {
			return nil
		}
	}
}

func askNewnym(ctx context.Context, client *torctl.Client, _ cli.Env, _ time.Duration) error {
	return together(client.Signal(ctx, "ACTIVE"), client.Signal(ctx, "NEWNYM"))
}
