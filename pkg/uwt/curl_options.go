// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"slices"
	"strings"
)

// curlShortValues are curl's short options that take a value, attached or as
// the next word.
const curlShortValues = "AbcCdDeEFhHKmoPQrtTuUwxXyYz"

// curlFlags are curl's long options without a value, up to curl 8.14. An option
// that is not among them is taken to have one: at worst a URL behind a new flag
// is not seen, and the run stays isolated.
const curlFlags = `
	--anyauth --append --basic --ca-native --cert-status --compressed --compressed-ssh --create-dirs --crlf --digest --disable
	--disable-eprt --disable-epsv --disallow-username-in-url --doh-cert-status --doh-insecure --dump-ca-embed --fail --fail-early --fail-with-body
	--false-start --form-escape --ftp-create-dirs --ftp-pasv --ftp-pret --ftp-skip-pasv-ip --ftp-ssl-ccc --ftp-ssl-control
	--get --globoff --haproxy-protocol --head --http0.9 --http1.0 --http1.1 --http2 --http2-prior-knowledge --http3
	--http3-only --ignore-content-length --include --insecure --ipv4 --ipv6 --junk-session-cookies --list-only --location
	--location-trusted --mail-rcpt-allowfails --manual --metalink --mptcp --negotiate --netrc --netrc-optional --next
	--no-alpn --no-buffer --no-clobber --no-keepalive --no-npn --no-progress-meter --no-sessionid --ntlm --ntlm-wb
	--parallel --parallel-immediate --path-as-is --post301 --post302 --post303 --progress-bar --progress-meter
	--proxy-anyauth --proxy-basic --proxy-ca-native --proxy-digest --proxy-http2 --proxy-insecure --proxy-negotiate
	--proxy-ntlm --proxy-ssl-allow-beast --proxy-ssl-auto-client-cert --proxy-tlsv1 --proxytunnel --raw --remote-header-name
	--remote-name --remote-name-all --remote-time --remove-on-error --retry-all-errors --retry-connrefused --sasl-ir
	--show-error --show-headers --silent --skip-existing --socks5-basic --socks5-gssapi --socks5-gssapi-nec --ssl --ssl-allow-beast
	--ssl-auto-client-cert --ssl-no-revoke --ssl-reqd --ssl-revoke-best-effort --sslv2 --sslv3 --styled-output
	--suppress-connect-headers --tcp-fastopen --tcp-nodelay --tftp-no-options --tls-earlydata --tlsv1 --tlsv1.0 --tlsv1.1 --tlsv1.2
	--tlsv1.3 --tr-encoding --trace-ids --trace-time --use-ascii --verbose --version --xattr `

// curlProxyOptions are long options by which a user chooses a proxy, or none.
func curlProxyOptions() []string {
	return []string{"--proxy", "--proxy1.0", "--preproxy", "--socks4", "--socks4a", "--socks5", "--socks5-hostname", "--noproxy", "--unix-socket", "--abstract-unix-socket"}
}

// scanCurl reads a command line by curl's rules.
func scanCurl(args []string) curlFindings {
	var f curlFindings
	options := true
	for i := 0; i < len(args); i++ {
		arg := args[i]
		next := ""
		if i+1 < len(args) {
			next = args[i+1]
		}
		switch {
		case options && arg == "--":
			options = false
		case options && strings.HasPrefix(arg, "--"):
			if f.long(arg, next) {
				i++
			}
		case options && strings.HasPrefix(arg, "-") && len(arg) > 1:
			if f.short(arg, next) {
				i++
			}
		default:
			f.hosts = append(f.hosts, hostOf(arg))
		}
		if f.next {
			f.operations = append(f.operations, i+1)
			f.next = false
		}
	}
	return f
}

// long notes a long option, and reports whether the next word is its value.
// curl takes an unambiguous beginning for the whole, so that one which may be
// meant counts here.
func (f *curlFindings) long(arg, next string) (value bool) {
	name, _, attached := strings.Cut(arg, "=")
	name, _ = strings.CutPrefix(name, "--expand-")
	if !strings.HasPrefix(name, "--") {
		name = "--" + name
	}
	isFlag := strings.Contains(curlFlags, " "+name+" ") || strings.Contains(curlFlags, "\t"+name+" ") ||
		strings.Contains(curlFlags, " "+name+"\n") || strings.HasPrefix(name, "--no-")
	switch {
	case strings.HasPrefix("--next", name) && len(name) >= len("--nex"):
		f.next = true
		return false
	case name == "--ipv6":
		f.ipv6 = true
	case name == "--location" || name == "--location-trusted":
		f.follows = true
	case isFlag:
	case means(name, "--config"):
		f.config = arg
	case slices.ContainsFunc(curlProxyOptions(), func(o string) bool { return means(name, o) }):
		f.proxy = arg
	case means(name, "--proxy-user"):
		f.proxyUser = arg
	case name == "--url":
		f.hosts = append(f.hosts, hostOf(next))
	}
	return !isFlag && !attached
}

// means reports whether a word is an option, or such a beginning of it as curl
// would accept.
func means(word, option string) bool {
	const shortest = len("--conf")
	return word == option || len(word) >= shortest && strings.HasPrefix(option, word)
}

// short notes the letters of a word, and reports whether the next word is the
// value of the last.
func (f *curlFindings) short(arg, next string) (value bool) {
	for i := 1; i < len(arg); i++ {
		switch arg[i] {
		case '6':
			f.ipv6 = true
		case 'L':
			f.follows = true
		case 'K':
			f.config = arg
		case 'x':
			f.proxy = arg
		case 'U':
			f.proxyUser = arg
		case ':':
			f.next = true
			return false // curl looks at no letter behind it
		}
		if strings.IndexByte(curlShortValues, arg[i]) >= 0 {
			return i == len(arg)-1
		}
	}
	return false
}
