// SPDX-License-Identifier: GPL-3.0-or-later

package qubes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/user"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const checkHelp = `usage: torified-updates-proxy-check [--ask]
Finds out, in a Qubes template, whether the updates proxy is behind Tor. See
torified-updates-proxy-check(8).
  --ask    ask once, and write nothing down
`

// What the check tells others, and how it is told not to be made.
const (
	secureProxy = "/run/updatesproxycheck/whonix-secure-proxy"
	checkDone   = secureProxy + "-check-done"
	checkSkip   = "/run/qubes-service/skip-torified-updates-proxy-check"
	checkUser   = "updatesproxycheck"
	checkUnit   = "/usr/lib/systemd/system/qubes-whonix-torified-updates-proxy-check.service"
)

// The updates proxy of a template, and what the page of one behind Tor holds;
// utility_functions.sh has both for scripts.
const (
	proxyServer = "http://127.0.0.1:8082/"
	proxyMeta   = `<meta name="application-name" content="tor proxy"/>`
)

// Patience of the check.
const (
	checkEach    = time.Second
	checkRequest = 10 * time.Second // a proxy that never answers is asked again (defect 39)
	pageMax      = 64 << 10
	pageShown    = 1 << 10
	markerMode   = 0o664
)

// codeSilent is --ask's exit code where there was no answer.
const codeSilent = 3

// CheckProxy is the program torified-updates-proxy-check.
func CheckProxy(ctx context.Context, env cli.Env) error {
	asks := len(env.Args) == 2 && env.Args[1] == "--ask"
	if !asks {
		if done, err := alone(env, checkHelp); done {
			return err
		}
	}
	account := "unknown"
	if u, err := user.Current(); err == nil {
		account = u.Username
	}
	c := &proxyCheck{root: fsx.Host, env: env, account: account, server: proxyServer, each: checkEach, request: checkRequest}
	if asks {
		return c.askOnce(ctx)
	}
	return c.run(ctx)
}

// proxyCheck is one run.
type proxyCheck struct {
	root          fsx.Root
	env           cli.Env
	account       string
	server        string
	each, request time.Duration
}

func (c *proxyCheck) run(ctx context.Context) (err error) {
	const terminated = 143
	if !whonix.Detect(c.root).Template {
		return nil
	}
	if c.account != checkUser {
		fmt.Fprintf(c.env.Stderr, "%s: ERROR: this is run by %s as the account %s, and not as '%s'.\n", c.env.Args[0], checkUnit, checkUser, shown(c.account))
		return &cli.Exit{Code: cli.CodeFailed}
	}
	defer func() {
		if touched := c.root.Touch(checkDone, markerMode); touched != nil {
			err = errors.Join(err, touched)
		}
	}()
	// What was found at an earlier start may not be so any more (defect 38).
	if err := errors.Join(c.root.Remove(secureProxy), c.root.Remove(checkDone)); err != nil {
		return err
	}
	if c.root.Exists(checkSkip) {
		return c.root.Touch(secureProxy, markerMode)
	}
	page, err := c.ask(ctx)
	if err != nil {
		return &cli.Exit{Code: terminated}
	}
	if err := c.judge(page); err != nil {
		return err
	}
	if err := c.root.Touch(secureProxy, markerMode); err != nil {
		return err
	}
	fmt.Fprintf(c.env.Stdout, "%s: INFO: Success.\n", c.env.Args[0])
	return nil
}

// askOnce is for whoever wants to know whether an old verdict still holds.
func (c *proxyCheck) askOnce(ctx context.Context) error {
	if !whonix.Detect(c.root).Template || c.root.Exists(checkSkip) {
		return nil
	}
	page, err := c.once(ctx, c.client())
	if err != nil {
		return &cli.Exit{Code: codeSilent}
	}
	return c.judge(page)
}

// judge says what is wrong with a page that is not of a proxy behind Tor.
func (c *proxyCheck) judge(page []byte) error {
	if bytes.Contains(page, []byte(proxyMeta)) {
		return nil
	}
	cut := ""
	if len(page) > pageShown {
		page, cut = page[:pageShown], "..."
	}
	fmt.Fprintf(c.env.Stderr, "%s: ERROR: PROXY_SERVER reachable but does not contain PROXY_META.\nPROXY_SERVER: %s\nPROXY_META: %s\nanswer: %q%s\n",
		c.env.Args[0], c.server, proxyMeta, page, cut)
	return &cli.Exit{Code: cli.CodeFailed}
}

// client asks no proxy of the environment's, and follows no redirection.
func (c *proxyCheck) client() *http.Client {
	transport := &http.Transport{
		DialContext:            (&net.Dialer{}).DialContext,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: pageMax,
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// ask asks for the page until there is one. It fails only when ctx ends.
func (c *proxyCheck) ask(ctx context.Context) ([]byte, error) {
	client := c.client()
	for {
		page, err := c.once(ctx, client)
		if err == nil {
			return page, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(c.each):
		}
	}
}

// once is one request. Whatever the status, the page counts: tinyproxy tells
// an error in it. A page that breaks off counts as none.
func (c *proxyCheck) once(ctx context.Context, client *http.Client) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.request)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.server, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(io.LimitReader(response.Body, pageMax))
}
