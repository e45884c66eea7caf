// SPDX-License-Identifier: GPL-3.0-or-later

package leaktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// Verdicts of a watcher.
const (
	WatchClean = "clean"
	WatchLeak  = "leak"
	WatchBlind = "unknown" // frames were missed
)

// Leak is a kind of frame that was not Tor's.
type Leak struct {
	First string `json:"first"` // when
	Owner string `json:"owner"` // an account, or none
	Frame string `json:"frame"`
	Count int    `json:"count"`
}

// State is what a watcher has seen so far.
type State struct {
	Interface string         `json:"interface"`
	Since     string         `json:"since"`
	Frames    int            `json:"frames"`
	Owners    map[string]int `json:"frames_by_owner"`
	Leaking   int            `json:"frames_leaked"`
	Lost      uint32         `json:"frames_lost"`
	Leaks     []Leak         `json:"leaks"`
	Verdict   string         `json:"verdict"`
}

// Owners that are no accounts.
const (
	ownerLink   = "link"   // neighbours, leases
	ownerRouter = "router" // for the local router itself
	ownerNone   = "none"
)

// watcher looks at what leaves by an interface, and whose it is.
type watcher struct {
	root   fsx.Root
	device string
	index  int
	tor    int // Tor's account
	now    func() time.Time
	found  func(Leak) // each new kind of leak

	capture *capture
	owners  *owners
	names   map[int]string // accounts

	mu    sync.Mutex
	state State
	kinds map[string]int // index of leaks
}

// torAccount is who Tor runs as.
const torAccount = "debian-tor"

// newWatcher begins to watch. It must be used by the goroutine that made it.
func newWatcher(root fsx.Root, device string, now func() time.Time) (*watcher, error) {
	accounts, err := passwd(root)
	if err != nil {
		return nil, err
	}
	w := &watcher{root: root, device: device, tor: nobodys, now: now, names: map[int]string{}, kinds: map[string]int{}}
	for _, a := range accounts {
		if w.names[a.uid] == "" {
			w.names[a.uid] = a.name
		}
		if a.name == torAccount {
			w.tor = a.uid
		}
	}
	if w.tor == nobodys {
		return nil, cli.WithHint(fmt.Errorf("/etc/passwd: there is no account %s, so nothing can be known as Tor's", torAccount), "install the package tor")
	}
	i, err := net.InterfaceByName(device)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("interface %s: %w", device, err), "name another by --interface")
	}
	w.index = i.Index
	if w.owners, err = newOwners(); err != nil {
		return nil, err
	}
	if w.capture, err = openCapture(w.index, outgoing); err != nil {
		w.owners.close()
		return nil, err
	}
	w.state = State{Interface: device, Since: stamp(now()), Owners: map[string]int{}, Leaks: []Leak{}, Verdict: WatchClean}
	return w, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// account is a line of passwd(5).
type account struct {
	name     string
	uid, gid int
}

// passwd are the accounts of the machine.
func passwd(root fsx.Root) (out []account, err error) {
	const limit = 1 << 20
	text, err := root.ReadFile("/etc/passwd", limit)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(line, ":")
		if len(f) < 4 {
			continue
		}
		uid, err1 := strconv.ParseUint(f[2], 10, 32)
		gid, err2 := strconv.ParseUint(f[3], 10, 32)
		if err1 == nil && err2 == nil {
			out = append(out, account{f[0], int(uid), int(gid)})
		}
	}
	return out, nil
}

func (w *watcher) close() {
	w.capture.Close()
	w.owners.close()
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, w.capture.interrupt)
	defer stop()
	const most = 1 << 16 // of what had come when it was told to end
	for late := 0; late < most; {
		if ctx.Err() != nil {
			late++
		}
		f, err := w.capture.next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case errors.Is(err, unix.ENETDOWN):
			if _, err := net.InterfaceByIndex(w.index); err != nil {
				return fmt.Errorf("interface %s has gone: %w", w.device, err)
			}
		case err != nil:
			return err
		default:
			if err := w.see(f); err != nil {
				return err
			}
		}
	}
	return nil
}

// see takes a frame into account.
func (w *watcher) see(f frame) error {
	owner, leak, err := w.judge(f)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state.Frames++
	w.state.Owners[owner]++
	if leak {
		w.leak(owner, f)
	}
	return nil
}

// judge says whose a frame is, and whether it should not have left.
func (w *watcher) judge(f frame) (owner string, leak bool, err error) {
	if neighbourly(f) {
		return ownerLink, false, nil
	}
	uid := nobodys
	if (f.Proto == unix.IPPROTO_TCP || f.Proto == unix.IPPROTO_UDP) && !f.Fragment && f.SrcPort != 0 {
		if uid, err = w.owners.of(f, w.now()); err != nil {
			return "", false, err
		}
	}
	if uid == w.tor {
		return torAccount, false, nil
	}
	around := routers(w.root, w.device)
	switch {
	case lease(f, around):
		return ownerLink, false, nil
	case forRouter(f, around):
		return ownerRouter, false, nil
	case uid == nobodys:
		return ownerNone, true, nil
	}
	if name := w.names[uid]; name != "" {
		return name, true, nil
	}
	return fmt.Sprintf("uid %d", uid), true, nil
}

// leak counts a leak; the lock is held. Local ports change with each
// connection and do not make another kind.
func (w *watcher) leak(owner string, f frame) {
	const kindsMax = 1000
	w.state.Leaking++
	w.state.Verdict = WatchLeak
	key := fmt.Sprint(owner, f.protocol(), f.Src, f.Dst, f.DstPort)
	i, ok := w.kinds[key]
	if !ok && len(w.state.Leaks) < kindsMax {
		l := Leak{First: stamp(w.now()), Owner: owner, Frame: f.String()}
		i, ok = len(w.state.Leaks), true
		w.kinds[key] = i
		w.state.Leaks = append(w.state.Leaks, l)
	}
	if !ok {
		return
	}
	if w.state.Leaks[i].Count++; w.state.Leaks[i].Count == 1 {
		w.found(w.state.Leaks[i])
	}
}

// encode writes JSON that people can read too.
func encode(to io.Writer, what any) error {
	e := json.NewEncoder(to)
	e.SetEscapeHTML(false)
	return e.Encode(what)
}

// snapshot is what was seen so far. What was missed may have been a leak.
func (w *watcher) snapshot() (State, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost, err := w.capture.losses()
	if err != nil {
		return State{}, err
	}
	if w.state.Lost = lost; lost > 0 && w.state.Verdict == WatchClean {
		w.state.Verdict = WatchBlind
	}
	s := w.state
	s.Owners = maps.Clone(s.Owners)
	s.Leaks = append([]Leak{}, s.Leaks...)
	return s, nil
}
