// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/execx"
)

// verify runs anon-verify with what Tor is made to say.
func (m *machine) anonVerify(said verdict, err error, args ...string) error {
	m.stdout.Reset()
	m.stderr.Reset()
	env := m.env("anon-verify")
	env.Args = append(env.Args, args...)
	v := &verifier{root: m.root, env: env, ask: func(context.Context) (verdict, error) { return said, err }, bindable: always}
	return v.run(context.Background())
}

// newConfig is a machine with Tor's configuration.
func newConfig(t *testing.T, user string) *machine {
	m := newMachine(t)
	m.write(defaultsPath, "# Debian's\nSocksPort 9050\n")
	m.write(torrcPath, "%include /etc/torrc.d/*.conf\n")
	m.write(torrcDir+"/95_whonix.conf", "%include /usr/local/etc/torrc.d/*.conf")
	m.write(userTorrcDir+"/50_user.conf", user)
	return m
}

// TestVerifyReport: all sections, in order.
func TestVerifyReport(t *testing.T) {
	m := newConfig(t, "Foo 1\n\n# x\nSocksPort 1\n")
	m.write(torrcDir+"/other.conf/x", "")
	m.write(torrcDir+"/other.conf/.y", "")
	m.write(torrcDir+"/other.conf/z/deep", "")
	said := verdict{"a [notice] n\nb [warn] w\nc [err] Unknown option 'foo'.  Failing.\n", 1}
	if err := m.anonVerify(said, nil, "--very-verbose", "operand"); cli.Code(err) != 1 {
		t.Errorf("%v", err)
	}
	box := func(title string) string { return "\n|" + fmt.Sprintf("%*s", (67-len(title))/2, "") + title + " " }
	rest := m.stdout.String()
	for _, want := range []string{
		"anon-verify very verbose output...\n", "/===", box("Report Summary"), "Your Tor config files contain at least one error.\nTor verify exit code: 1\n",
		box("Tor Concise Report"), "Below warns and errors must be fixed before you can use Tor:\nb [warn] w\nc [err] Unknown option 'foo'.  Failing.\n/===",
		box("Tor Full Report"), "a [notice] n\nb [warn]", box("Used Tor Configuration Files"),
		"5 files are used as Tor configuration files: \n" + defaultsPath + "\n" + torrcPath + "\n" + torrcDir + "/95_whonix.conf\n" + userTorrcDir + "/50_user.conf\n" + torrcDir + "/other.conf/x\n",
		box("Extraneous Tor Configuration Files"), "1 files are do not end with file extension '.conf': \n" + torrcDir + "/other.conf/x\nThese should be probably removed.\n",
		box("Detailed Suggested Solution"), "The following files contain unknown option 'foo': \n" + userTorrcDir + "/50_user.conf:1:Foo 1\nPlease modify these files to fix the problem.\n",
		box("Verbose Tor Configuration Parsing"), "The Tor configuration files are parsed in such order: \n===> Start parsing file " + defaultsPath + "\n# Debian's\nSocksPort 9050\n===> Done parsing file " + defaultsPath + "\n",
		"===> Start parsing file " + userTorrcDir + "/50_user.conf\nFoo 1\n\n# x\nSocksPort 1\n===> Done", "===> Start parsing folder: " + torrcDir + "/other.conf\n",
		"===> Ignoring file name starting with '.': " + torrcDir + "/other.conf/.y\n", "===> Ignoring subfolder: " + torrcDir + "/other.conf/z\n", "===> Done parsing folder : " + torrcDir + "/other.conf\n",
		"===> Done parsing file " + torrcPath + "\n" + strings.Repeat("=", 69) + "\n",
	} {
		i := strings.Index(rest, want)
		if i < 0 {
			t.Fatalf("no %q in\n%s", want, rest)
		}
		rest = rest[i+len(want)-1:]
	}
	if err := m.anonVerify(verdict{"fine\n", 0}, nil, "-v", "--", "-x"); err != nil || strings.Contains(m.stdout.String(), "Concise") || strings.Contains(m.stdout.String(), "# x") || !strings.Contains(m.stdout.String(), "No error detected in your Tor configuration.\nTor verify exit code: 0\n") {
		t.Errorf("%v\n%s", err, m.stdout.String())
	}
	if err := m.anonVerify(verdict{}, nil, "-x"); cli.Code(err) != 1 || m.stderr.String() != "anon-verify unknown option: -x\n" || m.stdout.Len() > 0 {
		t.Errorf("%v %s", err, m.stderr.String())
	}
	if err := m.anonVerify(verdict{}, errors.New("no sudo")); cli.Code(err) != 2 || m.stdout.Len() > 0 {
		t.Errorf("%v %s", err, m.stdout.String())
	}
	if err := m.anonVerify(verdict{"[warn] Unknown option 'F.*'", 1}, nil); cli.Code(err) != 1 || strings.Contains(m.stdout.String(), "Foo") {
		t.Errorf("an option is no pattern: %s", m.stdout.String()) // defect 16
	}
}

// TestAcceptance10_UnknownOption: Tor's own complaint, and where it comes from,
// down to the last line that has no end. Nothing is read from the terminal.
func TestAcceptance10_UnknownOption(t *testing.T) {
	m := newTorMachine(t, "gw-verify")
	m.ip("addr", "add", "fd19:c33d:88bc::10/96", "dev", "eth1", "nodad")
	m.generate()
	m.write(userTorrcDir+"/50_user.conf", "# mine\nSocksPortt 1")
	ask := func(ctx context.Context) (v verdict, err error) {
		err = m.ns.Do(func() error {
			out, err := m.tor(ctx, "--verify-config").CombinedOutput()
			v = verdict{string(out), execx.Status(err)}
			return nil
		})
		return v, err
	}
	run := func(args ...string) error {
		m.stdout.Reset()
		env := m.env("anon-verify")
		env.Args = append(env.Args, args...)
		return (&verifier{m.root, env, ask, always}).run(context.Background())
	}
	if err := run(); cli.Code(err) != 1 || !strings.Contains(m.stdout.String(), "\n"+userTorrcDir+"/50_user.conf:2:SocksPortt 1\n") {
		t.Errorf("%v\n%s", err, m.stdout.String())
	}
	m.write(userTorrcDir+"/50_user.conf", "# mine\n")
	if err := run("-v"); err != nil || !strings.Contains(m.stdout.String(), "\n10 files are used") || !strings.Contains(m.stdout.String(), "\nTransPort 10.152.152.10:9040\n") || strings.Contains(m.stdout.String(), "Extraneous") {
		t.Errorf("%v\n%s", err, m.stdout.String())
	}
	// Tor's own account of what it read, in its order.
	got := strings.Join(walked(m.root, []string{defaultsPath, torrcPath}, brief).used, "\n")
	said, err := ask(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(said.output) {
		_, rest, read := strings.Cut(line, "[notice] Read configuration file \"")
		if !read {
			_, rest, read = strings.Cut(line, "[notice] Including configuration file \"")
		}
		if path, _, ok := strings.Cut(rest, "\""); read && ok {
			want = append(want, path)
		}
	}
	if got != strings.Join(want, "\n") {
		t.Errorf("%s\nTor says\n%s", got, strings.Join(want, "\n"))
	}
}

// TestAcceptance11_Comment: a commented-out include is none, and files that
// include themselves come to an end (defect 17).
func TestAcceptance11_Comment(t *testing.T) {
	m := newConfig(t, "#%include /etc/passwd\n")
	if err := m.anonVerify(verdict{}, nil, "-vv"); err != nil || !strings.Contains(m.stdout.String(), "\n#%include /etc/passwd\n") || strings.Contains(m.stdout.String(), "root:x:0") {
		t.Errorf("%v\n%s", err, m.stdout.String())
	}
	m = newConfig(t, "%include /missing\n%include "+userTorrcDir+"/50_user.conf\n%include "+userTorrcDir+"/*.conf\n")
	begin := time.Now()
	if err := m.anonVerify(verdict{}, nil, "-vv"); err != nil || !strings.Contains(m.stdout.String(), "ERROR: includes are nested too deeply") {
		t.Errorf("%v", err)
	}
	if !strings.Contains(m.stdout.String(), "ERROR: invalid file system object (fso) (abs_path): '/missing'\n") {
		t.Error("a missing file is not named")
	}
	t.Logf("took %v", time.Since(begin)) // the limit: TestAcceptance11_SelfInclude
}

// TestVerifyBadFiles: NUL, lines of 1 MiB, control characters, FIFOs.
func TestVerifyBadFiles(t *testing.T) {
	m := newConfig(t, "SocksPort 1\x00\nLog \x1b[2J\xff\n"+strings.Repeat("x", 1<<20)+" 1\n")
	if err := m.anonVerify(verdict{}, nil, "-vv"); err != nil {
		t.Error(err)
	}
	if out := m.stdout.String(); strings.ContainsAny(out, "\x00\x1b") || !strings.Contains(out, "ERROR: "+userTorrcDir+"/50_user.conf:1: there is a NUL byte") {
		t.Error("what a terminal would obey is shown, or the NUL is not named")
	}
	if err := os.Remove(m.root.Path(userTorrcDir + "/50_user.conf")); err != nil {
		t.Fatal(err)
	}
	if err := mkfifo(m.root.Path(userTorrcDir + "/50_user.conf")); err != nil {
		t.Fatal(err)
	}
	if err := m.anonVerify(verdict{}, nil); err != nil || len(walked(m.root, []string{torrcPath}, brief).missing) != 1 {
		t.Error("a FIFO")
	}
}

// TestParser: the sections by themselves, for any file.
func TestParser(t *testing.T) {
	m := newConfig(t, "SocksPort 1\n")
	env := m.env("torrc-parser")
	env.Args = append(env.Args, "-v", torrcPath)
	if err := parse(m.root, env); err != nil || !strings.Contains(m.stdout.String(), "3 files are used") || !strings.Contains(m.stdout.String(), "\nSocksPort 1\n") {
		t.Errorf("%v %s", err, m.stdout.String())
	}
	env.Args = []string{"torrc-parser", "/missing"}
	if err := parse(m.root, env); cli.Code(err) != 1 {
		t.Errorf("%v", err)
	}
	env.Args = []string{"torrc-parser"}
	if err := parse(m.root, env); cli.Code(err) != 2 {
		t.Errorf("%v", err)
	}
}
