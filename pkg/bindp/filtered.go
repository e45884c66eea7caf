// SPDX-License-Identifier: GPL-3.0-or-later

package bindp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/seccomp"
)

// filtered becomes the program under a filter, served by a helper.
func (l *launch) filtered(ctx context.Context) error {
	// The filter is the calling thread's, which is to be the one that execs.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	helper, err := startHelper(l.settings, l.path)
	if err != nil {
		return refuse(err)
	}
	defer helper.close()
	mode, err := l.choose(helper)
	if err != nil {
		return err
	}
	if err := restrict(); err != nil {
		return refuse(err)
	}
	program, err := FilterFor(mode, l.settings.Addr6.IsValid()).Assemble()
	if err != nil {
		return refuse(err)
	}
	listener, err := seccomp.Install(program)
	switch {
	case errors.Is(err, seccomp.ErrListening):
		return l.nested(ctx)
	case errors.Is(err, seccomp.ErrUnsupported) && l.options.mode == ModeAuto:
		return l.preload(ctx, err)
	case err != nil:
		return refuse(err)
	}
	marker, err := helper.begin(mode, listener)
	if err != nil {
		return refuse(fmt.Errorf("the helper is not ready: %w", err))
	}
	return l.replace(ctx, setVariables(l.env.Environ,
		variableActive+"="+marker, variableServed+"="+l.settings.String()))
}

// choose asks the helper what it is permitted, and chooses the mode by it.
func (l *launch) choose(helper *helperClient) (Mode, error) {
	refused, err := helper.probe()
	if err != nil {
		return "", refuse(fmt.Errorf("ask the helper: %w", err))
	}
	return ladder(l.options.mode, refused)
}

// ladder is the mode that is used where the helper was refused what
// ModeAddress needs, or was not (nil).
func ladder(asked Mode, refused error) (Mode, error) {
	switch {
	case asked == ModeValue || asked == ModeAuto && refused != nil:
		return ModeValue, nil
	case refused == nil:
		return ModeAddress, nil
	}
	return "", refuse(cli.WithHint(fmt.Errorf("mode address is not permitted here: %w (ptrace_scope %s)", refused, ptraceScope()),
		"--mode=value works without that permission"))
}

// ptraceScope is Yama's setting, which decides who may read whose memory.
func ptraceScope() string {
	data, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(data))
}

// restrict gives up what the kernel wants given up for a filter: nothing, with
// CAP_SYS_ADMIN.
func restrict() error {
	own, err := threadCapabilities()
	if err != nil {
		return err
	}
	if own.effective&(1<<unix.CAP_SYS_ADMIN) != 0 {
		return nil
	}
	return seccomp.NoNewPrivileges()
}

// nested becomes the program under the filter that is there already: the
// kernel allows one listener. Whether it is a launcher's tells the marker, and
// only while the helper that it names lives.
func (l *launch) nested(ctx context.Context) error {
	marker, _ := l.env.Lookup(variableActive)
	if marker == "" || !alive(marker) {
		return l.preload(ctx, seccomp.ErrListening)
	}
	if served, _ := l.env.Lookup(variableServed); served != l.settings.String() {
		l.env.Warnf("already inside a %s; its settings stay: %s", l.env.Name(), served)
	}
	return l.replace(ctx, l.env.Environ)
}
