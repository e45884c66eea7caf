// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

// newHome makes a root with an account and its home.
func newHome(t *testing.T) (fsx.Root, account) {
	t.Helper()
	dir := t.TempDir()
	world(t, dir)
	a := nobody("/home/mallory")
	root := fsx.Root(dir)
	put(t, root.Path("/etc/passwd"), "root:x:0:0::/root:/bin/sh\nmallory:x:4321:4321::/home/mallory:/bin/sh\n", 0o644)
	if err := os.MkdirAll(root.Path(a.home), 0o755); err != nil {
		t.Fatal(err)
	}
	chown(t, a, root.Path(a.home))
	return root, a
}

func (h homeFiles) make(t *testing.T, root fsx.Root, a account) {
	t.Helper()
	for name, text := range h {
		path := root.Path(a.home + "/" + name)
		put(t, path, text, 0o644)
		for ; path != root.Path(a.home); path = filepath.Dir(path) {
			chown(t, a, path)
		}
	}
}

// homeFiles are files below a home.
type homeFiles map[string]string

// forgetful is a run of virusforget below a root.
func forgetful(t *testing.T, root fsx.Root, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return call(t, nil, append([]string{"virusforget"}, args...), func(e cli.Env) error {
		return (&forget{root: root, env: e, as: asAccount}).run(context.Background())
	})
}

// TestAcceptance22_Virusforget (defects D-9, D-10).
func TestAcceptance22_Virusforget(t *testing.T) {
	t.Parallel()
	root, a := newHome(t)
	hostile := ".config/autostart/a\nb\t-\xff"
	good := homeFiles{".profile": "good\n", ".config/autostart/one.desktop": "one\n", ".config/autostart/two.desktop": "two\n", hostile: "odd\n", "unwatched": "x"}
	good.make(t, root, a)
	if code, _, stderr := forgetful(t, root, "--user", "mallory", "--commit"); code != 0 {
		t.Fatalf("%d %s", code, stderr)
	}
	if code, _, stderr := forgetful(t, root, "--user", "mallory", "--check", "--exit-code"); code != 0 || stderr != "" {
		t.Errorf("nothing changed: %d %s", code, stderr)
	}
	fi, err := os.Lstat(root.Path(storeDir + "/mallory/backup"))
	if err != nil || fi.Mode().Perm() != 0o700 || uid(fi) != 0 {
		t.Fatalf("%v %v", fi, err)
	}
	bad := homeFiles{".xprofile": "evil\n", ".profile": "evil\n"}
	bad.make(t, root, a)
	for _, gone := range []string{".config/autostart/one.desktop", hostile} {
		if err := os.Remove(root.Path(a.home + "/" + gone)); err != nil {
			t.Fatal(err)
		}
	}
	code, _, stderr := forgetful(t, root, "--user", "mallory", "--check", "--exit-code")
	if code != codeDiffers || strings.Count(stderr, "\n") != 4 || !strings.Contains(stderr, "Extraneous file! /home/mallory/.xprofile\n") ||
		!strings.Contains(stderr, "Difference detected! changed file: /home/mallory/.profile backup: ") || !strings.Contains(stderr, "Missing file detected! missing: /home/mallory/.config/autostart/one.desktop\n") {
		t.Errorf("%d\n%s", code, stderr)
	}
	if code, stdout, _ := forgetful(t, root, "--user", "mallory", "--check", "--clean", "--simulate"); code != 0 || !strings.Contains(stdout, "would restore: /home/mallory/.profile\n") {
		t.Errorf("%d %s", code, stdout)
	}
	if get(t, root.Path(a.home+"/.profile")) != "evil\n" {
		t.Error("--simulate restored it")
	}
	if code, _, stderr := forgetful(t, root, "--user", "mallory", "--check", "--clean"); code != 0 {
		t.Errorf("%d\n%s", code, stderr)
	}
	for name, text := range good {
		path := root.Path(a.home + "/" + name)
		fi, err := os.Lstat(path)
		if err != nil || get(t, path) != text || uid(fi) != a.uid || fi.Mode().Perm() != 0o644 {
			t.Errorf("%q: %v %v", name, fi, err)
		}
	}
	if _, err := os.Lstat(root.Path(a.home + "/.xprofile")); err == nil {
		t.Error(".xprofile is still there")
	}
	aside, _ := filepath.Glob(root.Path(storeDir + "/mallory/dangerous/1/*"))
	evil := false
	for _, f := range aside {
		evil = evil || get(t, f) == "evil\n"
	}
	if !evil {
		t.Errorf("nothing was set aside: %v", aside)
	}
	if code, _, stderr := forgetful(t, root, "--user", "mallory", "--check", "--exit-code"); code != 0 || stderr != "" {
		t.Errorf("after the cleaning: %d %s", code, stderr)
	}
}

// TestAcceptance22_Links: a link on the way is refused, and what it leads to is
// untouched; so are a socket's, a pipe's and a directory's place.
func TestAcceptance22_Links(t *testing.T) {
	t.Parallel()
	root, a := newHome(t)
	homeFiles{".config/autostart/a.desktop": "a\n", ".profile": "p\n"}.make(t, root, a)
	if code, _, stderr := forgetful(t, root, "--user", "mallory", "--commit"); code != 0 {
		t.Fatalf("%d %s", code, stderr)
	}
	// A directory of mallory's own in the place of a file, and a file in that of a
	// directory, are put right.
	for _, p := range []string{".profile", ".config/autostart"} {
		must(t, "rm", "-r", root.Path(a.home+"/"+p))
	}
	homeFiles{".profile/x/y": "evil", ".config/autostart": "evil"}.make(t, root, a)
	if code, _, stderr := forgetful(t, root, "--user", "mallory", "--check", "--clean"); code != 0 || get(t, root.Path(a.home+"/.profile")) != "p\n" || get(t, root.Path(a.home+"/.config/autostart/a.desktop")) != "a\n" {
		t.Errorf("%d %s", code, stderr)
	}
	put(t, root.Path("/root/x/autostart/a.desktop"), "root's\n", 0o600)
	must(t, "rm", "-r", root.Path(a.home+"/.config"))
	if err := os.Symlink(root.Path("/root/x"), root.Path(a.home+"/.config")); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Lstat(root.Path("/root/x/autostart"))
	for _, args := range [][]string{{"--check", "--clean"}, {"--commit"}, {"--check"}} {
		code, _, stderr := forgetful(t, root, append([]string{"--user", "mallory"}, args...)...)
		if code != 1 || !strings.Contains(stderr, "is a link, or no directory: refused") {
			t.Errorf("%q: %d %s", args, code, stderr)
		}
	}
	after, _ := os.Lstat(root.Path("/root/x/autostart"))
	if get(t, root.Path("/root/x/autostart/a.desktop")) != "root's\n" || uid(after) != uid(before) || after.ModTime() != before.ModTime() {
		t.Error("the link was followed")
	}
}

// TestReceiveHostile: what a home's process says is believed as far as it can be.
func TestReceiveHostile(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a way out":   `{"path":"Li4vZXRj","kind":"file","size":0}` + "\n", // ../etc
		"unwatched":   `{"path":"LnNzaC9pZA==","kind":"file","size":0}` + "\n",
		"size":        `{"path":"LnByb2ZpbGU=","kind":"file","size":-1}` + "\n",
		"too large":   `{"path":"LnByb2ZpbGU=","kind":"file","size":999999999999}` + "\n",
		"twice":       strings.Repeat(`{"path":"LnByb2ZpbGU=","kind":"link"}`+"\n", 2),
		"no end":      `{"path":"LnByb2ZpbGU=","kind":"link"}` + "\n",
		"cut content": `{"path":"LnByb2ZpbGU=","kind":"file","size":9}` + "\nabc",
		"long line":   strings.Repeat("x", lineMax+1) + "\n",
		"mode":        `{"path":"LnByb2ZpbGU=","kind":"file","mode":65535}` + "\n",
		"no JSON":     "hello\n",
	} {
		if objects, err := receive(strings.NewReader(text), t.TempDir()); err == nil {
			t.Errorf("%s: %v", name, objects)
		}
	}
	objects, err := receive(strings.NewReader(`{"path":"LnByb2ZpbGU=","kind":"file","size":1,"sha256":"../../x"}`+"\nz"+`{"kind":"end"}`+"\n"), t.TempDir())
	if err != nil || len(objects) != 1 || len(objects[0].SHA256) != 64 {
		t.Errorf("%v %v", objects, err)
	}
}

// TestAcceptance21_Skel (defect D-24).
func TestAcceptance21_Skel(t *testing.T) {
	t.Parallel()
	root, a := newHome(t)
	put(t, root.Path(skelUserFile), "mallory\n", 0o644)
	for name, text := range map[string]string{".config/app/conf": "c\n", ".bashrc": "plain\n", bashrcWhonix: "ours\n", bashrcOriginal: "debian\n", ".profile": "p\n", "Desktop/x": "x\n"} {
		put(t, root.Path(skelDir+"/"+name), text, 0o644)
	}
	for name, target := range map[string]string{"dangling": "nowhere", "led": ".profile", "Desktop/link": "x"} {
		if err := os.Symlink(target, root.Path(skelDir+"/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, root.Path("/root/x/keep"), "root's\n", 0o600)
	if err := os.Symlink(root.Path("/root/x"), root.Path(a.home+"/.config")); err != nil {
		t.Fatal(err)
	}
	homeFiles{".profile": "my own\n"}.make(t, root, a)
	run := func(args ...string) (int, string) {
		t.Helper()
		code, _, stderr := call(t, nil, append([]string{"first-boot-skel"}, args...), func(e cli.Env) error {
			return (&skel{root: root, env: e, as: asAccount}).run(context.Background())
		})
		return code, stderr
	}
	code, stderr := run()
	if code != 0 || !strings.Contains(stderr, "/dangling: ") || !strings.Contains(stderr, "/.config: is no directory") {
		t.Errorf("%d %s", code, stderr)
	}
	left, _ := os.ReadDir(root.Path("/root/x"))
	if len(left) != 1 || !root.IsFile(skelState+"/first-boot-skel.done") {
		t.Errorf("%v, or no done file", left)
	}
	for name, text := range map[string]string{".profile": "my own\n", ".bashrc": "ours\n", "led": "p\n", "Desktop/x": "x\n", "Desktop/link": "x\n"} {
		fi, err := os.Lstat(root.Path(a.home + "/" + name))
		if err != nil || get(t, root.Path(a.home+"/"+name)) != text || uid(fi) != a.uid {
			t.Errorf("%s: %v %v", name, fi, err)
		}
	}
	for _, name := range []string{bashrcWhonix, bashrcOriginal} {
		if _, err := os.Lstat(root.Path(a.home + "/" + name)); err == nil {
			t.Errorf("%s was copied", name)
		}
	}
	// Once is once, unless it is forced; Debian's .bashrc becomes ours then, an own
	// one stays.
	for text, want := range map[string]string{"debian\n": "ours\n", "mine\n": "mine\n"} {
		homeFiles{".bashrc": text}.make(t, root, a)
		if code, stderr := run(); code != 0 || stderr != "" || get(t, root.Path(a.home+"/.bashrc")) != text {
			t.Errorf("a second time: %d %s", code, stderr)
		}
		if code, _ := run("force"); code != 0 || get(t, root.Path(a.home+"/.bashrc")) != want {
			t.Errorf("%q became %q, want %q", text, get(t, root.Path(a.home+"/.bashrc")), want)
		}
	}
	// Without a home there is nothing to do yet, and it is not done.
	must(t, "rm", "-r", root.Path(a.home))
	if code, stderr := run("force"); code != 0 || stderr != "" || root.Exists(skelState+"/first-boot-skel.done") {
		t.Errorf("without a home: %d %s", code, stderr)
	}
}

// TestDistInfo (defect D-26).
func TestDistInfo(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	run := func() (int, string, string) {
		return call(t, nil, []string{"dist-info"}, func(e cli.Env) error { return distInfo(root, e) })
	}
	if code, out, _ := run(); code != 1 || out != "" {
		t.Errorf("%d %q", code, out)
	}
	put(t, root.Path("/var/lib/dist-base-files/build_version"), "later\n", 0o644)
	put(t, root.Path("/var/lib/anon-dist/build_version"), "it's $(id)\n", 0o644)
	if err := os.Chtimes(root.Path("/var/lib/anon-dist/build_version"), time.Unix(1600000000, 0), time.Unix(1600000000, 0)); err != nil {
		t.Fatal(err)
	}
	code, out, _ := run()
	script := t.TempDir() + "/s"
	put(t, script, out+`printf '%s|%s' "$BUILD_VERSION" "$BUILD_UNIXTIME"`, 0o644)
	if got := must(t, "dash", script); code != 0 || got != "it's $(id)|1600000000" {
		t.Errorf("%d %s: %q", code, out, got)
	}
}

// TestDsudo: sudo gets the option and the one who asks, and the password is the
// environment's or the default one.
func TestDsudo(t *testing.T) {
	t.Parallel()
	var got []string
	replace := func(path string, argv, environ []string) error {
		got = append(append([]string{path}, argv...), environ...)
		return os.ErrNotExist
	}
	code, _, _ := call(t, []string{"SUDO_ASKPASS=/evil", "A=b"}, []string{"dsudo", "id", "--help"}, func(e cli.Env) error { return dsudo(replace, e) })
	if want := "/usr/bin/sudo /usr/bin/sudo -A id --help A=b SUDO_ASKPASS=" + askpassDefault; code != 126 || strings.Join(got, " ") != want {
		t.Errorf("%d %q", code, got)
	}
	for password, want := range map[string]string{"": "changeme\n", "se cret": "se cret\n"} {
		_, out, _ := call(t, []string{"sudo_password=" + password}, []string{"askpass-default", "Password:"}, func(e cli.Env) error { return dsudo(replace, e) })
		if out != want {
			t.Errorf("%q", out)
		}
	}
}

// TestHexchatReset: the old configuration is aside, the first one in its place.
func TestHexchatReset(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	home := t.TempDir()
	put(t, root.Path("/etc/skel/.config/hexchat/hexchat.conf"), "new\n", 0o644)
	put(t, home+"/.config/hexchat/hexchat.conf", "old\n", 0o644)
	if err := os.Mkdir(root.Path("/proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	run := func(uid int) int {
		code, _, _ := call(t, []string{"HOME=" + home}, []string{"hexchat-reset"}, func(e cli.Env) error { return hexchatReset(context.Background(), root, uid, e) })
		return code
	}
	if code := run(0); code != codeNotRoot {
		t.Errorf("as root: %d", code)
	}
	if code := run(1000); code != 0 || get(t, home+"/.config/hexchat/hexchat.conf") != "new\n" {
		t.Errorf("%d", code)
	}
	aside, _ := filepath.Glob(home + "/hexchat_*/hexchat.conf")
	if len(aside) != 1 || get(t, aside[0]) != "old\n" {
		t.Errorf("%v", aside)
	}
}

// TestDisabledAllowed: the file of a class lets modprobe on, if it is root's.
func TestDisabledAllowed(t *testing.T) {
	t.Parallel()
	root := fsx.Root(t.TempDir())
	var got []string
	replace := func(_ string, argv, _ []string) error { got = argv; return os.ErrNotExist }
	run := func(module string) (int, string) {
		got = nil
		var errs bytes.Buffer
		env := cli.Env{Args: []string{"/usr/bin/disabled-gps-by-security-misc"}, Environ: []string{"MODPROBE_MODULE=" + module}, Stdout: &errs, Stderr: &errs, Now: time.Now}
		return cli.Code(disabled(root, replace, env)), errs.String()
	}
	if code, out := run("gnss"); code != 1 || got != nil || !strings.Contains(out, "Global Positioning System (GPS) kernel module") {
		t.Errorf("%d %q %s", code, got, out)
	}
	put(t, root.Path(enableDir+"/gps"), "", 0o666)
	if run("gnss"); got != nil {
		t.Errorf("anybody's file: %q", got)
	}
	put(t, root.Path(enableDir+"/gps"), "", 0o644)
	if run("gnss"); strings.Join(got, " ") != modprobePath+" --ignore-install gnss" {
		t.Errorf("%q", got)
	}
	if run("-r"); got != nil {
		t.Errorf("an option for a module: %q", got)
	}
}
