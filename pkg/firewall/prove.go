// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/leakproof"
)

// standardInput as a file to look at.
const standardInput = "-"

// rulesets are the scripts that a proof of a configuration is about: its own,
// those of both modes, and the one that shuts everything.
func rulesets(vars Variables, facts *Facts, c *Configuration) (*leakproof.Rulesets, error) {
	script, _ := Ruleset(&c.Settings)
	texts := &leakproof.Rulesets{Main: script.Bytes(), Lockdown: lockdownScript(facts.IPv6).Bytes()}
	other := *facts
	other.ModeCLI, other.TimeSynced = ModeTimesync, ""
	if c.Settings.Timesync {
		other.ModeCLI = ModeFull
	}
	o, err := Configure(vars, &other)
	if err != nil {
		return nil, err
	}
	script, _ = Ruleset(&o.Settings)
	texts.Full, texts.Timesync = texts.Main, script.Bytes()
	if c.Settings.Timesync {
		texts.Full, texts.Timesync = script.Bytes(), texts.Main
	}
	return texts, nil
}

// names are how rulesets may name accounts and services.
func (r *run) names() leakproof.Names {
	return leakproof.Names{Account: r.known.Account, Service: r.known.Service}
}

// proveBeforeLoad refuses a ruleset that leaks. What was proved before, by the
// same program, is not proved again: a reload has no time for it.
func (r *run) proveBeforeLoad(cfg *Configuration, script []byte) error {
	texts, err := rulesets(r.vars, r.known, cfg)
	if err != nil {
		return err
	}
	p := policy(&cfg.Settings, r.names())
	mark := fingerprint(p, texts)
	const markMax = 1 << 10
	if before, err := r.root.ReadFile(provedFile, markMax); err == nil && string(before) == mark {
		return nil
	}
	proof, err := leakproof.Prove(p, texts)
	if err != nil { // the question was wrong, not the ruleset
		r.log.warn("not proved: " + err.Error())
		return nil
	}
	for _, res := range proof.Results {
		if res.Status == leakproof.NotProved {
			r.log.warn("not proved: " + res.Property + " (" + res.Statement + ")" + because(res))
		}
	}
	var leaks []string
	for _, res := range proof.Results {
		if res.Status == leakproof.Violated {
			leaks = append(leaks, res.Property+" ("+res.Statement+"): "+shown(res.Witness))
		}
	}
	switch {
	case leaks == nil && proof.Holds():
		return r.root.WriteAtomic(provedFile, []byte(mark), 0o644)
	case leaks == nil:
		return nil
	case r.opts.unproven:
		r.log.warn("loading a ruleset that leaks, because of --unproven: " + strings.Join(leaks, "; "))
		return nil
	}
	return fmt.Errorf("this configuration leaks, nothing was loaded (--unproven loads it, --prove shows all): %s", strings.Join(leaks, "; "))
}

// fingerprint stands for everything that a proof depends on.
func fingerprint(p *leakproof.Policy, texts *leakproof.Rulesets) string {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%s %v %q %q %q\n%+v\n", cli.Version, p.Role, p.Timesync, p.Inside, p.Outside, p.TorPorts, p.Permits)
	for _, text := range [][]byte{texts.Main, texts.Full, texts.Timesync, texts.Lockdown} {
		fmt.Fprintf(h, "%d\n", len(text))
		h.Write(text)
	}
	return hex.EncodeToString(h.Sum(nil)) + "\n"
}

func because(res leakproof.Result) string {
	switch {
	case res.Reason != "":
		return ": " + res.Reason
	case len(res.Doubts) > 0:
		return ": " + res.Doubts[0].String()
	}
	return ""
}

// shown is a witness on one line.
func shown(w *leakproof.Witness) string {
	if w == nil {
		return ""
	}
	text := w.Words + " " + w.Then
	if n := len(w.Steps); n > 0 {
		text += ", by " + w.Steps[n-1].String()
	}
	return text
}

// look looks at rulesets and loads none.
func (r *run) look(ctx context.Context) error {
	cfg, err := r.configure(ctx)
	if err != nil {
		return err
	}
	p := policy(&cfg.Settings, r.names())
	if r.opts.variable != "" {
		return r.explainVariable(cfg)
	}
	if m := r.opts.meanings; m != nil {
		return r.compareFiles(p, m[0], m[1])
	}
	texts, err := rulesets(r.vars, r.known, cfg)
	if err == nil && r.opts.diff {
		return r.diff(ctx, p, texts.Main)
	}
	if err == nil {
		err = r.replaceRuleset(ctx, p.Timesync, texts)
	}
	if err != nil {
		return err
	}
	if r.opts.packet != "" {
		return r.explain(p, texts.Main)
	}
	proof, err := leakproof.Prove(p, texts)
	if err != nil {
		return err
	}
	if err := r.print(proof, func(w io.Writer) { printProof(w, proof) }); err != nil {
		return err
	}
	if !proof.Holds() {
		return errNotProved
	}
	return nil
}

// errNotProved ends a run whose result was printed.
var errNotProved = errors.New("not proved")

// replaceRuleset puts the ruleset that the options name in the place of the
// configured one.
func (r *run) replaceRuleset(ctx context.Context, timesync bool, texts *leakproof.Rulesets) (err error) {
	text := texts.Main
	switch {
	case r.opts.kernel:
		text, err = r.list(ctx)
	case r.opts.file != "":
		text, err = r.rulesetFile(r.opts.file)
	}
	if err != nil {
		return err
	}
	texts.Main = text
	if timesync {
		texts.Timesync = text
	} else {
		texts.Full = text
	}
	return nil
}

// rulesetFile reads a script of nft(8).
func (r *run) rulesetFile(path string) ([]byte, error) {
	const rulesetMax = 16 << 20
	in := r.env.Stdin
	if path != standardInput {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, rulesetMax+1))
	if err == nil && len(text) > rulesetMax {
		err = fmt.Errorf("%s: has more than %d bytes", path, rulesetMax)
	}
	return text, err
}

// print prints a result for people, or for programs.
func (r *run) print(result any, people func(io.Writer)) error {
	if !r.opts.json {
		people(r.env.Stdout)
		return nil
	}
	e := json.NewEncoder(r.env.Stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(result)
}

func printProof(w io.Writer, proof *leakproof.Proof) {
	for _, res := range proof.Results {
		fmt.Fprintf(w, "%-10s %-3s %s\n", strings.ToUpper(string(res.Status)), res.Property, res.Statement)
		if res.Reason != "" {
			fmt.Fprintf(w, "           %s\n", res.Reason)
		}
		for _, weak := range res.Weakened {
			fmt.Fprintf(w, "           but for %s: %s\n", weak.Option, weak.Why)
		}
		printWitness(w, res)
		const doubtsMax = 10
		for i, d := range res.Doubts {
			if i == doubtsMax {
				fmt.Fprintf(w, "           and %d more\n", len(res.Doubts)-i)
				break
			}
			fmt.Fprintf(w, "           %v\n", d)
		}
	}
}

func printWitness(w io.Writer, res leakproof.Result) {
	if res.Witness == nil {
		return
	}
	may := ""
	if !res.Witness.Certain {
		may = "perhaps: "
	}
	fmt.Fprintf(w, "           %s%s\n           %s\n           nft: %s\n", may, res.Witness.Words, res.Witness.Then, res.Witness.Tuple)
	for _, s := range res.Witness.Steps {
		fmt.Fprintf(w, "           %v\n", s)
	}
}

func (r *run) explain(p *leakproof.Policy, ruleset []byte) error {
	e, err := leakproof.Explain(p, ruleset, r.opts.packet)
	if err != nil {
		return err
	}
	return r.print(e, func(w io.Writer) {
		fmt.Fprintf(w, "%s\n", e.Words)
		for _, s := range e.Steps {
			fmt.Fprintf(w, "  %v\n", s)
		}
		verdict := e.Verdict
		if e.Verdict == "accept" && e.End != e.Words {
			verdict += " as " + e.End
		}
		if !e.Certain {
			verdict = "perhaps " + verdict
		}
		fmt.Fprintf(w, "%s\n", verdict)
	})
}

// diff compares what would be loaded with what is.
func (r *run) diff(ctx context.Context, p *leakproof.Policy, script []byte) error {
	loaded, err := r.list(ctx)
	if err != nil {
		return err
	}
	return r.compare(p, script, loaded, "the configuration", "the kernel")
}

func (r *run) compareFiles(p *leakproof.Policy, first, second string) error {
	var texts [2][]byte
	for i, path := range []string{first, second} {
		text, err := r.rulesetFile(path)
		if err != nil {
			return err
		}
		texts[i] = text
	}
	return r.compare(p, texts[0], texts[1], first, second)
}

// compare prints what two rulesets, called by these names, treat differently.
func (r *run) compare(p *leakproof.Policy, a, b []byte, first, second string) error {
	c, err := leakproof.Compare(p, a, b)
	if err != nil {
		return err
	}
	if err := r.print(c, func(w io.Writer) { printComparison(w, c, first, second) }); err != nil || c.Same {
		return err
	}
	return errNotProved
}

func printComparison(w io.Writer, c *leakproof.Comparison, first, second string) {
	for _, d := range c.Differences {
		file, perhaps := first, ""
		if d.Only == "second" {
			file = second
		}
		if !d.Certain {
			perhaps = "perhaps "
		}
		fmt.Fprintf(w, "%sonly %s lets pass (%s): %s\n  for example %s\n", perhaps, file, d.Where, d.Like, d.Example)
	}
	for _, d := range c.Doubts {
		fmt.Fprintf(w, "not known: %v\n", d)
	}
	switch {
	case c.Same:
		fmt.Fprintln(w, "Both mean the same.")
	case c.More:
		fmt.Fprintln(w, "There are more differences.")
	}
}
