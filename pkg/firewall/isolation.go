// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// isolationPort is the SocksPort of curl.
const isolationPort = whonix.CurlPortText

// Where the test asks by which address it is seen.
const (
	checkURL   = "https://check.torproject.org"
	checkURLIP = checkURL + "/api/ip"
)

// isolationTest is the test with its ways to the system.
type isolationTest struct {
	root      fsx.Root
	env       cli.Env
	qubesDB   func(key string) (string, bool)
	reachable func(addr string) bool
}

const isolationUsage = `usage: %s
Check that SocksPorts get circuits of their own. Run it in a Workstation, as a
normal user, with network.
 -h, --help      show this text
     --version   show the version
`

// StreamIsolation is the program stream-isolation-test.
func StreamIsolation(ctx context.Context, env cli.Env) error {
	return (&isolationTest{root: fsx.Host, env: env, qubesDB: confd.QubesDB(fsx.Host), reachable: connects}).run(ctx)
}

// connects reports whether somebody listens at addr.
func connects(addr string) bool {
	const timeout = 3 * time.Second
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func (i *isolationTest) run(ctx context.Context) error {
	switch args := i.env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := fmt.Fprintf(i.env.Stdout, isolationUsage, i.env.Name())
		return err
	case len(args) > 0:
		return cli.WithHint(cli.Usagef("unknown argument %q", args[0]), "%s --help", i.env.Name())
	}
	if _, err := i.scurl(ctx, true, "127.0.0.1", checkURL); err == nil {
		return i.failed("ERROR: FAILED! The SocksPort at 127.0.0.1 reached the Internet.")
	}
	i.trace("true 'INFO: Failed as expected, ok.'")
	transparent, err := i.scurl(ctx, true, "", checkURLIP)
	if err != nil {
		return err
	}
	tried := 0
	for _, step := range i.steps() {
		if step.proxy != "" && !i.reachable(net.JoinHostPort(step.proxy, isolationPort)) {
			i.trace(fmt.Sprintf("true 'INFO: %s cannot be reached at port %s, not tried.'", step.proxy, isolationPort))
			continue
		}
		seen, err := i.scurl(ctx, step.passthrough, step.proxy, checkURLIP)
		if err != nil {
			return err
		}
		if seen == transparent {
			return i.failed("ERROR: Maybe FAILED! (IP change could be due to Tor.) Try again.")
		}
		if step.proxy != "" {
			tried++
		}
	}
	if tried == 0 {
		return i.failed("ERROR: no SocksPort could be reached, so nothing was tested.")
	}
	i.trace("true OK.")
	return nil
}

// isolationStep is one way that must not share its circuit with the TransPort.
type isolationStep struct {
	proxy       string // address of the SocksPort; empty for none
	passthrough bool   // past the wrapper that makes curl use its SocksPort
}

// steps are the wrapper's way and each address of the Gateway's.
func (i *isolationTest) steps() []isolationStep {
	list := []isolationStep{{}}
	if gateway, ok := i.qubesDB("/qubes-gateway"); ok && net.ParseIP(gateway) != nil {
		list = append(list, isolationStep{gateway, true})
	}
	return append(list, isolationStep{whonix.GatewayIP, true})
}

// scurl asks for a page, through the SocksPort at proxy if that is not empty.
func (i *isolationTest) scurl(ctx context.Context, passthrough bool, proxy, url string) (string, error) {
	path, err := execx.Find(i.root, "scurl")
	if err != nil {
		return "", err
	}
	args := []string{"--fail"}
	if proxy != "" {
		args = append(args, "--proxy", "socks5h://"+net.JoinHostPort(proxy, isolationPort))
	}
	args = append(args, url)
	env, shown := i.env.Environ, "scurl "+strings.Join(args, " ")
	if passthrough {
		const variable = "UWT_DEV_PASSTHROUGH=1"
		env, shown = append(env[:len(env):len(env)], variable), variable+" "+shown
	}
	i.trace(shown)
	var out bytes.Buffer
	err = execx.Cmd{Path: path, Args: args, Env: env, Stdout: &out, Stderr: i.env.Stderr}.Run(ctx)
	return strings.TrimSpace(out.String()), err
}

// trace shows a step as a shell's trace does.
func (i *isolationTest) trace(command string) { fmt.Fprintln(i.env.Stderr, "+ "+command) }

func (i *isolationTest) failed(text string) error {
	i.trace("true '" + text + "'")
	return &cli.Exit{Code: cli.CodeFailed}
}
