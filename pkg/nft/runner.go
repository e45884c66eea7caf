// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// Runner hands scripts to the kernel.
type Runner interface {
	// Start makes ready for one script, which may take a while: nft(8) takes as
	// long to start as a script to be computed.
	Start(ctx context.Context) (Transaction, error)
}

// Transaction is ready to take one script. Either Commit or Abandon must be
// called, once.
type Transaction interface {
	// Commit applies the script as one transaction: on error nothing has changed.
	Commit(script []byte) error
	// Abandon ends it without any effect.
	Abandon()
}

// Load applies a script that is already there.
func Load(ctx context.Context, r Runner, script []byte) error {
	t, err := r.Start(ctx)
	if err != nil {
		return err
	}
	return t.Commit(script)
}

// ErrNoNft says that nft(8) is not installed.
var ErrNoNft = errors.New("nft is not installed (package nftables)")

// Exec loads scripts by one run of nft(8) each.
type Exec struct{ root fsx.Root }

// NewExec runs the nft(8) found below root, in trusted places only.
func NewExec(root fsx.Root) *Exec { return &Exec{root: root} }

// loadTimeout bounds one run of nft(8): a ruleset of hundreds of rules takes
// some ten milliseconds.
const loadTimeout = 60 * time.Second

// run is an nft(8) that waits for its script.
type run struct {
	child  *execx.Running
	cancel context.CancelFunc
	script *os.File // where it reads from: our end of a pipe
	said   *os.File // its complaints, in memory
}

// Start starts `nft -f -`. Without a script, also if this process is killed, it
// does nothing.
func (e *Exec) Start(ctx context.Context) (_ Transaction, err error) {
	path, err := execx.Find(e.root, "nft")
	if err != nil {
		return nil, ErrNoNft
	}
	r := &run{}
	if r.said, err = fsx.Memory("complaints", nil); err != nil {
		return nil, err
	}
	in, out, err := os.Pipe()
	if err != nil {
		r.said.Close()
		return nil, err
	}
	defer in.Close()
	r.script = out
	ctx, r.cancel = context.WithTimeout(ctx, loadTimeout)
	r.child, err = execx.Cmd{Path: path, Args: []string{"-f", "-"}, Stdin: in, Stderr: r.said}.Start(ctx)
	if err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

// Commit hands the script over at once: the pipe is made to hold all of it, so
// that nft never sees a part, whatever becomes of this process. The error holds
// nft's first complaint.
func (r *run) Commit(script []byte) error {
	size, err := unix.FcntlInt(r.script.Fd(), unix.F_SETPIPE_SZ, max(len(script), os.Getpagesize()))
	if err == nil && size < len(script) {
		err = unix.EFBIG
	}
	if err != nil {
		r.Abandon()
		return fmt.Errorf("a ruleset of %d bytes does not fit into a pipe: %w", len(script), err)
	}
	_, writeErr := r.script.Write(script)
	r.script.Close()
	err = r.child.Wait()
	if err == nil {
		err = writeErr
	}
	if err != nil {
		const complaintsMax = 1 << 20
		text := make([]byte, complaintsMax)
		n, _ := r.said.ReadAt(text, 0)
		err = fmt.Errorf("nft refused the ruleset, nothing was changed: %s: %w", complaint(string(text[:n])), err)
	}
	r.close()
	return err
}

// Abandon lets nft read the end of its input at once.
func (r *run) Abandon() {
	r.script.Close()
	r.cancel()
	_ = r.child.Wait() // it was told to end
	r.close()
}

func (r *run) close() {
	r.script.Close()
	r.cancel()
	r.said.Close()
}

// listMax bounds what the kernel's ruleset may be as text.
const listMax = 64 << 20

// List is the kernel's ruleset as text, all of it, without counters.
func (e *Exec) List(ctx context.Context) ([]byte, error) {
	path, err := execx.Find(e.root, "nft")
	if err != nil {
		return nil, ErrNoNft
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	var out, said bytes.Buffer
	err = execx.Cmd{Path: path, Args: []string{"--stateless", "list", "ruleset"}, Stdout: &out, Stderr: &said}.Run(ctx)
	switch {
	case err != nil:
		return nil, fmt.Errorf("nft does not list the kernel's ruleset: %s: %w", complaint(said.String()), err)
	case out.Len() > listMax:
		return nil, fmt.Errorf("the kernel's ruleset has more than %d bytes", listMax)
	}
	return out.Bytes(), nil
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
