// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// shortened makes the addresses of onionName readable.
func shortened(c conf) (pools [poolCount][]string) {
	for i, pool := range c.Pools {
		for _, s := range pool {
			url := s.URL
			for n := range 20 {
				url = strings.ReplaceAll(url, onionName(n), fmt.Sprint("<", n, ">"))
			}
			pools[i] = append(pools[i], strings.TrimSpace(fmt.Sprint(url, " ", s.Comment, " ", strings.Repeat("g", s.Group))))
		}
	}
	return pools
}

// TestAcceptance16_Pools: forms of pools, each with the stated result and one
// complaint for each place.
func TestAcceptance16_Pools(t *testing.T) {
	for _, c := range []struct {
		name, text string
		zero       []string
		one        []string
		complaints int
	}{
		{"plain", "SDWDATE_POOL_ZERO=(\n \"http://<1> # proof\"\n)\n", []string{"http://<1> proof"}, nil, 0},
		{"CRLF", "SDWDATE_POOL_ZERO=(\r\n \"http://<1> # proof\"\r\n)\r\n", []string{"http://<1> proof"}, nil, 0},
		{"on one line", "SDWDATE_POOL_ZERO=( \"http://<1>\" \"http://<2> # p\" )\n", []string{"http://<1>", "http://<2> p"}, nil, 0},
		{"closed", "SDWDATE_POOL_ZERO=()\n\"http://<1> # p\"\n", nil, nil, 1},
		{"`#` in the comment", "SDWDATE_POOL_ZERO=(\n\"http://<1> # https://x/#frag\"\n)", []string{"http://<1> https://x/#frag"}, nil, 0},
		{"no blank before `#`", "SDWDATE_POOL_ZERO=(\n\"http://<1>#p\"\n)", []string{"http://<1> p"}, nil, 0},
		{"2020, no scheme", "SDWDATE_POOL_ZERO=(\n\"<1>#p\"\n\"<2>:81#p\"\n)", []string{"http://<1> p", "http://<2>:81 p"}, nil, 0},
		{"commented out", "SDWDATE_POOL_ZERO=(\n#\"http://<1> # p\"\n## \"http://<2>\"\n)", nil, nil, 0},
		{"group", "SDWDATE_POOL_ZERO=(\n[\n\"http://<1>\"\n\"http://<2>\"\n]\n[\n]\n\"http://<3>\"\n)", []string{"http://<1>  g", "http://<2>  g", "http://<3>"}, nil, 0},
		{"nested group", "SDWDATE_POOL_ZERO=(\n[\n[\n\"http://<1>\"\n]\n\"http://<2>\"\n]\n)", []string{"http://<1>  g", "http://<2>"}, nil, 1},
		{"open group", "SDWDATE_POOL_ZERO=(\n[\n\"http://<1>\"\n)", []string{"http://<1>  g"}, nil, 1},
		{"missing quote", "SDWDATE_POOL_ZERO=(\n\"http://<1> # p\n\"http://<2> # p\"\n)", []string{"http://<2> p"}, nil, 1},
		{"quote in the URL", "SDWDATE_POOL_ZERO=(\n\"http://a\"b<1> # p\"\n\"http://<2>\"\n)", []string{"http://<2>"}, nil, 1},
		{"blank in the URL", "SDWDATE_POOL_ZERO=(\n\"http://<1> /x # p\"\n)", nil, nil, 1},
		{"user in the URL", "SDWDATE_POOL_ZERO=(\n\"http://u@<1>/\"\n)", nil, nil, 1},
		{"no `)`", "SDWDATE_POOL_ZERO=(\n\"http://<1>\"\nSDWDATE_POOL_ONE=(\n\"http://<2>\"\n)", []string{"http://<1>"}, []string{"http://<2>"}, 1},
		{"no `)` before a setting", "SDWDATE_POOL_ZERO=(\n\"http://<1>\"\nRANDOMIZE_TIME=true\n\"http://<2>\"\n", []string{"http://<1>"}, nil, 2},
		{"no `)` at the end", "SDWDATE_POOL_ZERO=(\n\"http://<1>\"\n", []string{"http://<1>"}, nil, 1},
		{"twice", "SDWDATE_POOL_ZERO=(\n\"http://<1>\"\n\"http://<1>:80/ # again\"\n)\nSDWDATE_POOL_ONE=(\n\"HTTP://<1>\"\n)", []string{"http://<1>"}, nil, 2},
		{"wrong checksum", "SDWDATE_POOL_ZERO=(\n\"http://aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad.onion\"\n)", nil, nil, 1},
		{"version 2", "SDWDATE_POOL_ZERO=(\n\"http://expyuzz4wqqyqhjn.onion\"\n)", nil, nil, 1},
		{"http in the clear", "SDWDATE_POOL_ZERO=(\n\"http://example.org\"\n\"https://example.org\"\n)", []string{"https://example.org"}, nil, 1},
		{"http in the clear, allowed below", "SDWDATE_POOL_ZERO=(\n\"http://example.org\"\n)\nALLOW_NON_ONION=true", []string{"http://example.org"}, nil, 0},
		{"addresses", "SDWDATE_POOL_ZERO=(\n\"https://127.0.0.1/\"\n\"https://[::1]/\"\n\"https://localhost/\"\n\"https://router.local/\"\n)", nil, nil, 4},
		{"names of 2020", "SDWDATE_POOL_ONE=(\n\"<1>#p\"\n)\nSDWDATE_POOL_TWO=(\n\"<2>#p\"\n)\nSDWDATE_POOL_THREE=(\n\"<3>#p\"\n)", []string{"http://<1> p"}, []string{"http://<2> p"}, 0},
		{"THREE beside ZERO", "SDWDATE_POOL_ZERO=(\n\"<1>#p\"\n)\nSDWDATE_POOL_THREE=(\n\"<3>#p\"\n)", []string{"http://<1> p"}, nil, 1},
	} {
		text := c.text
		for n := range 20 {
			text = strings.ReplaceAll(text, fmt.Sprint("<", n, ">"), onionName(n))
		}
		got, notices := parseConf([]fragment{{"/etc/sdwdate.d/x.conf", []byte(text)}})
		pools := shortened(got)
		if !reflect.DeepEqual(pools[0], c.zero) || !reflect.DeepEqual(pools[1], c.one) || len(notices) != c.complaints {
			t.Errorf("%s: %q, %q, %v", c.name, pools[0], pools[1], notices)
		}
		for _, n := range notices {
			if n.Line == 0 || !strings.HasPrefix(n.String(), fmt.Sprintf("/etc/sdwdate.d/x.conf:%d: ", n.Line)) {
				t.Errorf("%s: %v", c.name, n)
			}
		}
	}
}

// TestAcceptance16_Settings: values, and what becomes of bad ones.
func TestAcceptance16_Settings(t *testing.T) {
	base := defaultConf()
	for _, c := range []struct {
		text       string
		change     func(*conf)
		complaints int
	}{
		{"PROXY_IP=10.0.0.1\nPROXY_PORT=9108", func(c *conf) { c.ProxyIP, c.ProxyPort = mustIP("10.0.0.1"), 9108 }, 0},
		{"PROXY_IP=\"10.0.0.1\" # here\nPROXY_PORT='9108'", func(c *conf) { c.ProxyIP, c.ProxyPort = mustIP("10.0.0.1"), 9108 }, 0},
		{"PROXY_IP=[fd00::1]", func(c *conf) { c.ProxyIP = mustIP("fd00::1") }, 0},
		{"PROXY_IP=fd00::1 # here", func(c *conf) { c.ProxyIP = mustIP("fd00::1") }, 0},
		{"PROXY_IP=[10.0.0.1]\nPROXY_IP=gateway\nPROXY_IP=fe80::1%eth0\nPROXY_IP=\nPROXY_IPV6=::1\nPROXY_IP", nil, 6},
		{"PROXY_PORT=0\nPROXY_PORT=65536\nPROXY_PORT=-1\nPROXY_PORT=", nil, 4},
		{"MAX_FAILURE_RATIO=\"0.5\"", func(c *conf) { c.MaxFailureRatio = 0.5 }, 0},
		{"MAX_FAILURE_RATIO=0.5 # half", func(c *conf) { c.MaxFailureRatio = 0.5 }, 0},
		{"MAX_FAILURE_RATIO=nan\nMAX_FAILURE_RATIO=inf\nMAX_FAILURE_RATIO=-1\nMAX_FAILURE_RATIO=11\nMAX_FAILURE_RATIO=\"0.5", nil, 5},
		{"MAX_FAILURE_RATIO=0.7\nMAX_FAILURE_RATIO=x", func(c *conf) { c.MaxFailureRatio = 0.7 }, 1},
		{"RANDOMIZE_TIME=TRUE", func(c *conf) { c.Randomize = true }, 0},
		{"RANDOMIZE_TIME=\"true\"", func(c *conf) { c.Randomize = true }, 0},
		{"RANDOMIZE_TIME=trueX\nRANDOMIZE_TIME=1", nil, 2},
		{" RANDOMIZE_TIME=true\n#RANDOMIZE_TIME=true\nexport RANDOMIZE_TIME=true", nil, 0},
		{"PREPARATION=native\nCONSENSUS_CHECK=prefer\nMAX_SLEW_PPM=500\nHTTP_METHOD=get\nANONDATE_TOR_CERT=false", func(c *conf) {
			c.Preparation, c.Consensus, c.MaxSlewPPM, c.Method, c.AnondateTorCert = "native", "prefer", 500, "GET", false
		}, 0},
		{"PREPARATION=perhaps\nCONSENSUS_CHECK=no\nMAX_SLEW_PPM=499\nMAX_SLEW_PPM=100001\nHTTP_METHOD=POST\nUNKNOWN=1", nil, 6},
		{"USER_AGENT=\"Fetch 1.0\"", func(c *conf) { c.UserAgent = "Fetch 1.0" }, 0},
		{"USER_AGENT=a\tb\nUSER_AGENT=" + strings.Repeat("x", 201), nil, 2},
	} {
		want := base
		if c.change != nil {
			c.change(&want)
		}
		got, notices := parseConf([]fragment{{"/etc/sdwdate.d/x.conf", []byte(c.text)}})
		if !reflect.DeepEqual(got, want) || len(notices) != c.complaints {
			t.Errorf("%q: %+v, %v", c.text, got, notices)
		}
	}
}

func mustIP(text string) (ip netip.Addr) {
	a, err := parseIP(text)
	if err != nil {
		panic(err)
	}
	return a
}

// TestAcceptance16_Files: files that cannot be read cost themselves only.
func TestAcceptance16_Files(t *testing.T) {
	root := fsx.Root(t.TempDir())
	write(t, root, confDir+"/30_default.conf", "SDWDATE_POOL_ZERO=(\n\""+onionName(1)+"\"\n)\nMAX_FAILURE_RATIO=0.34\n")
	write(t, root, confDir+"/40_bad.conf", "RANDOMIZE_TIME=true\xff\n")
	write(t, root, confDir+"/.45_hidden.conf", "MAX_FAILURE_RATIO=9\n")
	write(t, root, confDir+"/50_user.conf~", "MAX_FAILURE_RATIO=9\n")
	write(t, root, confDir+"/50_user.conf", "MAX_FAILURE_RATIO=0.5\nSDWDATE_POOL_ZERO=(\n\""+onionName(2)+"\"\n)\n")
	write(t, root, confDirLocal+"/60_local.conf", "MAX_FAILURE_RATIO=0.6\n")
	if err := os.Mkdir(root.Path(confDir+"/x.conf"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", root.Path(confDir+"/y.conf")); err != nil {
		t.Fatal(err)
	}
	c, notices := loadConf(root)
	if len(c.Pools[0]) != 2 || c.MaxFailureRatio != 0.6 || c.Randomize || len(notices) != 3 {
		t.Errorf("%+v, %v", c, notices)
	}
	write(t, root, confDir+"/70_reset.conf", "SDWDATE_POOLS_RESET=true\nSDWDATE_POOL_ZERO=(\n\""+onionName(3)+"\"\n)\n")
	if c, _ := loadConf(root); len(c.Pools[0]) != 2 {
		// the local folder is read later, but has no pools
		if len(c.Pools[0]) != 1 || !strings.Contains(c.Pools[0][0].URL, onionName(3)) {
			t.Errorf("after a reset: %+v", c.Pools[0])
		}
	} else {
		t.Errorf("nothing was reset: %+v", c.Pools[0])
	}
	if _, notices := loadConf(fsx.Root(t.TempDir())); len(notices) != 1 || notices[0].Text != `User configuration folder "/etc/sdwdate.d" does not exist.` {
		t.Errorf("%v", notices)
	}
}

// TestAMillionLines: ends soon, with few complaints, and keeps what else there
// is.
func TestAMillionLines(t *testing.T) {
	root := fsx.Root(t.TempDir())
	write(t, root, confDir+"/30_default.conf", "SDWDATE_POOL_ZERO=(\n\""+onionName(1)+"\"\n)\n")
	write(t, root, confDir+"/50_user.conf", "SDWDATE_POOL_ONE=(\n"+strings.Repeat("\"http://example.org\"\n", 1000000)+")\n")
	begin := time.Now()
	c, notices := loadConf(root)
	if len(c.Pools[0]) != 1 || len(notices) != 1 || !strings.Contains(notices[0].Text, "file too large") {
		t.Errorf("%v, %v", c.Pools, notices)
	}
	c, notices = parseConf([]fragment{{"/etc/sdwdate.d/50_user.conf", []byte("SDWDATE_POOL_ONE=(\n" + strings.Repeat("\"x\"\n", 250000) + ")\nRANDOMIZE_TIME=true\n")}})
	if !c.Randomize || len(notices) != noticesMax {
		t.Errorf("%d complaints", len(notices))
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestAcceptance18_Shipped: the shipped servers, without a complaint.
func TestAcceptance18_Shipped(t *testing.T) {
	data, err := os.ReadFile("../../etc/sdwdate.d/30_default.conf")
	if err != nil {
		t.Fatal(err)
	}
	c, notices := parseConf([]fragment{{"30_default.conf", data}})
	if len(notices) != 0 || c.MaxFailureRatio != 0.34 || c.Randomize || c.ProxyIP.IsValid() || c.ProxyPort != 0 {
		t.Errorf("%+v, %v", c, notices)
	}
	flat, sizes := []int{}, []int{}
	for _, pool := range c.Pools {
		flat = append(flat, len(pool))
		sizes = append(sizes, len(production(pool, cryptoDraw, func(string) bool { return false })))
	}
	if fmt.Sprint(flat, sizes) != "[16 20 23] [14 7 23]" {
		t.Errorf("%v, %v", flat, sizes)
	}
	y := newCycle(c.Pools, c.MaxFailureRatio, cryptoDraw, func(string) bool { return false }, func(level, string) {})
	if y.allowed != 4 {
		t.Errorf("%d failures allowed", y.allowed)
	}
	orders := y.begin(0)
	for i := 0; i < len(orders); i++ {
		if y.over() != (y.failed == 5) {
			t.Errorf("over after %d failures: %v", y.failed, y.over())
		}
		orders = append(orders, y.settle(settled{order: orders[i], Status: statusError}, 0)...)
	}
	if y.failure != "Maximum allowed number of failures. Giving up." {
		t.Error(y.failure)
	}
}

// TestAcceptance17_Draws: members of a group are drawn alike, once in a cycle,
// and nobody is asked twice.
func TestAcceptance17_Draws(t *testing.T) {
	var pool []source
	for i := range 6 {
		pool = append(pool, source{URL: fmt.Sprint(i), Group: 1})
	}
	counts := map[string]int{}
	const draws = 6000
	for range draws {
		list := production(pool, cryptoDraw, func(string) bool { return false })
		if len(list) != 1 {
			t.Fatalf("%v", list)
		}
		counts[list[0].URL]++
	}
	for url, n := range counts {
		if share := float64(n) / draws; share < 0.14 || share > 0.20 {
			t.Errorf("member %s: %.3f", url, share)
		}
	}
	if list := production(pool, cryptoDraw, func(url string) bool { return url != "4" }); list[0].URL != "4" {
		t.Errorf("a dead member was drawn: %v", list)
	}
	if list := production(pool, cryptoDraw, func(string) bool { return true }); len(list) != 1 {
		t.Error("a group of dead members is none")
	}
	for range 50 {
		w := newWorld(t, 4, 0)
		w.pools[0] = append(w.pools[0], w.pools[0][0]+"/other")
		w.net.servers[w.pools[0][0]+"/other"] = &server{exit: 5}
		w.configuration("MAX_FAILURE_RATIO=10\n")
		w.each(-1, func(i int, s *server) { s.exit = 5 })
		if err := w.once(); err == nil {
			t.Fatal("a success")
		}
		seen := map[string]bool{}
		for _, url := range w.net.asked {
			if seen[url] {
				t.Fatalf("%s was asked twice", url)
			}
			seen[url] = true
		}
	}
}

// TestProxyAddress: by role, and by configuration.
func TestProxyAddress(t *testing.T) {
	none := func(string) (string, bool) { return "", false }
	inQubes := func(string) (string, bool) { return "10.137.0.5", true }
	for _, c := range []struct {
		files []string
		db    qubesdb
		conf  string
		want  string
	}{
		{nil, none, "", "127.0.0.1:9050"},
		{[]string{whonixFolder + "/x"}, none, "", "127.0.0.1:9108"},
		{[]string{whonixFolder + "/x", whonix.GatewayMarker}, none, "", "127.0.0.1:9108"},
		{[]string{whonixFolder + "/x", whonix.WorkstationMarker}, none, "", "10.152.152.10:9108"},
		{[]string{whonixFolder + "/x", whonix.WorkstationMarker, qubesdbRead}, inQubes, "", "10.137.0.5:9108"},
		{[]string{whonixFolder + "/x", whonix.WorkstationMarker, qubesdbRead}, none, "", "127.0.0.1:9108"},
		{[]string{whonixFolder + "/x", whonix.GatewayMarker, qubesdbRead}, inQubes, "", "127.0.0.1:9108"},
		{[]string{whonixFolder + "/x", whonix.WorkstationMarker}, none, "PROXY_IP=127.0.0.1\nPROXY_PORT=9050", "127.0.0.1:9050"},
		{nil, none, "PROXY_IP=[fd19:c33d:88bc::10]", "[fd19:c33d:88bc::10]:9050"},
	} {
		root := fsx.Root(t.TempDir())
		for _, f := range c.files {
			write(t, root, f, "")
		}
		parsed, _ := parseConf([]fragment{{"x", []byte(c.conf)}})
		if got := proxyAddress(root, parsed, c.db).String(); got != c.want {
			t.Errorf("%v %q: %s, want %s", c.files, c.conf, got, c.want)
		}
	}
	root := fsx.Root(t.TempDir())
	if !hasNetVM(root, none) {
		t.Error("outside Qubes there is a network")
	}
	write(t, root, qubesdbRead, "")
	write(t, root, whonix.QubesMarker, "")
	if hasNetVM(root, none) || !hasNetVM(root, inQubes) {
		t.Error("in Qubes the database decides")
	}
}

func FuzzConf(f *testing.F) {
	shipped, err := os.ReadFile("../../etc/sdwdate.d/30_default.conf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shipped[:4000])
	for _, text := range []string{"SDWDATE_POOL_ZERO=(\n[\n\"a # b\"\n]\n)", "SDWDATE_POOL_THREE=(\"", "SDWDATE_POOLS_RESET=true\nPROXY_IP=[::1]", "MAX_FAILURE_RATIO=\"", "SDWDATE_POOL_ONE=( \"" + onionName(1) + ":1#\" ]"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, notices := parseConf([]fragment{{"a.conf", data}, {"b.conf", data}})
		if !(c.MaxFailureRatio >= 0 && c.MaxFailureRatio <= 10) || c.MaxSlewPPM < 500 || c.MaxSlewPPM > 100000 {
			t.Errorf("%+v", c)
		}
		seen := map[string]bool{}
		for _, pool := range c.Pools {
			for _, s := range pool {
				target, err := parseURL(s.URL)
				if err != nil || strings.ContainsAny(s.URL, " \"\n") || seen[target.same()] {
					t.Errorf("%q: %v", s.URL, err)
				}
				if !target.onion() && !target.TLS && !c.AllowNonOnion {
					t.Errorf("%q was let in", s.URL)
				}
				seen[target.same()] = true
			}
		}
		if len(notices) > 4*noticesMax {
			t.Errorf("%d complaints", len(notices))
		}
		if !filepath.IsAbs(target0(c)) {
			t.Error("a path that is none")
		}
	})
}

// target0 is the first server's path.
func target0(c conf) string {
	for _, pool := range c.Pools {
		for _, s := range pool {
			if t, err := parseURL(s.URL); err == nil {
				return t.Path
			}
		}
	}
	return "/"
}
