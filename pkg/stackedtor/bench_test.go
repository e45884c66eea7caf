// SPDX-License-Identifier: GPL-3.0-or-later

package stackedtor

import (
	"fmt"
	"io"
	"maps"
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

// server answers what is no longer than 64 bytes, and takes whatever else comes;
// it tells when all bytes of a connection have come.
func server(b *testing.B) (address string, took <-chan int) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	whole := make(chan int, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				total := 0
				for buffer := make([]byte, 1<<18); ; {
					n, err := c.Read(buffer)
					if total += n; total == bulkAmount {
						whole <- total
					}
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
	return l.Addr().String(), whole
}

// bulkAmount is how many bytes are moved at a time.
const bulkAmount = 256 << 20

// BenchmarkRelay compares with a direct connection, with systemd-socket-proxyd
// and with socat: bulk in MB/s, new connections a second, and the median of an
// exchange of 64 bytes in microseconds. All have the same client and the same
// server, and the first two the same activation. They take turns, so that what
// else the machine does meets all of them, each round in another order; of the
// rounds and of the ratios within a round the median counts.
func BenchmarkRelay(b *testing.B) {
	const rounds, ofSocat = 15, 5 // socat is slow, and less is asked of it
	to, took := server(b)
	addresses := map[string]string{}
	for name, start := range relays(b) {
		addresses[name] = start(to)
	}
	seen := map[string][]float64{}
	note := func(unit string, figure float64) { seen[unit] = append(seen[unit], figure) }
	for round := range b.N * rounds {
		bulk, news, latency := map[string]float64{}, map[string]float64{}, map[string]float64{}
		names := slices.Sorted(maps.Keys(addresses))
		for i := range names {
			name := names[(i+round)%len(names)]
			if name == "socat" && round%ofSocat > 0 {
				continue
			}
			bulk[name] = bulkRate(b, addresses[name], took)
			news[name] = connectionRate(b, addresses[name])
			latency[name] = exchange(b, addresses[name])
			note(name+"-MB/s", bulk[name])
			note(name+"-conn/s", news[name])
			note(name+"-us", latency[name])
		}
		note("bulk-of-proxyd", bulk["ours"]/bulk["proxyd"])
		if bulk["socat"] > 0 {
			note("bulk-of-socat", bulk["ours"]/bulk["socat"])
		}
		note("conn-of-proxyd", news["ours"]/news["proxyd"])
		note("added-us", latency["ours"]-latency["direct"])
		note("proxyd-added-us", latency["proxyd"]-latency["direct"])
	}
	for unit, figures := range seen {
		slices.Sort(figures)
		b.ReportMetric(figures[len(figures)/2], unit)
	}
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
	to, _ := server(b)
	address, pid := startedFor(b, to, fmt.Sprintf("--connections-max=%d", whole))
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

func bulkRate(b *testing.B, address string, took <-chan int) float64 {
	c, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	chunk := make([]byte, 1<<20)
	begin := time.Now()
	for sent := 0; sent < bulkAmount; sent += len(chunk) {
		if _, err := c.Write(chunk); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-took:
	case <-time.After(patience):
		b.Fatalf("%s: not all bytes have come", address)
	}
	return bulkAmount / time.Since(begin).Seconds() / 1e6
}

func connectionRate(b *testing.B, address string) float64 {
	const count = 300
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
	const count = 1000
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
