// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"crypto/sha256"
	"fmt"

	"whonix-networking/pkg/nft"
)

// A reload that would load what the kernel has already is no transaction: the
// kernel says whether anybody has changed its ruleset since.

// loadedState stands for a script that was loaded and nothing since.
func loadedState(g nft.Generation, script []byte) string {
	return fmt.Sprintf("%s %d %x\n", g.Namespace, g.ID, sha256.Sum256(script))
}

// mayBeUnchanged reports whether the kernel's ruleset is of the generation that
// was noted after the last load.
func (r *run) mayBeUnchanged() bool {
	noted, err := r.noted()
	if err != nil {
		return false
	}
	now, err := r.generation()
	if err != nil {
		return false
	}
	var namespace string
	var id uint32
	_, err = fmt.Sscanf(noted, "%s %d ", &namespace, &id)
	return err == nil && (nft.Generation{Namespace: namespace, ID: id}) == now
}

func (r *run) noted() (string, error) {
	const noteMax = 1 << 10
	text, err := r.root.ReadFile(generationFile, noteMax)
	return string(text), err
}

// unchanged reports whether the kernel has exactly the script, by us.
func (r *run) unchanged(script []byte) bool {
	noted, err := r.noted()
	if err != nil {
		return false
	}
	now, err := r.generation()
	return err == nil && noted == loadedState(now, script)
}

// commit loads the script, and notes the generation that came of it unless
// somebody else has changed something meanwhile.
func (r *run) commit(tx nft.Transaction, script []byte) error {
	before, beforeErr := r.generation()
	if err := r.root.Remove(generationFile); err != nil {
		tx.Abandon()
		return err
	}
	if err := tx.Commit(script); err != nil {
		return err
	}
	after, err := r.generation()
	if err != nil || beforeErr != nil || !before.Next(after) {
		return nil // only a later reload is slower
	}
	if err := r.root.MkdirAll(statusDir, 0o755); err != nil {
		return err
	}
	return r.root.WriteAtomic(generationFile, []byte(loadedState(after, script)), 0o644)
}

// loadRuleset computes the ruleset and loads it. nft is started first, as it
// gets ready meanwhile, but not where it is not likely to be needed.
func (r *run) loadRuleset(ctx context.Context) error {
	var tx nft.Transaction
	if !r.mayBeUnchanged() {
		var err error
		if tx, err = r.nft.Start(ctx); err != nil {
			return err
		}
	}
	cfg, script, err := r.compute(ctx)
	if err == nil {
		err = r.root.WriteAtomic(scriptFile, script, 0o644)
	}
	if err == nil {
		err = r.proveBeforeLoad(cfg, script)
	}
	if err != nil {
		if tx != nil {
			tx.Abandon()
		}
		return err
	}
	if tx == nil && !r.unchanged(script) {
		if tx, err = r.nft.Start(ctx); err != nil {
			return err
		}
	}
	if tx != nil {
		if err := r.commit(tx, script); err != nil {
			return err
		}
	}
	if err := r.record(script, cfg.Settings.Timesync); err != nil {
		return err
	}
	r.log.say("OK: Whonix firewall loaded.")
	return nil
}
