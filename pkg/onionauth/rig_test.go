// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torctl"
)

// patience is how long anything may take on a machine with much to do.
const patience = 2 * time.Minute

// rig is a machine with a real Tor that has no network.
type rig struct {
	*testing.T
	root           fsx.Root
	tor            *exec.Cmd // nil while it does not run
	ended          chan struct{}
	stdout, stderr bytes.Buffer
	reloads        int
	refuse         int // reload number that fails; 0 is none
}

// torrc is Tor's configuration before a program has changed it.
const testTorrc = `
DisableNetwork 1
SocksPort 0
Log notice file /var/lib/tor/log
%include /etc/torrc.d/*.conf
%include /usr/local/etc/torrc.d/*.conf
`

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "oa") // short: it is in paths of sockets
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, root: fsx.Root(dir)}
	t.Cleanup(func() {
		r.stopTor()
		os.RemoveAll(dir)
	})
	for _, f := range []string{"/etc/passwd", "/etc/group"} {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r.write(f, string(data))
	}
	r.write("/etc/tor/torrc", testTorrc)
	r.write("/etc/torrc.d/65_gateway.conf", "ClientOnionAuthDir /var/lib/tor/authdir\n")
	for _, d := range []string{"/usr/local/etc/torrc.d", "/var/lib", "/run", "/home/user"} {
		if err := r.root.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a := r.account()
	for _, d := range []string{"/var/lib/tor", "/var/lib/tor/authdir", "/run/tor"} {
		if err := r.root.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(r.root.Path(d), a.uid, a.gid); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) account() account {
	a := account{user: "debian-tor", group: "debian-tor"}
	if err := a.find(r.root); err != nil {
		r.Fatal(err)
	}
	return a
}

func (r *rig) write(path, text string) {
	r.Helper()
	if err := r.root.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.Fatal(err)
	}
	if err := r.root.WriteAtomic(path, []byte(text), 0o644); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) read(path string) string {
	r.Helper()
	data, err := r.root.ReadFile(path, 1<<20)
	if err != nil {
		r.Fatal(err)
	}
	return string(data)
}

// command is Tor on this machine: its directories over those of the host, in
// namespaces of its own.
func (r *rig) command(ctx context.Context, args ...string) *exec.Cmd {
	script := fmt.Sprintf(`set -e
mount -t tmpfs none /mnt
cp /etc/nsswitch.conf /etc/passwd /etc/group /mnt
mkdir /mnt/tor /mnt/torrc.d
mount --bind '%[1]s/etc/tor' /mnt/tor
mount --bind '%[1]s/etc/torrc.d' /mnt/torrc.d
mount --rbind /mnt /etc
for dir in /usr/local/etc /var/lib /run; do mount --bind "%[1]s$dir" "$dir"; done
exec /usr/bin/tor "$@"`, r.root)
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET}
	return cmd
}

// startTor starts Tor, and waits until it reads its configuration again when it
// is told to.
func (r *rig) startTor() {
	r.Helper()
	var out bytes.Buffer
	r.tor = r.command(context.Background(), "--defaults-torrc", torDefaults, "-f", torrcPath, "--RunAsDaemon", "0", "--__OwningControllerProcess", fmt.Sprint(os.Getpid()))
	r.tor.Stdout, r.tor.Stderr = &out, &out
	if err := r.tor.Start(); err != nil {
		r.Fatal(err)
	}
	r.ended = make(chan struct{})
	go func() { defer close(r.ended); _ = r.tor.Wait() }()
	deadline := time.Now().Add(patience)
	for !r.root.Exists("/var/lib/tor/log") || !strings.Contains(r.read("/var/lib/tor/log"), "Bootstrapped 0%") {
		select {
		case <-r.ended:
			r.Fatalf("Tor ended: %s", out.String())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			r.Fatal("Tor did not start")
		}
	}
}

func (r *rig) stopTor() {
	if r.tor != nil {
		_ = r.tor.Process.Kill()
		<-r.ended
		r.tor = nil
	}
}

// run is what runs the programs' commands.
func (r *rig) run(ctx context.Context, argv []string) (string, error) {
	switch strings.Join(argv, " ") {
	case "systemctl is-active tor@default":
		if r.tor == nil {
			return "inactive", &execx.StatusError{Path: argv[0], Status: 3}
		}
		return "active", nil
	case "systemctl reload tor@default":
		if r.reloads++; r.reloads == r.refuse {
			return "refused", &execx.StatusError{Path: argv[0], Status: 1}
		}
		return "", r.tor.Process.Signal(syscall.SIGHUP)
	}
	if argv[0] != "tor" {
		return "", fmt.Errorf("unknown command %q", argv)
	}
	out, err := r.command(ctx, argv[1:]...).CombinedOutput()
	if err != nil {
		err = &execx.StatusError{Path: argv[0], Status: 1}
	}
	return string(out), err
}

// call calls a program with settings NAME=VALUE.
func (r *rig) call(program func(*system, context.Context) error, name string, settings ...string) error {
	r.Helper()
	r.stdout.Reset()
	r.stderr.Reset()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	env := cli.Env{Args: []string{name}, Environ: settings, Stdin: strings.NewReader(""), Stdout: &r.stdout, Stderr: &r.stderr}
	return program(&system{root: r.root, env: env, run: r.run}, ctx)
}

func (r *rig) autogen(settings ...string) error {
	r.Helper()
	return r.call((*system).autogen, "anon-auth-autogen", settings...)
}

func (r *rig) install(settings ...string) error {
	r.Helper()
	return r.call((*system).install, "anon-server-to-client-install", settings...)
}

// snapshot is every file below directories, with its owner, mode and content.
func (r *rig) snapshot(dirs ...string) string {
	r.Helper()
	var out strings.Builder
	for _, d := range dirs {
		err := filepath.WalkDir(r.root.Path(d), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			fi, err := e.Info()
			if err != nil {
				return err
			}
			st := fi.Sys().(*syscall.Stat_t)
			fmt.Fprintf(&out, "%s %v %d:%d", strings.TrimPrefix(path, string(r.root)), fi.Mode(), st.Uid, st.Gid)
			if fi.Mode().IsRegular() {
				data, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				fmt.Fprintf(&out, " %q", data)
			}
			out.WriteByte('\n')
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			r.Fatal(err)
		}
	}
	return out.String()
}

// control connects to Tor's control socket, which is there after a reload.
func (r *rig) control() *torctl.Client {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	at := torctl.Address{Network: "unix", Address: r.root.Path("/run/tor/control")}
	for {
		c, err := torctl.Open(ctx, at, torctl.Credentials{Root: r.root, Cookie: "/run/tor/control.authcookie"})
		if err == nil {
			r.Cleanup(c.Close)
			return c
		}
		select {
		case <-ctx.Done():
			r.Fatalf("%v\n%s", err, r.read("/var/lib/tor/log"))
		case <-time.After(20 * time.Millisecond):
		}
	}
}
