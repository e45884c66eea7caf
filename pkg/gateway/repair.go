// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/torrc"
	"whonix-networking/pkg/whonix"
)

// repairer puts back the files without which Tor refuses to start.
type repairer struct {
	root        fsx.Root
	env         cli.Env
	user, group string
	authDir     string
}

const repairHelp = `usage: %s
Puts back the files and directories without which Tor does not start. Existing
settings stay as they are. See repair-torrc(8).
`

// Repair is the program repair-torrc, documented as make-sure-torrc-exist.
func Repair(_ context.Context, env cli.Env) error {
	if done, err := plain(env, repairHelp); done {
		return err
	}
	failed := newRepairer(fsx.Host, env).run()
	for _, err := range failed {
		env.Errorf("%v", err)
	}
	if len(failed) > 0 {
		return &cli.Exit{Code: cli.CodeFailed}
	}
	return nil
}

// newRepairer takes the names of accounts and directories from the environment,
// as ever: an administrator's, who calls repair-torrc. A unit's counts for
// nothing, see sane.run.
func newRepairer(root fsx.Root, env cli.Env) *repairer {
	value := func(name, standard string) string {
		if v, ok := env.Lookup(name); ok && v != "" {
			return v
		}
		return standard
	}
	torDir := value("tor_dir", "/var/lib/tor")
	return &repairer{
		root: root, env: env,
		user: value("tor_user", torAccount), group: value("tor_group", torAccount),
		authDir: value("client_onion_auth_dir", torDir+"/authdir"),
	}
}

func (r *repairer) info(format string, args ...any) {
	fmt.Fprintf(r.env.Stderr, "%s: INFO: %s\n", r.env.Name(), fmt.Sprintf(format, args...))
}

// run does all steps, also when one fails: what can be put right is.
func (r *repairer) run() (failed []error) {
	const dirMode = 0o755
	step := func(err error) {
		if err != nil {
			failed = append(failed, err)
		}
	}
	for _, dir := range []string{"/etc/tor", torrcDir, userTorrcDir} {
		step(r.root.MkdirAll(dir, dirMode))
	}
	gateway := whonix.Detect(r.root).Role == whonix.Gateway
	if gateway {
		for _, t := range templates() {
			step(r.restore(t))
		}
	}
	if err := r.prepareAuthDir(); err != nil {
		step(fmt.Errorf("%s: %w", r.authDir, err))
	}
	if !gateway {
		r.env.Warnf("repairing %s is not implemented outside of Whonix-Gateway", torrcPath)
		return failed
	}
	step(r.include())
	return failed
}

// restore puts a missing file back. A link that leads nowhere is the package's:
// what it leads to is missing, not the link (defect 13).
func (r *repairer) restore(t template) error {
	if r.root.Exists(t.target) {
		return nil
	}
	text := []byte(t.text)
	if shipped, err := r.root.ReadFile(t.shipped, configMax); err == nil && wellFormed(t.shipped, shipped) {
		text = shipped
	}
	if err := replace(r.root, t.target, text); err != nil {
		return err
	}
	r.info("put back %s.", t.target)
	return nil
}

func wellFormed(path string, text []byte) bool {
	_, err := torrc.Parse(path, text)
	return err == nil
}

// prepareAuthDir makes the directory of onion services' keys. Tor's own account
// owns what it lies in and could have put a link there: none is followed.
func (r *repairer) prepareAuthDir() error {
	const ownMode, parents = 0o700, 0o755
	if !filepath.IsAbs(r.authDir) || filepath.Clean(r.authDir) != r.authDir {
		return errors.New("is no absolute path")
	}
	uid, err := r.root.Number("/etc/passwd", r.user)
	if err != nil {
		return err
	}
	gid, err := r.root.Number("/etc/group", r.group)
	if err != nil {
		return err
	}
	parent, name := path.Dir(r.authDir), path.Base(r.authDir)
	above := path.Dir(parent)
	if err := r.root.MkdirAll(above, parents); err != nil {
		return err
	}
	if err := r.root.Trusted(above); err != nil { // others could put links on the way
		return err
	}
	dir := unix.AT_FDCWD
	for _, p := range []string{r.root.Path(parent), name} {
		// Owner and mode of an existing parent are Tor's affair.
		made := unix.Mkdirat(dir, p, ownMode)
		if made != nil && !errors.Is(made, unix.EEXIST) {
			return made
		}
		next, err := unix.Openat(dir, p, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			return errors.New("is no directory, or a link to one: refused")
		}
		if err != nil {
			return err
		}
		defer unix.Close(next)
		dir = next
		if made == nil || p == name {
			if err := own(dir, uid, gid, made == nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// own gives a directory to an account, if it is not its own already.
func own(dir, uid, gid int, isNew bool) error {
	const mode = 0o700
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if int(st.Uid) != uid || int(st.Gid) != gid {
		if err := unix.Fchown(dir, uid, gid); err != nil {
			return err
		}
	}
	if isNew {
		return unix.Fchmod(dir, mode)
	}
	return nil
}

// include makes sure that Tor reads the Gateway's configuration, once.
func (r *repairer) include() error {
	data, err := r.root.ReadFile(torrcPath, configMax)
	if err != nil {
		return err
	}
	lines, err := torrc.Parse(torrcPath, data)
	if err != nil {
		return err
	}
	text := withoutTwice(string(data))
	if !includesAll(lines) {
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += "\n# Added by " + r.env.Name() + ".\n" + mainInclude + "\n"
	}
	if text == string(data) {
		return nil
	}
	if err := replace(r.root, torrcPath, []byte(text)); err != nil {
		return err
	}
	if !includesAll(lines) {
		r.info("added %q to %s.", mainInclude, torrcPath)
	}
	return nil
}

// includesAll reports an active include of the Gateway's configuration: as a
// pattern, or as the directory, which was the way of 2020 (defects 11 and 12).
func includesAll(lines []torrc.Line) bool {
	for _, l := range lines {
		if l.Key != "%include" || l.Mode != torrc.Set {
			continue
		}
		if filepath.Clean(l.Value) == torrcDir {
			return true
		}
		const one = torrcDir + "/60_network.conf"
		if ok, err := filepath.Match(l.Value, one); ok && err == nil && l.Value != one {
			return true
		}
	}
	return false
}

// withoutTwice drops the second of two includes that stood together in 2020:
// the first has it already.
func withoutTwice(text string) string {
	const dir, file = "%include " + torrcDir + "/", "%include " + torrcDir + "/95_whonix.conf"
	var out strings.Builder
	before := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if before != dir || trimmed != file {
			out.WriteString(line)
		}
		before = trimmed
	}
	return out.String()
}
