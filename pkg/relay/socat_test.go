// SPDX-License-Identifier: GPL-3.0-or-later

package relay

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseSocat(t *testing.T) {
	tcp := func(a string) Endpoint { return Endpoint{"tcp", a} }
	for line, want := range map[string]Socat{
		"TCP-LISTEN:9998,fork,bind=127.0.0.1 TCP:10.152.152.10:9998":                          {Listen: Endpoint{"tcp4", "127.0.0.1:9998"}, Connect: tcp("10.152.152.10:9998"), Linger: time.Minute, Fork: true},
		"-t100 UNIX-LISTEN:/run/x/127.0.0.1_1.sock,mode=777,reuseaddr,fork TCP4:h:1":          {Listen: Endpoint{"unix", "/run/x/127.0.0.1_1.sock"}, Connect: Endpoint{"tcp4", "h:1"}, Linger: 100 * time.Second, Fork: true, Mode: "777"},
		"-d -d -t 0.2 -T 5 tcp6-l:80,fork,max-children=7,backlog=9 tcp:fd19:c33d:88bc::10:90": {Listen: tcp("[::]:80"), Connect: tcp("[fd19:c33d:88bc::10]:90"), Linger: 200 * time.Millisecond, Idle: 5 * time.Second, Fork: true, Max: 7, Backlog: 9},
		"TCP-LISTEN:http,bind=[::1] TCP:[::1]:81":                                             {Listen: Endpoint{"tcp6", "[::1]:80"}, Connect: tcp("[::1]:81"), Linger: time.Minute},
		"ABSTRACT-LISTEN:n,fork UNIX-CONNECT:/p":                                              {Listen: Endpoint{"unix", "@n"}, Connect: Endpoint{"unix", "/p"}, Linger: time.Minute, Fork: true},
		"UNIX-L:/a,user=u,group=g,unlink-early UNIX:/b":                                       {Listen: Endpoint{"unix", "/a"}, Connect: Endpoint{"unix", "/b"}, Linger: time.Minute, User: "u", Group: "g", Unlink: true},
		"TCP-LISTEN:1 TCP:h:2": {Listen: Endpoint{"tcp4", "0.0.0.0:1"}, Connect: tcp("h:2"), Linger: time.Minute},
	} {
		got, err := ParseSocat(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, *got); diff != "" {
			t.Errorf("%s: %s", line, diff)
		}
	}
	for _, line := range []string{"TCP-LISTEN:1,fork,bogus TCP:h:1", "UDP-LISTEN:1 TCP:h:1", "TCP-LISTEN:1 EXEC:cat", "-u TCP-LISTEN:1 TCP:h:1", "TCP:h:1 TCP-LISTEN:1", "TCP-LISTEN:1", "TCP-LISTEN:1 TCP:h:1,bind=x", "OPENSSL-LISTEN:1 TCP:h:1"} {
		if _, err := ParseSocat(strings.Fields(line)); !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v", line, err)
		}
	}
	for _, line := range []string{"TCP-LISTEN:0,fork TCP:h:1", "TCP-LISTEN:,fork TCP:h:1", "TCP-LISTEN:99999 TCP:h:1", "TCP-LISTEN:1 TCP:h", "TCP-LISTEN:1 TCP::1", "-t x TCP-LISTEN:1 TCP:h:1", "UNIX-LISTEN:/a,mode=9 TCP:h:1", "UNIX-LISTEN: TCP:h:1", "-t", "TCP-LISTEN:1 TCP:[::1:80"} {
		if got, err := ParseSocat(strings.Fields(line)); err == nil || errors.Is(err, ErrForeign) {
			t.Errorf("%s: %+v %v", line, got, err)
		}
	}
}

func FuzzParseSocat(f *testing.F) {
	f.Add("-t100 UNIX-LISTEN:/run/x.sock,mode=777,fork TCP:h:1")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := ParseSocat(strings.Fields(line))
		if err == nil && (s.Listen.Address == "" || s.Connect.Address == "") {
			t.Errorf("%q: %+v", line, s)
		}
	})
}
