// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// defaultsPath is the first file that Debian's Tor reads.
const defaultsPath = "/usr/share/tor/tor-service-defaults-torrc"

// Exit codes of anon-verify.
const (
	codeInvalid  = 1
	codeNotAsked = 2 // Tor could not be asked
)

// verifyTime is how long Tor may take to check its configuration.
const verifyTime = time.Minute

// verdict is what Tor says of its configuration.
type verdict struct {
	output string
	code   int
}

// verbosity is how much of the files is shown.
type verbosity int

const (
	brief verbosity = iota
	counting
	everything
	asJSON
)

// verifier is anon-verify with its ways to the system.
type verifier struct {
	root     fsx.Root
	env      cli.Env
	ask      func(context.Context) (verdict, error)
	bindable func(netip.Addr) bool
}

const verifyHelp = `usage: %[1]s [OPTION]...
Checks Tor's configuration, and says which files it is made of.

 -v, --verbose         also show the lines that count, in Tor's order
 -vv, --very-verbose   and comments and empty lines
     --json            say the same for programs
 -h, --help            show this text
     --version         show the version

See:
   man %[1]s
`

// Verify is the program anon-verify, and by its other name torrc-parser.
func Verify(ctx context.Context, env cli.Env) error {
	if env.Name() == "torrc-parser" {
		return parse(fsx.Host, env)
	}
	v := &verifier{root: fsx.Host, env: env, bindable: bindable}
	v.ask = v.askTor
	return v.run(ctx)
}

// options reads the arguments; operands never counted.
func options(env cli.Env, help string) (level verbosity, operands []string, done bool, err error) {
	for i, arg := range env.Args[1:] {
		switch arg {
		case "-h", "--help", "-?":
			_, err := fmt.Fprintf(env.Stdout, help, env.Name())
			return brief, nil, true, err
		case "-v", "--verbose":
			fmt.Fprintf(env.Stdout, "%s verbose output...\n", env.Name())
			level = counting
		case "-vv", "--very-verbose":
			fmt.Fprintf(env.Stdout, "%s very verbose output...\n", env.Name())
			level = everything
		case "--json":
			level = asJSON
		case "--":
			return level, append(operands, env.Args[i+2:]...), false, nil
		default:
			if strings.HasPrefix(arg, "-") {
				fmt.Fprintf(env.Stderr, "%s unknown option: %s\n", env.Name(), arg)
				return brief, nil, true, &cli.Exit{Code: codeInvalid}
			}
			operands = append(operands, arg)
		}
	}
	return level, operands, false, nil
}

func (v *verifier) run(ctx context.Context) error {
	level, _, done, err := options(v.env, verifyHelp)
	if done {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	said, err := v.ask(ctx)
	if err != nil {
		return &cli.Exit{Code: codeNotAsked, Err: err}
	}
	l := walked(v.root, []string{defaultsPath, torrcPath}, level)
	findings := lint(v.root, l, v.bindable)
	wrong := said.code != 0 || slices.ContainsFunc(findings, func(f finding) bool { return f.Error })
	if level == asJSON {
		return v.json(said, l, findings, wrong)
	}
	v.report(said)
	v.files(l)
	v.solution(said, l)
	v.findings(findings)
	if level == counting || level == everything {
		v.listing(l)
	}
	fmt.Fprintln(v.env.Stdout, strings.Repeat("=", width+2))
	if wrong {
		return &cli.Exit{Code: codeInvalid}
	}
	return nil
}

// walked lists files with what they include.
func walked(root fsx.Root, paths []string, level verbosity) *listing {
	l := &listing{files: torrcFiles{root}}
	for _, p := range paths {
		l.sources = append(l.sources, len(l.lines))
		l.walk(p, level == everything, 0)
	}
	return l
}

// width is that of a heading, between its bars.
const width = 67

// heading prints a title in a box.
func heading(w io.Writer, title string) {
	bar := strings.Repeat("=", width)
	left := (width - len(title)) / 2
	fmt.Fprintf(w, "/%s\\\n|%*s%s%*s|\n\\%s/\n", bar, left, "", title, width-left-len(title), "", bar)
}

// report is what Tor said: in short, and in full.
func (v *verifier) report(said verdict) {
	out := v.env.Stdout
	heading(out, "Report Summary")
	if said.code == 0 {
		fmt.Fprintln(out, "No error detected in your Tor configuration.")
	} else {
		fmt.Fprintln(out, "Your Tor config files contain at least one error.")
	}
	fmt.Fprintf(out, "Tor verify exit code: %d\n", said.code)
	if said.code != 0 {
		heading(out, "Tor Concise Report")
		fmt.Fprintln(out, "Below warns and errors must be fixed before you can use Tor:")
		for line := range strings.Lines(said.output) {
			if strings.Contains(line, "[warn]") || strings.Contains(line, "[err]") {
				fmt.Fprintln(out, strings.TrimRight(line, "\n"))
			}
		}
	}
	heading(out, "Tor Full Report")
	fmt.Fprintln(out, strings.TrimRight(said.output, "\n"))
}

// files are those that Tor reads, and those among them that were hardly meant
// to be.
func (v *verifier) files(l *listing) {
	out := v.env.Stdout
	heading(out, "Used Tor Configuration Files")
	fmt.Fprintf(out, "%d files are used as Tor configuration files: \n", len(l.used))
	for _, p := range l.used {
		fmt.Fprintln(out, p)
	}
	known := []string{defaultsPath, listenersPath, torrcPath}
	var extraneous []string
	for _, p := range l.used {
		if filepath.Ext(p) != ".conf" && !slices.Contains(known, p) {
			extraneous = append(extraneous, p)
		}
	}
	if len(extraneous) == 0 {
		return
	}
	heading(out, "Extraneous Tor Configuration Files")
	fmt.Fprintf(out, "%d files are do not end with file extension '.conf': \n", len(extraneous))
	for _, p := range extraneous {
		fmt.Fprintln(out, p)
	}
	fmt.Fprintln(out, "These should be probably removed.")
}

// solution says where the option is that Tor does not know.
func (v *verifier) solution(said verdict, l *listing) {
	_, rest, ok := strings.Cut(said.output, "Unknown option '")
	option, _, ended := strings.Cut(rest, "'")
	if !ok || !ended || option == "" {
		return
	}
	out := v.env.Stdout
	heading(out, "Detailed Suggested Solution")
	fmt.Fprintf(out, "The following files contain unknown option '%s': \n", option)
	for _, place := range l.named(option) {
		fmt.Fprintln(out, place)
	}
	fmt.Fprintln(out, "Please modify these files to fix the problem.")
}

func (v *verifier) listing(l *listing) {
	heading(v.env.Stdout, "Verbose Tor Configuration Parsing")
	fmt.Fprintln(v.env.Stdout, "The Tor configuration files are parsed in such order: ")
	fmt.Fprint(v.env.Stdout, l.text.String())
}

// askTor has Tor check its configuration, as root: directly, by leaprun, or by
// sudo, which both know this very command.
func (v *verifier) askTor(ctx context.Context) (verdict, error) {
	argv := strings.Fields("/usr/bin/tor --defaults-torrc " + defaultsPath + " -f " + torrcPath + " --RunAsDaemon 0 --verify-config")
	if os.Geteuid() != 0 {
		argv = append([]string{"sudo", "--non-interactive"}, argv...)
		if leaprun, err := execx.Find(v.root, "leaprun"); err == nil {
			argv = []string{leaprun, "anonymizer-tor-verify-config"}
		}
	}
	if !filepath.IsAbs(argv[0]) {
		path, err := execx.Find(v.root, argv[0])
		if err != nil {
			return verdict{}, err
		}
		argv[0] = path
	}
	var out bytes.Buffer
	err := execx.Cmd{Path: argv[0], Args: argv[1:], Env: execx.CleanEnv(nil), Stdout: &out, Stderr: &out}.Run(ctx)
	var status *execx.StatusError
	switch {
	case err == nil:
		return verdict{out.String(), 0}, nil
	case !errors.As(err, &status):
		return verdict{}, err
	case !strings.Contains(out.String(), "[err]") && !strings.Contains(out.String(), "[warn]"):
		return verdict{}, fmt.Errorf("tor could not be asked: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return verdict{out.String(), execx.Status(err)}, nil
}

const parserHelp = `usage: %s [-v | -vv] FILE...
Lists the files that Tor reads where it reads these. See anon-verify(8).

 -v, --verbose         also show the lines that count, in Tor's order
 -vv, --very-verbose   and comments and empty lines
 -h, --help            show this text
     --version         show the version
`

// parse is the program torrc-parser.
func parse(root fsx.Root, env cli.Env) error {
	level, paths, done, err := options(env, parserHelp)
	if done {
		return err
	}
	if len(paths) == 0 {
		return cli.WithHint(cli.Usagef("no file is named"), "%s --help", env.Name())
	}
	for i, p := range paths {
		if paths[i], err = filepath.Abs(p); err != nil {
			return err
		}
	}
	v := &verifier{root: root, env: env}
	l := walked(root, paths, level)
	v.files(l)
	if level == asJSON {
		return cli.Usagef("--json is for anon-verify")
	}
	if level > brief {
		v.listing(l)
	}
	if l.stopped {
		return errors.New("there is no end to what is included")
	}
	if len(l.missing) > 0 {
		return fmt.Errorf("cannot be read: %s", strings.Join(l.missing, ", "))
	}
	return nil
}
