// SPDX-License-Identifier: GPL-3.0-or-later

package firewall

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/confd"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/nft"
	"whonix-networking/pkg/sd"
)

// Directories and files that the watcher waits for.
const (
	runDir         = "/run"
	sdwdateDir     = "/run/sdwdate"
	proxyCheckDir  = "/run/updatesproxycheck"
	sdwdateAccount = "sdwdate"
	firstSuccess   = sdwdateDir + "/first_success"
	firewallUnit   = "whonix-firewall"
	codeTerminated = 128 + 15 // what a shell reports for SIGTERM
	watchMask      = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR
)

// systemctlTimeout bounds a call that does not wait for its job: the tables
// are not looked after meanwhile.
const systemctlTimeout = 10 * time.Second

// watcher reloads the firewall when time has become right or the updates proxy
// was seen, and shuts the network when somebody deletes our tables.
type watcher struct {
	*shutter
	env      cli.Env
	policy   func(nft.Chain) (string, error)
	hasTable func(nft.Table) (bool, error)
	rules    *nft.Watch
	inotify  int
	watches  map[int32]string // watch descriptor -> directory
}

const watcherUsage = `usage: firewall-restarter
Reload the firewall when sdwdate has set the clock or the updates proxy was
seen; shut the network when the firewall's tables are deleted.
 -h, --help      show this text
     --version   show the version
`

// Watch is the program firewall-restarter. It ends only on a signal, with exit
// code 143.
func Watch(ctx context.Context, env cli.Env) error {
	return (&watcher{shutter: newShutter(fsx.Host), env: env, policy: nft.ChainPolicy, hasTable: nft.HasTable}).run(ctx)
}

func (w *watcher) run(ctx context.Context) error {
	switch args := w.env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(w.env.Stdout, watcherUsage)
		return err
	case len(args) > 0:
		return cli.WithHint(cli.Usagef("unknown argument %q", args[0]), "%s --help", w.env.Name())
	}
	if err := w.open(); err != nil {
		return err
	}
	defer w.close()
	w.guard(ctx, true)
	// Watch first, then look: nothing can be missed in between (D28).
	there := w.triggered()
	told, err := w.events()
	if err != nil {
		return err
	}
	if there || told {
		w.reload(ctx)
	}
	if err := sd.Notify(w.env, sd.Ready); err != nil {
		w.env.Warnf("%v", err)
	}
	if err := w.loop(ctx); err != nil {
		return err
	}
	return &cli.Exit{Code: codeTerminated}
}

// open creates the directories and the watches.
func (w *watcher) open() (err error) {
	for _, dir := range []string{proxyCheckDir, sdwdateDir} {
		if err := w.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := w.giveAway(sdwdateDir); err != nil {
		w.env.Warnf("%v", err)
	}
	w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	w.watches = map[int32]string{}
	for _, dir := range []string{runDir, proxyCheckDir, sdwdateDir} {
		w.add(dir)
	}
	w.rules, err = nft.OpenWatch()
	return err
}

func (w *watcher) close() {
	unix.Close(w.inotify)
	w.rules.Close()
}

// giveAway makes sdwdate the owner of its directory, of nothing in it, and
// through no link (D31).
func (w *watcher) giveAway(dir string) error {
	passwd := confd.Accounts(w.root)
	uid, ok := passwd(sdwdateAccount)
	if !ok {
		return nil // the package sdwdate is not installed
	}
	gid, ok := groupID(w.root, sdwdateAccount)
	if !ok {
		return fmt.Errorf("%s: there is no group %s", dir, sdwdateAccount)
	}
	f, err := os.OpenFile(w.root.Path(dir), unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Chown(int(uid), gid)
}

func groupID(root fsx.Root, name string) (int, bool) {
	const sizeMax = 16 << 20
	data, _ := root.ReadFile("/etc/group", sizeMax)
	for line := range strings.Lines(string(data)) {
		var gid int
		f := strings.SplitN(line, ":", 4)
		if len(f) == 4 && f[0] == name {
			_, err := fmt.Sscanf(f[2], "%d", &gid)
			return gid, err == nil
		}
	}
	return 0, false
}

// add watches a directory; one that is not there is watched for in its parent.
func (w *watcher) add(dir string) {
	wd, err := unix.InotifyAddWatch(w.inotify, w.root.Path(dir), watchMask)
	if err == nil {
		w.watches[int32(wd)] = dir
	} else if !errors.Is(err, unix.ENOENT) {
		w.env.Warnf("watch %s: %v", dir, err)
	}
}

// triggered reports whether a file that calls for a reload is there.
func (w *watcher) triggered() bool {
	return w.root.IsFile(firstSuccess) || w.root.IsFile(secureProxyFile)
}

// loop waits for events until ctx ends.
func (w *watcher) loop(ctx context.Context) error {
	wake, err := wakeup(ctx)
	if err != nil {
		return err
	}
	defer wake.Close()
	timeout := -1
	if every := sd.Watchdog(w.env); every > 0 {
		timeout = int(every.Milliseconds())
	}
	for {
		fds := []unix.PollFd{
			{Fd: int32(wake.Fd()), Events: unix.POLLIN},
			{Fd: int32(w.inotify), Events: unix.POLLIN},
			{Fd: int32(w.rules.FD()), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := sd.Notify(w.env, sd.Alive); err != nil {
			w.env.Warnf("%v", err)
		}
		w.guard(ctx, false)
		reload, err := w.events()
		if err != nil {
			return err
		}
		if reload {
			w.reload(ctx)
		}
	}
}

// wakeup is a pipe that becomes readable when ctx ends.
func wakeup(ctx context.Context) (*os.File, error) {
	r, wr, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { wr.Close() })
	return r, nil
}

// events reads what inotify has to tell and reports whether it calls for a
// reload. One file calls once, however many events it caused.
func (w *watcher) events() (reload bool, err error) {
	buf := make([]byte, 1<<16)
	for {
		n, err := unix.Read(w.inotify, buf)
		if errors.Is(err, unix.EAGAIN) {
			return reload, nil
		}
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return reload, fmt.Errorf("inotify: %w", err)
		}
		for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
			e := parseInotify(b)
			reload = w.event(e) || reload
			b = b[min(len(b), unix.SizeofInotifyEvent+e.size):]
		}
	}
}

func (w *watcher) event(e inotifyEvent) (reload bool) {
	dir := w.watches[e.wd]
	switch {
	case e.mask&unix.IN_Q_OVERFLOW != 0: // D29: events were lost, so look
		w.add(proxyCheckDir)
		w.add(sdwdateDir)
		return w.triggered()
	case e.mask&(unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0:
		if e.mask&unix.IN_MOVE_SELF != 0 {
			_, _ = unix.InotifyRmWatch(w.inotify, uint32(e.wd))
		}
		delete(w.watches, e.wd)
		return false
	case dir == runDir:
		appeared := filepath.Join(runDir, e.name)
		if appeared != proxyCheckDir && appeared != sdwdateDir {
			return false
		}
		w.add(appeared)
		// What was put there before the watch was is seen only by looking.
		return appeared == sdwdateDir && w.root.IsFile(firstSuccess) ||
			appeared == proxyCheckDir && w.root.IsFile(secureProxyFile)
	}
	path := filepath.Join(dir, e.name)
	return path == firstSuccess || path == secureProxyFile
}

// reload reloads the unit, if it is active: a failed or stopped firewall is
// left to whoever looks after that.
func (w *watcher) reload(ctx context.Context) {
	if w.systemctl(ctx, "status") == nil {
		_ = w.systemctl(ctx, "reload") // its failure is the unit's to report
	}
}

func (w *watcher) systemctl(ctx context.Context, verb string) error {
	path, err := execx.Find(w.root, "systemctl")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, systemctlTimeout)
	defer cancel()
	return execx.Cmd{
		Path:   path,
		Args:   []string{"--no-pager", "--no-block", verb, firewallUnit},
		Stdout: w.env.Stdout,
		Stderr: w.env.Stderr,
	}.Run(ctx)
}

// guard shuts the network when our tables were deleted by somebody else, such
// as the stop of Debian's nftables.service (D6), and asks for a reload. force
// looks even where no deletion was told.
func (w *watcher) guard(ctx context.Context, force bool) {
	changed, err := w.rules.Changed(filterTable, natTable)
	if err != nil {
		w.env.Warnf("%v", err)
	}
	if !changed && !force || w.intact() {
		return
	}
	if force && !w.root.Exists(loadedFile) {
		return // nothing was ever loaded that could have been deleted
	}
	w.env.Errorf("the firewall's tables were deleted: the network is shut until the firewall is loaded again")
	if err := w.shut(ctx, w.env); err != nil {
		w.env.Errorf("%v", err)
	}
	_ = w.systemctl(ctx, "reload")
}

// intact reports whether the kernel has our tables, the three filter chains
// with the policy to drop. Our own loads delete and recreate them in one transaction:
// after that they are there. A stock nftables.conf has chains of these names
// too, but they accept.
func (w *watcher) intact() bool {
	for _, c := range []nft.Chain{input, forward, output} {
		if policy, err := w.policy(c); err != nil || policy != dropPolicy {
			return false
		}
	}
	ok, err := w.hasTable(natTable)
	return ok && err == nil
}
