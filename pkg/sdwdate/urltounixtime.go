// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// Exit codes of url_to_unixtime.
const (
	codeDateLength = 2
	codeDateEarly  = 3
	codeDateLate   = 4
	codeTransport  = 5
	codeDateForm   = 6
	codeArguments  = 7
)

// caBundle are the authorities that Debian trusts. No environment variable
// names others (D26).
const (
	caBundle    = "/etc/ssl/certs/ca-certificates.crt"
	caBundleMax = 4 << 20
)

const fetchUsage = `usage: url-to-unixtime [--json] [--method=auto|HEAD|GET] [--user-agent=TEXT] IP PORT URL VERBOSITY
       url-to-unixtime IP PORT HOST REMOTE_PORT VERBOSITY
       url-to-unixtime --each [OPTION]... IP PORT URL...
Asks a web server for the time, through Tor's SocksPort at IP and PORT.
  --json              print what sdwdate reads
  --each              ask several servers at once, and print a line for each
  --method=METHOD     how to ask; auto is HEAD, then GET
  --user-agent=TEXT   what to say that asks
  --version           print the version
`

// fetchArgs is the command line of url-to-unixtime.
type fetchArgs struct {
	json, verbose, severally bool
	request                  request // without a target
	targets                  []target
}

// URLToUnixtime is the program url-to-unixtime: one URL, one time.
func URLToUnixtime(ctx context.Context, env cli.Env) error {
	return urlToUnixtimeAt(fsx.Host)(ctx, env)
}

func urlToUnixtimeAt(root fsx.Root) func(context.Context, cli.Env) error {
	return func(ctx context.Context, env cli.Env) error {
		args, err := parseFetchArgs(env)
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(env.Stdout, fetchUsage)
			return nil
		}
		if err != nil {
			return &cli.Exit{Code: codeArguments, Err: err}
		}
		limits, _, err := loadBounds(root)
		if err != nil {
			return &cli.Exit{Code: codeTransport, Err: err}
		}
		r := &args.request
		r.Bounds, r.Now, r.Raw = limits, env.Now, monotonicRaw
		r.Roots = sync.OnceValues(func() (*x509.CertPool, error) { return authorities(root) })
		if args.severally {
			return args.each(ctx, env)
		}
		return args.one(ctx, env, args.targets[0])
	}
}

// one asks one server.
func (a fetchArgs) one(ctx context.Context, env cli.Env, t target) error {
	r := a.request
	r.Target = t
	resp, err := r.do(ctx)
	return a.report(env, resp, err)
}

func parseFetchArgs(env cli.Env) (fetchArgs, error) {
	var a fetchArgs
	flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	flags.SetInterspersed(false)
	flags.Usage = func() {}
	flags.BoolVar(&a.json, "json", false, "")
	flags.BoolVar(&a.severally, "each", false, "")
	method := flags.String("method", "auto", "")
	agent := flags.String("user-agent", defaultUserAgent, "")
	if err := flags.Parse(env.Args[1:]); err != nil {
		return a, err
	}
	rest := flags.Args()
	switch {
	case a.severally && len(rest) < 3:
		return a, fmt.Errorf("%d arguments instead of 3 or more: IP PORT URL [URL]", len(rest))
	case a.severally:
	case len(rest) == 5 && rest[3] != "" && strings.Trim(rest[3], "0123456789") == "": // the form of 2020
		a.verbose, rest = rest[4] == "true", []string{rest[0], rest[1], "http://" + rest[2] + ":" + rest[3]}
	case len(rest) != 4:
		return a, fmt.Errorf("%d arguments instead of 4: IP PORT URL VERBOSITY", len(rest))
	default:
		a.verbose, rest = rest[3] == "true", rest[:3]
	}
	if err := a.request.parse(rest[0], rest[1], *method, *agent); err != nil {
		return a, err
	}
	for _, url := range rest[2:] {
		t, err := parseURL(url)
		if err != nil {
			return a, err
		}
		a.targets = append(a.targets, t)
	}
	return a, nil
}

// parse takes what is the same for all servers.
func (r *request) parse(ip, port, method, agent string) error {
	address, err := parseIP(ip)
	if err != nil {
		return err
	}
	number, err := parsePort(port)
	if err != nil {
		return err
	}
	r.Proxy = netip.AddrPortFrom(address, number)
	if r.Method, err = oneOf("auto", "HEAD", "GET")(method); err != nil {
		return fmt.Errorf("--method: %w", err)
	}
	if r.UserAgent, err = parseUserAgent(agent); err != nil {
		return fmt.Errorf("--user-agent: %w", err)
	}
	return nil
}

func authorities(root fsx.Root) (*x509.CertPool, error) {
	data, err := root.ReadFile(caBundle, caBundleMax)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s: no certificates in it", caBundle)
	}
	return pool, nil
}

// report prints what came, and chooses the exit code. Nothing of the server's
// reaches the output as it was (D8).
func (a fetchArgs) report(env cli.Env, resp response, err error) error {
	const most = 400
	if err != nil {
		fmt.Fprintf(env.Stderr, "connect error: %s\n", oneLine(err.Error(), most))
		return &cli.Exit{Code: codeTransport}
	}
	if a.verbose {
		fmt.Fprintf(env.Stderr, "data: <Response [%d]>\n", resp.Status)
		for _, d := range resp.Dates[:min(1, len(resp.Dates))] {
			fmt.Fprintf(env.Stderr, "http_time: %s\n", oneLine(d, dateLongest))
		}
	}
	t, err := resp.unixtime()
	if err != nil {
		fmt.Fprintf(env.Stderr, "%s\n", sanitise(err.Error()))
		return &cli.Exit{Code: dateCode(err)}
	}
	if a.verbose {
		fmt.Fprintf(env.Stderr, "parsed_unixtime: %d\n", t)
	}
	if !a.json {
		_, err = fmt.Fprintln(env.Stdout, strconv.FormatInt(t, 10))
		return err
	}
	return json.NewEncoder(env.Stdout).Encode(answer{Unixtime: t, RTT: int64(resp.RTT), Realtime: resp.Local.UnixNano(), Raw: int64(resp.Raw),
		Took: int64(resp.Took), Status: resp.Status, Unisolated: !resp.Isolated})
}

func dateCode(err error) int {
	switch {
	case errors.Is(err, errDateLength):
		return codeDateLength
	case errors.Is(err, errDateEarly):
		return codeDateEarly
	case errors.Is(err, errDateLate):
		return codeDateLate
	default:
		return codeDateForm
	}
}
