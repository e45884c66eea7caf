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
Asks a web server for the time, through Tor's SocksPort at IP and PORT.
  --json              print what sdwdate reads
  --method=METHOD     how to ask; auto is HEAD, then GET
  --user-agent=TEXT   what to say that asks
  --version           print the version
`

// fetchArgs is the command line of url-to-unixtime.
type fetchArgs struct {
	json, verbose bool
	request       request
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
		r := args.request
		r.Bounds, r.Now, r.Raw = limits, env.Now, monotonicRaw
		r.Roots = func() (*x509.CertPool, error) { return authorities(root) }
		resp, err := r.do(ctx)
		return args.report(env, resp, err)
	}
}

func parseFetchArgs(env cli.Env) (fetchArgs, error) {
	var a fetchArgs
	flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
	flags.SetInterspersed(false)
	flags.Usage = func() {}
	flags.BoolVar(&a.json, "json", false, "")
	method := flags.String("method", "auto", "")
	agent := flags.String("user-agent", defaultUserAgent, "")
	if err := flags.Parse(env.Args[1:]); err != nil {
		return a, err
	}
	rest := flags.Args()
	if len(rest) == 5 && rest[3] != "" && strings.Trim(rest[3], "0123456789") == "" { // the form of 2020
		rest = []string{rest[0], rest[1], "http://" + rest[2] + ":" + rest[3], rest[4]}
	}
	if len(rest) != 4 {
		return a, fmt.Errorf("%d arguments instead of 4: IP PORT URL VERBOSITY", len(rest))
	}
	ip, err := parseIP(rest[0])
	if err != nil {
		return a, err
	}
	port, err := parsePort(rest[1])
	if err != nil {
		return a, err
	}
	a.verbose = rest[3] == "true"
	a.request.Proxy = netip.AddrPortFrom(ip, port)
	if a.request.Target, err = parseURL(rest[2]); err != nil {
		return a, err
	}
	if a.request.Method, err = oneOf("auto", "HEAD", "GET")(*method); err != nil {
		return a, fmt.Errorf("--method: %w", err)
	}
	if a.request.UserAgent, err = parseUserAgent(*agent); err != nil {
		return a, fmt.Errorf("--user-agent: %w", err)
	}
	return a, nil
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
