// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/seccomp"
)

// workers is how many calls the helper answers at a time.
const workers = 8

// helper serves one program and all that descends from it.
type helper struct {
	settings Settings
	scope    uint32 // of settings.Addr6
	mode     Mode
	own      process // the helper itself
	caps     capabilities
	listener *seccomp.Listener
	journal  *journal
	held     *registry // ModeValue
}

// runHelper is the helper's main function. It ends with the last process of
// the program, and not before because of a signal to its service or session:
// without it the program's calls fail.
func runHelper(_ context.Context, env cli.Env) error {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGUSR1, unix.SIGUSR2)
	h, err := newHelper(env)
	if err != nil {
		return refuse(err)
	}
	defer h.journal.close()
	if err := h.negotiate(); err != nil {
		return refuse(err)
	}
	// The launcher's context ends with the signals that are ignored here.
	if err := h.serve(context.Background()); err != nil {
		h.journal.report("serve", err)
		return refuse(err)
	}
	return nil
}

func newHelper(env cli.Env) (*helper, error) {
	settings, err := settingsFrom(env)
	if err != nil {
		return nil, err
	}
	h := &helper{settings: settings, journal: newJournal(env), held: newRegistry()}
	if h.scope, err = scope(settings); err != nil {
		return nil, err
	}
	// A process of this name, and nobody else's business: nobody may trace it.
	if err := os.WriteFile("/proc/self/comm", []byte(HelperName), 0); err != nil {
		return nil, err
	}
	if h.caps, err = threadCapabilities(); err != nil {
		return nil, err
	}
	if h.own, err = readProcess(os.Getpid()); err != nil {
		return nil, err
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become undumpable: %w", err)
	}
	return h, nil
}

// scope is the number of the interface that the zone of BIND_ADDR6 names.
func scope(s Settings) (uint32, error) {
	zone := s.Addr6.Zone()
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("zone of BIND_ADDR6: %w", err)
	}
	return uint32(i.Index), nil
}

// negotiate talks to the launcher until there is a listener to serve.
func (h *helper) negotiate() error {
	defer unix.Close(execx.OrphanSocket)
	line, _, err := receive(execx.OrphanSocket)
	if err != nil {
		return err
	}
	var pid, fd int
	var address uintptr
	if _, err := fmt.Sscanf(line, "probe %d %d %d", &pid, &address, &fd); err != nil {
		return fmt.Errorf("question %q: %w", line, err)
	}
	if err := send(execx.OrphanSocket, strconv.Itoa(int(tryAccess(pid, address, fd))), -1); err != nil {
		return err
	}
	mode, listener, err := receive(execx.OrphanSocket)
	if err != nil {
		return err
	}
	h.mode = Mode(mode)
	if h.listener, err = seccomp.NewListener(listener); err == nil {
		err = h.listener.CheckInjection()
	}
	if err != nil {
		return errors.Join(err, send(execx.OrphanSocket, err.Error(), -1))
	}
	own, err := identity(os.Getpid())
	if err != nil {
		return err
	}
	return send(execx.OrphanSocket, own, -1)
}

// tryAccess does to the launcher what ModeAddress will do to the program.
func tryAccess(pid int, address uintptr, fd int) unix.Errno {
	want := magic()
	got := make([]byte, magicLength)
	if err := readMemory(pid, address, got); err != nil {
		return errnoOf(err, unix.EPERM)
	}
	if [magicLength]byte(got) != want {
		return unix.EFAULT
	}
	copied, err := duplicate(pid, fd)
	if err != nil {
		return errnoOf(err, unix.EPERM)
	}
	unix.Close(copied)
	return 0
}

// errnoOf is the error number in err, or otherwise.
func errnoOf(err error, otherwise unix.Errno) unix.Errno {
	var errno unix.Errno
	if errors.As(err, &errno) && errno != 0 {
		return errno
	}
	return otherwise
}

// serve answers until the last process is gone.
func (h *helper) serve(ctx context.Context) error {
	defer h.listener.Close()
	decide := h.byAddress
	if h.mode == ModeValue {
		decide = h.byValue
		defer h.held.close()
		collected := h.held.collectRegularly(ctx)
		defer collected()
	}
	return h.listener.Serve(ctx, workers, func(n *seccomp.Notification) { h.answer(n, decide(n)) })
}

// verdict is the answer to a call.
type verdict struct {
	proceed  bool       // the kernel makes the call
	answered bool       // nothing is left to be said
	errno    unix.Errno // what the call fails with; 0: it has succeeded
}

func (h *helper) answer(n *seccomp.Notification, v verdict) {
	var err error
	switch {
	case v.answered:
	case v.proceed:
		err = h.listener.Continue(n)
	case v.errno != 0:
		err = h.listener.Fail(n, v.errno)
	default:
		err = h.listener.Return(n, 0)
	}
	if err != nil && !errors.Is(err, seccomp.ErrGone) {
		h.journal.report("answer", fmt.Errorf("answer a call: %w", err))
	}
}
