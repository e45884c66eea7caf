// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// relays are ways to a server, by name: a function from its address to the one
// to connect to.
func relays(b *testing.B) map[string]func(to string) string {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	activated := func(program ...string) func(string) string {
		return func(to string) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			cmd := exec.Command("/bin/sh", append([]string{"-c", `export LISTEN_PID=$$; ulimit -n 10000; exec "$0" "$@"`}, append(program, "--connections-max=5000", to)...)...)
			cmd.Env = []string{"LISTEN_FDS=1", "PATH=/usr/bin:/bin"}
			cmd.ExtraFiles = []*os.File{f}
			return running(b, cmd, l.Addr().String())
		}
	}
	return map[string]func(string) string{
		"direct": func(to string) string { return to },
		"ours":   activated("/bin/bash", "-c", `exec -a whonix-socket-proxyd "$0" "$@"`, self),
		"proxyd": activated("/usr/lib/systemd/systemd-socket-proxyd"),
		"socat": func(to string) string {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			address := l.Addr().String()
			l.Close()
			_, port, _ := net.SplitHostPort(address)
			return running(b, exec.Command("socat", "TCP-LISTEN:"+port+",fork,reuseaddr,backlog=128,bind=127.0.0.1", "TCP:"+to), address)
		},
	}
}

func running(b *testing.B, cmd *exec.Cmd, address string) string {
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		}
	}
	b.Fatalf("%s does not answer", cmd.Path)
	return ""
}

// server answers one byte to the first 64, and takes whatever else comes.
func server(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for buffer := make([]byte, 1<<18); ; {
					n, err := c.Read(buffer)
					if err != nil {
						return
					}
					if n <= 64 {
						_, _ = c.Write(buffer[:n])
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// BenchmarkRelay compares with a direct connection, with systemd-socket-proxyd
// and with socat: bulk in MB/s, new connections a second, and the median of an
// exchange of 64 bytes in microseconds.
func BenchmarkRelay(b *testing.B) {
	to := server(b)
	bulk, news, latency := map[string]float64{}, map[string]float64{}, map[string]float64{}
	addresses := map[string]string{}
	for name, start := range relays(b) {
		addresses[name] = start(to)
	}
	const rounds = 5 // the best of them counts: a machine has other things to do
	for range b.N {
		for name, address := range addresses {
			bulk[name] = max(bulk[name], bulkRate(b, address))
		}
	}
	for range b.N * rounds {
		for name, address := range addresses {
			news[name] = max(news[name], connectionRate(b, address))
			if l := exchange(b, address); latency[name] == 0 || l < latency[name] {
				latency[name] = l
			}
		}
	}
	for name := range addresses {
		b.ReportMetric(bulk[name], name+"-MB/s")
		b.ReportMetric(news[name], name+"-conn/s")
		b.ReportMetric(latency[name], name+"-us")
	}
	b.ReportMetric(bulk["ours"]/bulk["proxyd"], "bulk-of-proxyd")
	b.ReportMetric(bulk["ours"]/bulk["socat"], "bulk-of-socat")
	b.ReportMetric(news["ours"]/news["proxyd"], "conn-of-proxyd")
	b.ReportMetric(latency["ours"]-latency["direct"], "added-us")
}

// BenchmarkIdle is what 10,000 idle connections cost: memory in MiB, and
// descriptors of each. Where the hard limit of descriptors is lower, so is the
// count.
func BenchmarkIdle(b *testing.B) {
	const whole, spare, each = 10000, 200, 2
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		b.Fatal(err)
	}
	count := min(whole, (int(l.Max)-spare)/each)
	address, pid := startedFor(b, server(b), fmt.Sprintf("--connections-max=%d", whole))
	p := &started{t: b, cmd: &exec.Cmd{Process: &os.Process{Pid: pid}}}
	before := p.descriptors()
	for range b.N {
		var open []net.Conn
		for range count {
			c, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			roundTrip(b, c, make([]byte, 64))
			open = append(open, c)
		}
		b.ReportMetric(float64(p.procStatus("VmRSS"))/1024, "MiB")
		b.ReportMetric(float64(p.descriptors()-before)/float64(count), "descriptors-each")
		b.ReportMetric(float64(count), "connections")
		for _, c := range open {
			c.Close()
		}
	}
}

// startedFor is the relay, before a server.
func startedFor(b *testing.B, to string, arg ...string) (address string, pid int) {
	b.Helper()
	p := &started{t: b}
	p.start(to, arg...)
	return p.tcp, p.cmd.Process.Pid
}

func bulkRate(b *testing.B, address string) float64 {
	const amount = 1 << 30
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	chunk := make([]byte, 1<<20)
	begin := time.Now()
	for sent := 0; sent < amount; sent += len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	return amount / time.Since(begin).Seconds() / 1e6
}

func connectionRate(b *testing.B, address string) float64 {
	const count = 500
	begin := time.Now()
	for range count {
		exchangeOnce(b, address)
	}
	return count / time.Since(begin).Seconds()
}

func exchangeOnce(b *testing.B, address string) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	roundTrip(b, c, make([]byte, 64))
}

func roundTrip(b *testing.B, c net.Conn, message []byte) {
	if _, err := c.Write(message); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, message); err != nil {
		b.Fatal(fmt.Errorf("%s: %w", c.RemoteAddr(), err))
	}
}

func exchange(b *testing.B, address string) float64 {
	const count = 3000
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var took []time.Duration
	for range count {
		begin := time.Now()
		roundTrip(b, c, make([]byte, 64))
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return float64(took[count/2].Nanoseconds()) / 1000
}
