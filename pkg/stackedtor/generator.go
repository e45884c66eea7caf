// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// Paths of the generator and of what its units start.
const (
	generatorPath = "/usr/libexec/anon-ws-disable-stacked-tor/systemd-unit-files-generator"
	relayPath     = "/usr/libexec/anon-ws-disable-stacked-tor/whonix-socket-proxyd"
	settingsPath  = "/usr/libexec/helper-scripts/settings-environment-file-update"
)

// Names of what the generator and drop-ins tell each other.
const (
	varTuples = "file_port_tuples"
	varRelay  = "relay_command"
)

const generatorHelp = `usage: systemd-unit-files-generator
Writes the units that listen where programs expect a Tor, from the built-in list
and the drop-ins in /etc/anon-ws-disable-stacked-tor.d. See
systemd-unit-files-generator(8).
`

// occasion is what the units are written for.
type occasion int

const (
	forPackage occasion = iota // shipped units, in a source tree or an image
	forSystem                  // the running system's own
	atBoot                     // what systemd keeps until the next boot
)

func (o occasion) String() string {
	return [...]string{"at package build time", "at system runtime", "at boot"}[o]
}

// generator is one run.
type generator struct {
	env     cli.Env
	root    fsx.Root
	when    occasion
	units   string                                              // directory of the units
	control func(ctx context.Context, args ...string) error     // systemctl; nil where systemd is not to be asked
	qubesdb func(root fsx.Root) func(key string) (string, bool) // what drop-ins are answered
	found   Gateway                                             // what drop-ins find
	failed  bool
}

// Generate is the program systemd-unit-files-generator; called by the name that
// systemd knows, it is the generator for the boot.
func Generate(ctx context.Context, env cli.Env) error {
	if len(env.Args) > 1 && (env.Args[1] == "--help" || env.Args[1] == "-h") {
		fmt.Fprint(env.Stdout, generatorHelp)
		return nil
	}
	if env.Name() == bootName {
		return generateAtBoot(ctx, env, fsx.Host)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	g := &generator{env: env, root: fsx.Host, when: forPackage, units: shippedUnits, qubesdb: confd.QubesDB}
	// By whatever path and name it was called: the original took a relative
	// path for a package's build, and wrote over the package's files.
	system := self == generatorPath
	if v, _ := env.Lookup("system_run"); v != "" {
		system = v == "true"
	}
	switch {
	case !system:
		const levels = "../../.."
		g.root = fsx.Root(filepath.Join(filepath.Dir(self), levels))
	case optedIn(g.root):
		g.when, g.units, g.control = atBoot, bootUnits, g.systemctl
	default:
		g.when, g.units, g.control = forSystem, systemUnits, g.systemctl
	}
	return g.run(ctx)
}

func (g *generator) systemctl(ctx context.Context, args ...string) error {
	path, err := execx.Find(g.root, "systemctl")
	if err != nil {
		return err
	}
	return execx.Cmd{Path: path, Args: append([]string{"--system", "--quiet"}, args...), Stdout: g.env.Stdout, Stderr: g.env.Stderr}.Run(ctx)
}

func (g *generator) complain(format string, args ...any) {
	fmt.Fprintf(g.env.Stderr, "ERROR: "+format+"\n", args...)
	g.failed = true
}

func (g *generator) run(ctx context.Context) error {
	res, err := g.evaluate(ctx)
	if err != nil {
		return err
	}
	units, err := g.render(res)
	if err != nil {
		return err
	}
	done, err := g.write(units)
	if err != nil {
		return err
	}
	if g.control != nil {
		g.activate(ctx, units, done)
	}
	if g.failed {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// evaluate has the drop-ins say what is to be redirected, and where to.
func (g *generator) evaluate(ctx context.Context) (*confd.Result, error) {
	const twoOfThree = 2 // the build machine's /usr/local is not the package's (defect 35)
	g.found = g.gateway()
	preset, dirs := "", dropInDirs()
	if g.when != atBoot {
		preset, _ = g.env.Lookup(varTuples)
	}
	if g.when == forPackage {
		dirs = dirs[:twoOfThree]
	}
	e := evaluation{root: g.root, dirs: dirs, environ: g.env.Environ, output: g.env.Stderr, stderr: g.env.Stderr,
		anyOwner: g.when == forPackage, qubesdb: g.qubesdb(g.root),
		set: map[string]string{varGateway: g.found.IP, varGateway6: g.found.IP6, varControlPort: g.found.ControlPort, varTuples: preset + Builtin()}}
	res, err := e.dropIns(ctx)
	var ended *cli.Exit
	if errors.As(err, &ended) && ended.Code == cli.CodeOK {
		ended.Code = cli.CodeFailed // nothing was generated
	}
	return res, err
}

// gateway is what drop-ins find. At boot nobody is asked who may not be there
// yet, and nobody's environment counts.
func (g *generator) gateway() Gateway {
	switch g.when {
	case forSystem:
		return settings(g.root, g.env, warner(g.env.Stderr))
	case atBoot:
		return chain{lookup: func(string) string { return "" }, workstation: g.root.Exists(whonix.WorkstationMarker)}.gateway()
	}
	lookup := func(name string) string { v, _ := g.env.Lookup(name); return v }
	return chain{lookup: lookup, workstation: true, warn: warner(g.env.Stderr)}.gateway()
}

// destinations are the Gateway's addresses as units name them: what drop-ins
// have set, else what they had found, which in Qubes is known only when a
// service starts.
func (g *generator) destinations(res *confd.Result) (to Gateway, err error) {
	late := g.when == atBoot && asksQubes(g.root)
	value := func(name, found string) string {
		v := res.Vars[name]
		i := slices.IndexFunc(v.Parts, func(p confd.Part) bool { return p.Origin.File != "" })
		switch {
		case v.Text != "" && !validHost(v.Text):
			origin := confd.Origin{}
			if i >= 0 {
				origin = v.Parts[i].Origin
			}
			err = errors.Join(err, fmt.Errorf("%s: %s=%q is neither an address nor a name", origin, name, v.Text))
		case v.Text != "" && i >= 0:
			return v.Text
		case late:
			return "${" + name + "}"
		}
		return found // also where a drop-in has emptied it (defect 28)
	}
	to = Gateway{IP: value(varGateway, g.found.IP), IP6: value(varGateway6, g.found.IP6)}
	return to, err
}

// render makes all units in memory.
func (g *generator) render(res *confd.Result) ([]Unit, error) {
	to, err := g.destinations(res)
	if err != nil {
		return nil, &cli.Exit{Code: cli.CodeFailed, Err: err}
	}
	o := UnitOptions{Gateway: to, Relay: relayPath}
	if v := res.Vars[varRelay]; v.Text != "" {
		if strings.ContainsAny(v.Text, "\n\r") {
			return nil, &cli.Exit{Code: cli.CodeFailed, Err: fmt.Errorf("%s: %s has more than one line", v.Parts[0].Origin, varRelay)}
		}
		o.Relay = strings.ReplaceAll(v.Text, "%", "%%")
	}
	if g.when != atBoot {
		o.Comment, _ = g.env.Lookup("generated_comment")
	}
	if o.Comment == "" {
		o.Comment = fmt.Sprintf("This file was auto generated by %s %s.", generatorPath, g.when)
	}
	o.Comment = strings.NewReplacer("\n", " ", "\r", " ").Replace(o.Comment)
	redirections, complaints := Redirections(words(res.Vars[varTuples]))
	for _, c := range complaints {
		fmt.Fprintln(g.env.Stderr, c.Text)
		g.failed = g.failed || c.Fatal
	}
	var units []Unit
	loops := Loops(redirections, to)
	for i, r := range redirections {
		if loops[i] {
			g.complain("%s leads to itself, because the Gateway's address is this machine's own: left out", r.Listen)
			continue
		}
		socket, service := r.Units(o)
		units = append(units, socket, service)
	}
	return units, nil
}
