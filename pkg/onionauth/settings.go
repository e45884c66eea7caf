// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/whonix"
)

// values reads settings from the environment; the first that is wrong is kept.
// What they say ends up in Tor's configuration and in paths (defect 28).
type values struct {
	env   cli.Env
	wrong error
}

// text is a setting as it is; an empty one is the default.
func (v *values) text(name, standard string) string {
	if s, ok := v.env.Lookup(name); ok && s != "" {
		return s
	}
	return standard
}

func (v *values) refuse(name, value, why string) {
	if v.wrong == nil {
		v.wrong = fmt.Errorf("%s: %q %s", name, value, why)
	}
}

// word is a name that can be part of a path and of a line of configuration.
func (v *values) word(name, standard string) string {
	s := v.text(name, standard)
	if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(s) {
		v.refuse(name, s, "has other characters than letters, digits, _ and -")
	}
	return s
}

// file is the name of a file in a directory that is known.
func (v *values) file(name, standard, suffix string) string {
	s := v.text(name, standard)
	if !regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`).MatchString(s) || !strings.HasSuffix(s, suffix) {
		v.refuse(name, s, "is no name of a file that ends in "+suffix)
	}
	return s
}

// path is a full path, of characters that mean nothing else to Tor.
func (v *values) path(name, standard string) string {
	s := v.text(name, standard)
	if !regexp.MustCompile(`^/[A-Za-z0-9_./@+-]+$`).MatchString(s) || filepath.Clean(s) != s {
		v.refuse(name, s, "is no full path of letters, digits, and _ . @ + -")
	}
	return s
}

// within is a path in a directory that is known.
func (v *values) within(dir, name, standard string) string {
	s := v.path(name, standard)
	if filepath.Dir(s) != dir {
		v.refuse(name, s, "is not in "+dir)
	}
	return s
}

func (v *values) port(name string, standard uint16) uint16 {
	s := v.text(name, strconv.Itoa(int(standard)))
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(s, "+") {
		v.refuse(name, s, "is no port: ports are numbers from 1 to 65535")
	}
	return uint16(n)
}

func (v *values) seconds(name string, standard int) time.Duration {
	const most = 24 * 60 * 60
	s := v.text(name, strconv.Itoa(standard))
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n > most {
		v.refuse(name, s, "is no number of seconds in a day")
	}
	return time.Duration(n) * time.Second
}

// address is where an onion service leads to.
func (v *values) address(name, standard string) netip.Addr {
	s := v.text(name, standard)
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		v.refuse(name, s, "is no address of one machine")
	}
	return a
}

// account is who Tor runs as.
type account struct {
	user, group string
	uid, gid    int
}

func (v *values) account() account {
	const tor = "debian-tor"
	return account{user: v.word("tor_user", tor), group: v.word("tor_group", tor)}
}

// unit is how Tor is asked whether it runs, and to read its configuration
// again: programs and arguments, never text for a shell.
type unit struct{ running, reload []string }

func (v *values) unit() unit {
	tool, name := v.text("unittool", "systemctl"), v.text("torunit", "tor@default")
	return unit{
		running: strings.Fields(v.text("unitruntestcmd", strings.Join([]string{tool, v.text("unitruntest", "is-active"), name}, " "))),
		reload:  strings.Fields(v.text("unitcmd", strings.Join([]string{tool, v.text("unitaction", "reload"), name}, " "))),
	}
}

func (v *values) force() bool { return v.text("force", "0") == "1" }

// service is what anon-auth-autogen makes.
type service struct {
	name, client string
	virtual      uint16
	to           netip.AddrPort

	hsdir, hostname, authorized string // Tor's
	keys                        string // directory of what is made here
	keysAbove                   string // and the one that all such lie in
	private, public             string
	private32, public32         string
	forClient, forService       string // the line for each side, by path
	forServiceName              string
	confDir, conf               string
	clientsHome                 string // where the client may keep its file; said, not touched
	patience                    time.Duration
	force                       bool

	account
	unit
}

// newService reads the settings of a service. qubes is whether the address has
// no default: QubesDB says this machine's own, which is not the Workstation's
// (defect 29).
func newService(env cli.Env, qubes bool) (*service, error) {
	v := &values{env: env}
	s := &service{name: v.word("hsname", "hidden_service"), client: v.word("client", "1"), virtual: v.port("virtport", 80), force: v.force(), account: v.account(), unit: v.unit()}
	ip := whonix.WorkstationIP
	if qubes {
		ip = ""
		if v.text("ip", "") == "" {
			v.refuse("ip", "", "must be said in Qubes: the Workstation's address, or 127.0.0.1 for this machine")
		}
	}
	s.to = netip.AddrPortFrom(v.address("ip", ip), v.port("hsport", 80))
	if version := v.text("hsversion", "3"); version != "3" {
		v.refuse("hsversion", version, "is none that Tor still has: 3 is")
	}
	s.keysAbove = v.path("tor_autogen_root_folder", "/var/lib/tor_autogen")
	s.keys = v.within(s.keysAbove, "tor_autogen_hs_folder", s.keysAbove+"/"+s.name)
	s.hsdir = v.path("hsdir", "/var/lib/tor/"+s.name)
	s.hostname = v.within(s.hsdir, "onion_url_file", s.hsdir+"/hostname")
	s.authorized = v.within(s.hsdir, "authorized_clients_folder", s.hsdir+"/authorized_clients")
	s.confDir = v.path("torconfdir", "/usr/local/etc/torrc.d")
	s.conf = v.within(s.confDir, "torconffile", s.confDir+"/43_"+s.name+"_hs_autogen.conf")
	if !strings.HasSuffix(s.conf, ".conf") {
		v.refuse("torconffile", s.conf, "does not end in .conf: Tor would not read it")
	}
	mine := func(name, suffix string) string { return v.within(s.keys, name, s.keys+"/"+s.client+suffix) }
	s.private, s.public = mine("private_key_file", "_private_key.pem"), mine("public_key_file", "_public_key.pem")
	s.private32, s.public32 = mine("base_32_private", "_private_key.base32"), mine("base_32_public", "_public_key.base32")
	s.forClient = mine("auth_private_file", ".auth_private")
	s.forServiceName = v.file("client_authorization_file_name", s.client+".auth", ".auth")
	s.forService = v.within(s.keys, "client_authorization_full_path", s.keys+"/"+s.forServiceName)
	s.clientsHome = v.text("home_folder_auth_private_file", "/home/user/"+s.client+".auth_private")
	const least = 30 // what Tor needs is not known; it is polled for
	s.patience = max(v.seconds("sleep_seconds_after_reload", 5), least*time.Second)
	return s, v.wrong
}

// installation is what anon-server-to-client-install does.
type installation struct {
	source, target string
	torDir, dir    string
	confDir, conf  string
	force          bool

	account
	unit
}

func newInstallation(env cli.Env) (*installation, error) {
	v := &values{env: env}
	i := &installation{force: v.force(), account: v.account(), unit: v.unit()}
	name := v.file("auth_private_file_name", v.word("client", "1")+".auth_private", ".auth_private")
	if user := v.text("user_name", v.text("SUDO_USER", "")); user != "" || v.text("sourcefile", "") != "" {
		i.source = v.text("sourcefile", "/home/"+user+"/"+name)
	} else if v.wrong == nil {
		v.wrong = errors.New("sourcefile: is not set, and whose home it would be in is not known")
	}
	i.torDir = v.path("tor_dir", "/var/lib/tor")
	i.dir = v.path("client_onion_auth_dir", i.torDir+"/authdir")
	i.target = v.within(i.dir, "auth_private_file_full_target_path", i.dir+"/"+name)
	i.confDir = v.path("torconfdir", "/usr/local/etc/torrc.d")
	i.conf = v.within(i.confDir, "torconffile", i.confDir+"/43_clientonionauthdir.conf")
	return i, v.wrong
}
