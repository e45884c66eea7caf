// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/whonix"
)

// Names of the role programs.
const (
	nameGateway     = "whonix-gateway-firewall"
	nameWorkstation = "whonix-workstation-firewall"
	nameHost        = "whonix-host-firewall"
)

// Files of the role programs.
const (
	stateDir        = "/var/lib/whonix-firewall"
	lockFile        = stateDir + "/lock"               // held during a run (D16)
	scriptFile      = stateDir + "/firewall.nft"       // generated last, also by a dry run
	loadedFile      = stateDir + "/loaded.nft"         // loaded last (D37)
	provedFile      = stateDir + "/proved"             // what was proved last
	generationFile  = statusDir + "/generation.status" // the kernel's ruleset after the last load
	statusDir       = "/run/whonix_firewall"
	firstRunFile    = statusDir + "/first_run_current_boot.status"
	laterRunFile    = statusDir + "/consecutive_run.status"
	secureProxyFile = "/run/updatesproxycheck/whonix-secure-proxy"
	ipv6Dir         = "/proc/sys/net/ipv6"
)

// program is a role program with its ways to the system.
type program struct {
	root  fsx.Root
	nft   nft.Runner
	list  func(context.Context) ([]byte, error) // the kernel's ruleset
	flush func() error                          // forgets all tracked connections

	generation func() (nft.Generation, error) // of the kernel's ruleset
	addresses  func() (map[string][]netip.Addr, error)
	account    func(name string) (uint32, bool)
	qubesDB    func(key string) (string, bool)
	euid       int
}

// Run is the program behind the names whonix_firewall and
// whonix-{gateway,workstation,host}-firewall. Every failure is exit code 1.
func Run(ctx context.Context, env cli.Env) error {
	return newProgram(fsx.Host).run(ctx, env)
}

func newProgram(root fsx.Root) *program {
	return &program{
		root:  root,
		nft:   nft.NewExec(root),
		list:  nft.NewExec(root).List,
		flush: nft.FlushConntrack,

		generation: nft.CurrentGeneration,
		addresses:  hostAddresses,
		account:    confd.Accounts(root),
		qubesDB:    confd.QubesDB(root),
		euid:       os.Geteuid(),
	}
}

func (p *program) run(ctx context.Context, env cli.Env) error {
	role, env, err := p.role(env)
	if err != nil {
		return err
	}
	opts, err := parseOptions(env.Args[1:])
	if err != nil {
		if _, reason, ok := strings.Cut(err.Error(), ": "); ok {
			fmt.Fprintln(env.Stderr, reason)
		}
		fmt.Fprint(env.Stdout, usage(env.Name()))
		return &cli.Exit{Code: cli.CodeFailed}
	}
	if opts.source {
		return nil
	}
	log := &logger{name: env.Name(), out: env.Stdout, err: env.Stderr, now: env.Now}
	if opts.output == standardOutput || opts.looks() {
		log.out = env.Stderr
	}
	r := &run{program: p, env: env, role: role, opts: opts, log: log}
	if err := r.do(ctx); err != nil {
		if !errors.Is(err, errNotProved) { // which was printed
			r.report(err)
		}
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// role chooses the role by the name of the program, or by the marker files for
// whonix_firewall, and gives the program that role's name. In a template every
// role has the workstation's program.
func (p *program) role(env cli.Env) (whonix.Role, cli.Env, error) {
	byName := map[string]whonix.Role{nameGateway: whonix.Gateway, nameWorkstation: whonix.Workstation, nameHost: whonix.Host}
	if role, ok := byName[env.Name()]; ok {
		return role, env, nil
	}
	if len(env.Args) == 2 && (env.Args[1] == "-h" || env.Args[1] == "--help") {
		return whonix.RoleNone, env, nil
	}
	m := whonix.Detect(p.root)
	role := m.Role
	if m.Template {
		role = whonix.Workstation
	}
	for name, r := range byName {
		if r == role {
			env.Args = append([]string{"/usr/bin/" + name}, env.Args[1:]...)
			return role, env, nil
		}
	}
	fmt.Fprintln(env.Stderr, "ERROR: Neither file "+whonix.GatewayMarker+" nor file "+whonix.WorkstationMarker+" exists! "+
		"If this is a Whonix-Gateway, package anon-gw-base-files needs to be installed. "+
		"If this is a Whonix-Workstation, package anon-ws-base-files needs to be installed.")
	return role, env, &cli.Exit{Code: cli.CodeFailed}
}

// standardOutput as the argument of --output.
const standardOutput = "-"

// run is one run of a role program.
type run struct {
	*program
	env  cli.Env
	role whonix.Role
	opts options
	log  *logger

	vars  Variables // once they were read
	known *Facts
}

// records reports whether this run owns the files below stateDir.
func (r *run) records() bool {
	return !r.opts.checkConfig && r.opts.output == "" && !r.opts.looks()
}

func (r *run) do(ctx context.Context) error {
	const notLoaded = "OK: Firewall will not be loaded because dry-run is set"
	r.log.say("OK: Initialize Whonix firewall procedures...")
	if r.opts.dryRun {
		r.log.say(notLoaded)
	}
	if r.records() {
		unlock, err := r.begin(ctx)
		if err != nil {
			return err
		}
		defer unlock()
	}
	if r.opts.looks() {
		return r.look(ctx)
	}
	if !r.opts.dryRun && !r.opts.checkConfig {
		return r.loadRuleset(ctx)
	}
	_, script, err := r.compute(ctx)
	if err != nil {
		return err
	}
	switch {
	case r.opts.checkConfig:
		r.log.say("OK: The configuration is valid. Nothing was changed.")
		return nil
	case r.opts.output != "":
		if err := r.writeOutput(script); err != nil {
			return err
		}
	default:
		if err := r.root.WriteAtomic(scriptFile, script, 0o644); err != nil {
			return err
		}
	}
	r.log.say(notLoaded)
	return nil
}

// compute is everything before the kernel.
func (r *run) compute(ctx context.Context) (*Configuration, []byte, error) {
	cfg, err := r.configure(ctx)
	if err != nil {
		return nil, nil, err
	}
	return cfg, r.generate(cfg), nil
}

// begin waits for other runs to end (D16) and removes the last script, so that
// none is there after a failure.
func (r *run) begin(ctx context.Context) (unlock func(), err error) {
	if err := r.root.MkdirAll(stateDir, 0o755); err != nil {
		return nil, err
	}
	unlock, err = r.root.Lock(ctx, lockFile)
	if err != nil {
		return nil, err
	}
	if err := r.root.Remove(scriptFile); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// configure evaluates the fragments and validates what they say.
func (r *run) configure(ctx context.Context) (*Configuration, error) {
	vars, err := r.variables(ctx)
	if err != nil {
		return nil, err
	}
	facts, err := r.facts()
	if err != nil {
		return nil, err
	}
	cfg, err := Configure(vars, facts)
	if err != nil {
		return nil, err
	}
	r.vars, r.known = vars, facts
	for _, name := range cfg.Missing {
		fmt.Fprintf(r.env.Stderr, "id: '%s': no such user\n", name)
	}
	for _, w := range cfg.Warnings {
		r.log.warn(w)
	}
	return cfg, nil
}

// generate computes the script and says what it does.
func (r *run) generate(cfg *Configuration) []byte {
	for _, n := range cfg.Notes {
		r.log.say(n)
	}
	if cfg.Settings.Timesync {
		r.log.say("OK: Running in timesync-fail-closed mode.")
		r.log.say("OK: (Only local Tor control port connections and torified sdwdate allowed.)")
	} else {
		r.log.say("OK: Running in full mode.")
		r.log.say("OK: (Full torified network access allowed.)")
	}
	if r.opts.info {
		for _, name := range printedVariables(r.role) {
			r.log.say("INFO: " + name + "=" + squeeze(cfg.Text[name]))
		}
	}
	script, notes := Ruleset(&cfg.Settings)
	for _, n := range notes {
		if r.opts.info || !n.Info {
			r.log.say(n.Text)
		}
	}
	return script.Bytes()
}

func (r *run) writeOutput(script []byte) error {
	if r.opts.output == standardOutput {
		_, err := r.env.Stdout.Write(script)
		return err
	}
	return os.WriteFile(r.opts.output, script, 0o644)
}

// record ends a load: it cuts what must not go on, and keeps the record.
func (r *run) record(script []byte, timesync bool) error {
	if timesync { // D8: what was established before must not go on
		if err := r.flush(); err != nil {
			return err
		}
	}
	if err := r.root.WriteAtomic(loadedFile, script, 0o644); err != nil {
		return err
	}
	if err := r.root.MkdirAll(statusDir, 0o755); err != nil {
		return err
	}
	if r.root.Exists(firstRunFile) {
		return r.root.Touch(laterRunFile, 0o644)
	}
	return r.root.Touch(firstRunFile, 0o644)
}

// report says why the run failed: one line on standard error, and the banner.
func (r *run) report(err error) {
	var mode *ModeError
	if errors.As(err, &mode) {
		r.log.say("ERROR: firewall_mode must be 'full' or 'timesync-fail-closed', got '" + squeeze(mode.Mode) + "'.")
	}
	var syntax *confd.SyntaxError
	var eval *confd.EvalError
	switch {
	case errors.As(err, &syntax):
		text := fmt.Sprintf("bash_n_exit_code: %d\nbash_n_output:\n%s", syntax.ExitCode, syntax.Text)
		r.log.line(r.log.err, "ERROR: Invalid config file: "+syntax.File+"\n"+indent(text))
		return
	case errors.As(err, &eval) && eval.Quiet:
		return
	}
	r.log.fail(err)
	r.log.banner()
}

func indent(text string) string {
	const by = "   "
	return by + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+by)
}
