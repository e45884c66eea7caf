// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/clock"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

const watcherHelp = `usage: sdwdate-start-anondate-set-file-watcher
Runs anondate-set whenever the file /run/sdwdate/request_anondate-set appears.
 -h, --help      show this text
     --version   show the version
`

const (
	anondateEvery = time.Minute     // it runs no more often
	anondateLimit = 2 * time.Minute // nor for longer
	anondateMask  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
)

// anondateWatcher waits for requests.
type anondateWatcher struct {
	env     cli.Env
	root    fsx.Root
	every   time.Duration
	limit   time.Duration
	now     func() time.Duration // CLOCK_BOOTTIME: what it starts may set the clock
	status  *folder
	inotify int
	last    time.Duration // when it ran
	ran     bool
}

// AnondateWatcher is the program sdwdate-start-anondate-set-file-watcher. It
// ends on a signal only, with 0.
func AnondateWatcher(ctx context.Context, env cli.Env) error {
	switch args := env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(env.Stdout, watcherHelp)
		return err
	case len(args) > 0:
		return cli.WithHint(cli.Usagef("unknown argument %q", args[0]), "%s --help", env.Name())
	}
	system := clock.System()
	w := &anondateWatcher{env: env, root: fsx.Host, every: anondateEvery, limit: anondateLimit, now: func() time.Duration { return system.Sample().Boot }}
	return w.run(ctx)
}

func (w *anondateWatcher) run(ctx context.Context) (err error) {
	if whonix.Detect(w.root).Role == whonix.Workstation { // its Tor is on the Gateway
		<-ctx.Done()
		return nil
	}
	if w.status, err = openStatus(w.root); err != nil {
		return err
	}
	defer w.status.close()
	w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	defer unix.Close(w.inotify)
	// Watch first, then look: nothing can be missed in between (D31).
	if _, err := unix.InotifyAddWatch(w.inotify, w.root.Path(statusDir), anondateMask); err != nil {
		return fmt.Errorf("watch %s: %w", statusDir, err)
	}
	return w.loop(ctx)
}

// loop looks for the file whenever something happens in the folder, and when a
// request that came too early is due.
func (w *anondateWatcher) loop(ctx context.Context) error {
	wake, closing, err := os.Pipe()
	if err != nil {
		return err
	}
	defer wake.Close()
	stop := context.AfterFunc(ctx, func() { closing.Close() })
	defer func() {
		if stop() {
			closing.Close()
		}
	}()
	for {
		if err := w.still(); err != nil {
			return err
		}
		timeout := -1
		if w.status.has(fileAnondateAsked) {
			if rest := w.rest(); rest > 0 {
				timeout = int(rest.Milliseconds()) + 1
			} else {
				w.serve(ctx)
				continue
			}
		}
		fds := []unix.PollFd{{Fd: int32(wake.Fd()), Events: unix.POLLIN}, {Fd: int32(w.inotify), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		var events [4096]byte
		for {
			if n, err := unix.Read(w.inotify, events[:]); n <= 0 || err != nil {
				break
			}
		}
	}
}

// still fails when the folder is no longer the one that is watched.
func (w *anondateWatcher) still() error {
	var ours, there unix.Stat_t
	if err := unix.Fstat(w.status.fd, &ours); err != nil {
		return err
	}
	if err := unix.Lstat(w.root.Path(statusDir), &there); err != nil || ours.Dev != there.Dev || ours.Ino != there.Ino {
		return fmt.Errorf("%s was replaced", statusDir)
	}
	return nil
}

// rest is how long it is too early for another run.
func (w *anondateWatcher) rest() time.Duration {
	if !w.ran {
		return 0
	}
	return w.every - (w.now() - w.last)
}

// serve takes the request away first: one that comes meanwhile is another. The
// result of anondate-set is its own to report.
func (w *anondateWatcher) serve(ctx context.Context) {
	w.last, w.ran = w.now(), true
	if err := w.status.remove(fileAnondateAsked); err != nil {
		w.env.Errorf("%v", err)
		return
	}
	path, err := execx.Find(w.root, "anondate-set")
	if err != nil {
		w.env.Errorf("%v", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	// The originals insist on these two (D10).
	environ := append(execx.CleanEnv(w.env.Environ), "LC_TIME=C", "TZ=UTC")
	_ = execx.Cmd{Path: path, Env: environ, Stdout: w.env.Stdout, Stderr: w.env.Stderr}.Run(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.env.Errorf("%s: ended after %v", path, w.limit)
	}
}
