// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// Runner hands scripts to the kernel.
type Runner interface {
	// Load applies the script as one transaction: on error nothing has changed.
	Load(ctx context.Context, script []byte) error
}

// ErrNoNft says that nft(8) is not installed.
var ErrNoNft = errors.New("nft is not installed (package nftables)")

// Exec loads scripts by one run of nft(8).
type Exec struct{ root fsx.Root }

// NewExec runs the nft(8) found below root, in trusted places only.
func NewExec(root fsx.Root) *Exec { return &Exec{root: root} }

// loadTimeout bounds one run of nft(8): a ruleset of hundreds of rules takes
// some ten milliseconds.
const loadTimeout = 20 * time.Second

// Load feeds the script to `nft -f -`. The error holds nft's first complaint.
func (e *Exec) Load(ctx context.Context, script []byte) error {
	path, err := execx.Find(e.root, "nft")
	if err != nil {
		return ErrNoNft
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	var said bytes.Buffer
	err = execx.Cmd{Path: path, Args: []string{"-f", "-"}, Stdin: bytes.NewReader(script), Stderr: &said}.Run(ctx)
	if err != nil {
		return fmt.Errorf("nft refused the ruleset, nothing was changed: %s: %w", complaint(said.String()), err)
	}
	return nil
}

// complaint is the first error line of nft's output, without the source that
// nft repeats below it.
func complaint(output string) string {
	for line := range strings.Lines(output) {
		if strings.Contains(line, "rror:") {
			return strings.TrimSpace(line)
		}
	}
	first, _, _ := strings.Cut(output, "\n")
	return first
}
