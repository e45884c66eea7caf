// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
	"whonix-networking/pkg/whonix"
)

const proxyUsage = `usage: onion-grater [-h] [--listen-address ADDR] [--listen-port PORT]
                    [--listen-interface INTERFACE]
                    [--control-cookie-path PATH] [--control-address ADDR]
                    [--control-port PORT] [--control-socket-path PATH]
                    [--complain] [--debug] [--learn PATH]
       onion-grater --check [FILE...]
       onion-grater --test-line HOST LINE
`

const (
	defaultPort    = 951
	unprivileged   = whonix.ControlPort // where 951 cannot be bound
	defaultCookie  = "/run/tor/control.authcookie"
	defaultControl = whonix.TorControlPort
)

// options are the command line.
type options struct {
	address   string
	port      int
	portGiven bool
	iface     string
	cookie    string
	tor       torctl.Address
	complain  bool
	debug     bool
	learn     string
	check     bool
	testHost  string
	files     []string // of --check, or the line of --test-line
}

// parseOptions returns nil where the help was all that was wanted.
func parseOptions(env cli.Env, root fsx.Root) (*options, error) {
	o := &options{}
	flags := pflag.NewFlagSet("onion-grater", pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	flags.StringVar(&o.address, "listen-address", "localhost", "`ADDR`ess on which to listen")
	flags.IntVar(&o.port, "listen-port", defaultPort, "`PORT` on which to listen")
	flags.StringVar(&o.iface, "listen-interface", "", "`INTERFACE` on whose addresses to listen")
	flags.StringVar(&o.cookie, "control-cookie-path", defaultCookie, "`PATH` of Tor's cookie")
	control := flags.String("control-address", "127.0.0.1", "`ADDR`ess of Tor's control port")
	controlPort := flags.Int("control-port", defaultControl, "`PORT` of Tor's control port")
	socket := flags.String("control-socket-path", "", "`PATH` of Tor's control socket, in the place of its port")
	flags.BoolVar(&o.complain, "complain", false, "filter nothing, and log what is asked")
	flags.BoolVar(&o.debug, "debug", kernelDebug(root), "log everything")
	flags.StringVar(&o.learn, "learn", "", "`PATH` of a profile to write, of what was refused")
	flags.BoolVar(&o.check, "check", false, "check filter files, and end")
	flags.StringVar(&o.testHost, "test-line", "", "tell what becomes of a LINE from `HOST`, and end")
	args, err := spelledOut(flags, env.Args[1:])
	if err == nil {
		err = flags.Parse(args)
	}
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Fprint(env.Stdout, proxyUsage, flags.FlagUsages())
		return nil, nil
	}
	if err == nil {
		o.files = flags.Args()
		o.portGiven = flags.Changed("listen-port")
		o.tor = torctl.Address{Network: "tcp", Address: net.JoinHostPort(*control, strconv.Itoa(*controlPort))}
		if *socket != "" {
			o.tor = torctl.Address{Network: "unix", Address: *socket}
		}
		err = o.valid(*controlPort)
	}
	if err != nil {
		fmt.Fprint(env.Stderr, proxyUsage)
		return nil, cli.Usagef("%w", err)
	}
	return o, nil
}

func (o *options) valid(controlPort int) error {
	port := func(n int) bool { return n >= 1 && n <= math.MaxUint16 }
	switch {
	case !port(o.port):
		return fmt.Errorf("argument --listen-port: no port: %d", o.port)
	case !port(controlPort):
		return fmt.Errorf("argument --control-port: no port: %d", controlPort)
	case !strings.HasPrefix(o.cookie, "/"):
		return fmt.Errorf("argument --control-cookie-path: %q does not begin with a slash", o.cookie)
	case o.tor.Network == "unix" && !strings.HasPrefix(o.tor.Address, "/"):
		return fmt.Errorf("argument --control-socket-path: %q does not begin with a slash", o.tor.Address)
	case o.learn != "" && !strings.HasPrefix(o.learn, "/"):
		return fmt.Errorf("argument --learn: %q does not begin with a slash", o.learn)
	case o.testHost != "" && len(o.files) != 1:
		return errors.New("argument --test-line: a HOST and one LINE are needed")
	case !o.check && o.testHost == "" && len(o.files) > 0:
		return fmt.Errorf("unrecognized arguments: %s", strings.Join(o.files, " "))
	}
	return nil
}

// spelledOut completes long options that were shortened to what is unique, as
// GNU programs allow.
func spelledOut(flags *pflag.FlagSet, args []string) ([]string, error) {
	var out []string
	for i, arg := range args {
		if arg == "--" {
			return append(out, args[i:]...), nil
		}
		long, ok := strings.CutPrefix(arg, "--")
		name, value, given := strings.Cut(long, "=")
		if !ok || flags.Lookup(name) != nil || name == "" || name == "help" {
			out = append(out, arg)
			continue
		}
		var fit []string
		flags.VisitAll(func(f *pflag.Flag) {
			if strings.HasPrefix(f.Name, name) {
				fit = append(fit, f.Name)
			}
		})
		if strings.HasPrefix("help", name) {
			fit = append(fit, "help")
		}
		switch {
		case len(fit) > 1:
			return nil, fmt.Errorf("ambiguous option: --%s could match --%s", name, strings.Join(fit, ", --"))
		case len(fit) == 0:
			return nil, fmt.Errorf("unrecognized arguments: %s", arg)
		case given:
			out = append(out, "--"+fit[0]+"="+value)
		default:
			out = append(out, "--"+fit[0])
		}
	}
	return out, nil
}

// kernelDebug tells whether the kernel was started with the word debug.
func kernelDebug(root fsx.Root) bool {
	const limit = 64 << 10
	data, err := root.ReadFile("/proc/cmdline", limit)
	if err != nil {
		return false
	}
	for word := range strings.FieldsSeq(string(data)) {
		if word == "debug" {
			return true
		}
	}
	return false
}
