// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
)

// Names under which this program is another one of the four processes. Nobody
// starts a program of such a name by accident, and who does it on purpose gains
// nothing.
const (
	nameNamespace  = "uwt: namespace"
	nameSupervisor = "uwt: supervisor"
	nameLastStage  = "uwt: last stage"
)

// descriptors is the directory of a process's own.
const descriptors = "/proc/self/fd/"

// namespaces are the new ones, by the descriptors that hold them.
type namespaces struct{ user, net, mount *os.File }

// launch is one run of a program.
type launch struct {
	env      cli.Env
	settings settings
	argv0    string
	program  string // path
	args     []string
}

// become makes this process the program, isolated.
func (l launch) become(ctx context.Context) error {
	runtime.LockOSThread() // the parent of the namespace is this thread
	nsenter, err := execx.Find(fsx.Host, "nsenter")
	if err != nil {
		return &unavailable{fmt.Errorf("%w (package util-linux)", err)}
	}
	ns, handed, err := makeNamespaces(ctx)
	if err != nil {
		return &unavailable{err}
	}
	if err := l.supervise(handed); err != nil {
		return err
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return fmt.Errorf("current directory: %w", err)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	fd := func(f *os.File) string { return descriptors + strconv.Itoa(int(f.Fd())) }
	for _, f := range []*os.File{ns.user, ns.net, ns.mount, self} {
		if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFD, 0); err != nil { // nsenter is to inherit it
			return err
		}
	}
	argv := []string{"nsenter", "--preserve-credentials", "--user=" + fd(ns.user), "--net=" + fd(ns.net), "--mount=" + fd(ns.mount), "--",
		fd(self), nameLastStage, dir, l.program, l.argv0}
	for _, f := range []*os.File{ns.user, ns.net, ns.mount, self} {
		argv = append(argv[:len(argv):len(argv)], strconv.Itoa(int(f.Fd())))
	}
	return execx.Replace(nsenter, append(append(argv, "--"), l.args...), l.env.Environ)
}

// makeNamespaces has a child make the namespaces ready and hand over what the
// supervisor needs. The child ends with this function.
func makeNamespaces(ctx context.Context) (ns namespaces, handed map[string]*os.File, err error) {
	ours, theirs, err := newChannel()
	if err != nil {
		return ns, nil, err
	}
	defer ours.close()
	child := exec.CommandContext(ctx, "/proc/self/exe")
	child.Args = []string{nameNamespace}
	child.Env = execx.CleanEnv(nil)
	child.Dir = "/"
	child.ExtraFiles = []*os.File{theirs.file}
	child.SysProcAttr = namespaceAttributes()
	err = child.Start()
	theirs.close()
	if err != nil {
		return ns, nil, explain(err)
	}
	defer func() {
		ours.close() // the child waits for that
		err = errors.Join(err, child.Wait())
	}()
	if err := ours.within(answerLimit); err != nil {
		return ns, nil, err
	}
	m, files, err := ours.receive()
	switch {
	case errors.Is(err, io.EOF):
		return ns, nil, errors.New("the process that makes the namespace has ended")
	case err != nil:
		return ns, nil, err
	case m.Error != "":
		return ns, nil, errors.New(m.Error)
	}
	handed = map[string]*os.File{}
	for i, name := range m.Names {
		handed[name] = files[i]
	}
	for _, n := range []struct {
		name string
		to   **os.File
	}{{"user", &ns.user}, {"net", &ns.net}, {"mnt", &ns.mount}} {
		if *n.to, err = os.Open(fmt.Sprintf("/proc/%d/ns/%s", child.Process.Pid, n.name)); err != nil {
			return ns, nil, err
		}
	}
	return ns, handed, nil
}

// namespaceAttributes has a plain account stay itself, and root have every
// account it has here, so that what it starts can become another one. The
// ambient capabilities are those in the new namespaces, for nft(8).
func namespaceAttributes() *syscall.SysProcAttr {
	one := func(id int) []syscall.SysProcIDMap {
		return []syscall.SysProcIDMap{{ContainerID: id, HostID: id, Size: 1}}
	}
	a := &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWNS,
		UidMappings: one(os.Geteuid()), GidMappings: one(os.Getegid()),
		AmbientCaps: []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW},
		Pdeathsig:   unix.SIGKILL,
	}
	if os.Geteuid() == 0 {
		a.UidMappings, a.GidMappings = ownMap("uid_map"), ownMap("gid_map")
		const sizeMax = 16
		groups, _ := fsx.Host.ReadFile("/proc/self/setgroups", sizeMax)
		a.GidMappingsEnableSetgroups = strings.TrimSpace(string(groups)) == "allow"
	}
	return a
}

// ownMap maps every account that there is here onto itself.
func ownMap(file string) []syscall.SysProcIDMap {
	const sizeMax = 4096
	data, _ := fsx.Host.ReadFile("/proc/self/"+file, sizeMax)
	var out []syscall.SysProcIDMap
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			continue
		}
		id, err := strconv.Atoi(f[0])
		size, err2 := strconv.Atoi(f[2])
		if err == nil && err2 == nil {
			out = append(out, syscall.SysProcIDMap{ContainerID: id, HostID: id, Size: size})
		}
	}
	return out
}

// supervise starts the supervisor, and returns when it serves.
func (l launch) supervise(handed map[string]*os.File) error {
	ours, theirs, err := newChannel()
	if err != nil {
		return err
	}
	defer ours.close()
	err = execx.StartOrphan("/proc/self/exe", []string{nameSupervisor}, execx.CleanEnv(nil), int(theirs.file.Fd()))
	theirs.close()
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	handed[filePayload] = os.NewFile(uintptr(pidfd), filePayload)
	m := message{Settings: l.settings}
	var files []*os.File
	for name, f := range handed {
		m.Names, files = append(m.Names, name), append(files, f)
	}
	defer closeAll(files)
	if err := ours.send(m, files...); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if err := ours.within(answerLimit); err != nil {
		return err
	}
	answer, _, err := ours.receive()
	switch {
	case err != nil:
		return fmt.Errorf("supervisor: %w", err)
	case answer.Error != "":
		return fmt.Errorf("supervisor: %s", answer.Error)
	case !answer.Go:
		return errors.New("the supervisor does not serve")
	}
	return nil
}

// lastStage is the launcher once it is in the namespaces:
//
//	uwt: last stage DIR PROGRAM ARGV0 DESCRIPTOR... -- ARGUMENT...
func lastStage(env cli.Env) error {
	const fixed = 4
	if len(env.Args) < fixed {
		return errors.New("started by hand")
	}
	dir, program, argv0 := env.Args[1], env.Args[2], env.Args[3]
	rest := env.Args[fixed:]
	for len(rest) > 0 && rest[0] != "--" {
		if fd, err := strconv.Atoi(rest[0]); err == nil {
			_ = unix.Close(fd)
		}
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return errors.New("started by hand")
	}
	runtime.LockOSThread() // the one that is filtered, and executes
	pathList, _ := env.Lookup("PATH")
	if err := restrictSockets(program, pathList); err != nil {
		return err
	}
	kept := uint64(0)
	if os.Geteuid() == 0 {
		kept = rootKeeps
	}
	if err := dropCapabilities(kept); err != nil {
		return err
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	return replace(program, append([]string{argv0}, rest[1:]...), env.Environ)
}

// replace executes a program; one without a format is a script of the shell's.
func replace(path string, argv, environ []string) error {
	err := execx.Replace(path, argv, environ)
	if errors.Is(err, unix.ENOEXEC) && execx.IsScript(path) {
		err = execx.Replace("/bin/sh", append([]string{"/bin/sh", path}, argv[1:]...), environ)
	}
	code := execx.StatusNotExecutable
	if errors.Is(err, unix.ENOENT) {
		code = execx.StatusNotFound
	}
	return &cli.Exit{Code: code, Err: err}
}
