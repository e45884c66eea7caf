// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// child is what TestMain runs for a child that has become an account.
func child() int {
	env := cli.OS()
	env.Args[0] = "basesys"
	return cli.Run(context.Background(), env, func(ctx context.Context, env cli.Env) error {
		if env.Args[1] == skelIntoFlag {
			return skelInto(rootAbove(env.Args[2]), env, env.Args[2])
		}
		return homeSide(env, env.Args[1], env.Args[2])
	})
}

// call runs a program's function.
func call(t *testing.T, environ []string, args []string, run func(cli.Env) error) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	env := cli.Env{Args: args, Environ: environ, Stdout: &out, Stderr: &errs, Now: time.Now}
	code = cli.Run(context.Background(), env, func(_ context.Context, env cli.Env) error { return run(env) })
	return code, out.String(), errs.String()
}

// nobody is an account to become.
func nobody(home string) account {
	return account{name: "mallory", uid: 4321, gid: 4321, home: home}
}

func chown(t *testing.T, a account, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.Lchown(p, a.uid, a.gid); err != nil {
			t.Fatal(err)
		}
	}
}

// world makes what leads to a directory of the test passable for everybody.
func world(t *testing.T, dir string) {
	t.Helper()
	for ; strings.Count(dir, "/") > 1; dir = dir[:strings.LastIndex(dir, "/")] {
		if err := os.Chmod(dir, 0o755); err != nil && !errors.Is(err, os.ErrPermission) {
			t.Fatal(err)
		}
	}
}

// rootAbove is the root of a test, in whose /home a home is.
func rootAbove(home string) fsx.Root {
	root, _, _ := strings.Cut(home, "/home/")
	return fsx.Root(root)
}

func now() time.Time { return time.Now() }

func uid(fi os.FileInfo) int { return int(fi.Sys().(*syscall.Stat_t).Uid) }
