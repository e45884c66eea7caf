// SPDX-License-Identifier: GPL-3.0-or-later

package nft

import (
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace moves the test into a new network namespace with loopback up.
// The thread is not given back: it ends with the test's goroutine.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	command(t, "ip", "link", "set", "lo", "up")
}

func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

var (
	testFilter = Table{Family: "inet", Name: "filter"}
	testOutput = Chain{Table: testFilter, Name: "output"}
)

func dropAll() Script {
	script := Script{AddTable{testFilter}, DeleteTable{testFilter}, AddTable{testFilter}}
	for _, hook := range []string{"input", "forward", "output"} {
		script = append(script, AddChain{Chain{testFilter, hook}, &Base{Type: "filter", Hook: hook, Policy: "drop"}})
	}
	return script
}

func TestNativeLoadEqualsNft(t *testing.T) {
	inNamespace(t)
	command(t, "nft", "add table inet filter; add chain inet filter old")
	if err := LoadNetlink(dropAll()); err != nil {
		t.Fatal(err)
	}
	native := command(t, "nft", "list", "ruleset")
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(dropAll().String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	if byNft := command(t, "nft", "list", "ruleset"); native != byNft || !strings.Contains(native, "policy drop") {
		t.Errorf("native:\n%s\nnft:\n%s", native, byNft)
	}
	if policy, err := ChainPolicy(testOutput); policy != "drop" || err != nil {
		t.Errorf("policy %q, error %v", policy, err)
	}
}

func TestRefusedLoadChangesNothing(t *testing.T) {
	inNamespace(t)
	command(t, "nft", "add table inet filter; add chain inet filter old")
	err := LoadNetlink(append(dropAll(), DeleteTable{Table{Family: "inet", Name: "missing"}}))
	if err == nil {
		t.Error("no error for a table that does not exist")
	}
	if after := command(t, "nft", "list", "ruleset"); !strings.Contains(after, "chain old") {
		t.Errorf("changed:\n%s", after)
	}
}

func TestChainPolicy(t *testing.T) {
	inNamespace(t)
	if p, err := ChainPolicy(testOutput); p != "" || err != nil {
		t.Errorf("no table: %q, %v", p, err)
	}
	command(t, "nft", "add table inet filter; add chain inet filter output { type filter hook output priority 0; policy accept; }")
	if p, err := ChainPolicy(testOutput); p != "accept" || err != nil {
		t.Errorf("accepting: %q, %v", p, err)
	}
}

func TestWatchSeesFlush(t *testing.T) {
	inNamespace(t)
	if err := LoadNetlink(dropAll()); err != nil {
		t.Fatal(err)
	}
	w, err := OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	command(t, "nft", "add table inet other; delete table inet other")
	if d, err := w.Changed(testFilter); d || err != nil {
		t.Errorf("another table: %v, %v", d, err)
	}
	command(t, "nft", "flush", "ruleset")
	if d, err := w.Changed(testFilter); !d || err != nil {
		t.Errorf("flush: %v, %v", d, err)
	}
	if d, err := w.Changed(testFilter); d || err != nil {
		t.Errorf("told twice: %v, %v", d, err)
	}
}

func TestWatchTellsOverflow(t *testing.T) {
	inNamespace(t)
	w, err := OpenWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := unix.SetsockoptInt(w.FD(), unix.SOL_SOCKET, unix.SO_RCVBUF, 1); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if err := LoadNetlink(dropAll()); err != nil {
			t.Fatal(err)
		}
	}
	if d, err := w.Changed(Table{Family: "inet", Name: "unheard-of"}); !d || err != nil {
		t.Errorf("overflow: %v, %v", d, err)
	}
}

func TestFlushConntrack(t *testing.T) {
	inNamespace(t)
	if err := FlushConntrack(); err != nil {
		t.Errorf("nothing tracked: %v", err)
	}
	command(t, "nft", "add table inet filter; add chain inet filter output { type filter hook output priority 0; }; add rule inet filter output ct state established counter")
	for _, family := range []struct {
		domain int
		to     unix.Sockaddr
	}{
		{unix.AF_INET, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}},
		{unix.AF_INET6, &unix.SockaddrInet6{Port: 9, Addr: [16]byte{15: 1}}},
	} {
		fd, err := unix.Socket(family.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Sendto(fd, []byte("x"), 0, family.to); err != nil {
			t.Fatal(err)
		}
		unix.Close(fd)
	}
	if n := tracked(t); n != 2 {
		t.Fatalf("%d connections tracked, want one of each family", n)
	}
	if err := FlushConntrack(); err != nil {
		t.Error(err)
	}
	if n := tracked(t); n != 0 {
		t.Errorf("%d connections left", n)
	}
}

// tracked counts by a dump (IPCTNL_MSG_CT_GET).
func tracked(t *testing.T) int {
	t.Helper()
	fd, err := netfilterSocket(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	get := message(unix.NFNL_SUBSYS_CTNETLINK<<8|1, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1, nfgenmsg(unix.AF_UNSPEC, 0))
	if err := unix.Sendto(fd, get, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	n, buf := 0, make([]byte, 1<<16)
	for done := false; !done; {
		size, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			t.Fatal(err)
		}
		done, err = eachMessage(buf[:size], func(kind uint16, _ uint32, _ []byte) (bool, error) {
			if kind != unix.NLMSG_DONE {
				n++
			}
			return kind == unix.NLMSG_DONE, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func BenchmarkNativeLockdown(b *testing.B) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		b.Fatal(err)
	}
	for range b.N {
		if err := LoadNetlink(dropAll()); err != nil {
			b.Fatal(err)
		}
	}
}
