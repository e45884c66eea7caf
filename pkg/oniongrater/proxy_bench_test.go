// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bufio"
	"encoding/hex"
	"flag"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// original is a path of the program that ours takes the place of: figures of
// both come from the same run then.
var original = flag.String("original", "", "path of the original onion-grater, to be measured too")

// contestant is a program to measure.
type contestant struct {
	name  string
	words []string
}

// contestants are the programs to measure.
func contestants(b *testing.B) []contestant {
	b.Helper()
	ours := filepath.Join(b.TempDir(), "onion-grater")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", ours, "whonix-networking/cmd/onion-grater")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	out := []contestant{{"ours", []string{ours}}}
	if *original != "" {
		out = append(out, contestant{"original", []string{"/usr/bin/python3", "-IBu", *original}})
	}
	return out
}

// gateway is a rig with a real tor on the port that both programs know, and the
// default profile in use.
func gateway(b *testing.B) *rig {
	b.Helper()
	r := newRig(b)
	r.filter(mergedProfiles(b))
	r.runTorAt("9052", "DisableNetwork 1")
	return r
}

// program starts a program in the namespace, where it finds the rig's /etc, and
// waits until it takes connections at the port. It returns its pid, how long that
// took from exec on, and how to end it.
func (r *rig) program(words []string, port string) (pid int, took time.Duration, stop func()) {
	r.t.Helper()
	words = append(slices.Clone(words), "--listen-address", gatewayAddr, "--listen-port", port, "--control-cookie-path", r.root.Path(defaultCookie))
	args := append([]string{"--mount", "--propagation", "private", "/bin/sh", "-c", `mount --bind "$0" /etc && echo && read -r go && exec "$@"`, r.root.Path("/etc")}, words...)
	cmd := exec.Command("unshare", args...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		r.t.Fatal(err1, err2)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	quit, ended := make(chan struct{}), make(chan struct{})
	started := make(chan error)
	go func() { // Pdeathsig is about the thread that started it
		defer close(ended)
		_ = r.ns.Do(func() error {
			err := cmd.Start()
			started <- err
			if err == nil {
				<-quit
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
			return err
		})
	}()
	if err := <-started; err != nil {
		r.t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		r.t.Fatal(err)
	}
	err := r.ns.Do(func() error {
		begin := time.Now()
		end := begin.Add(patience)
		if _, err := io.WriteString(in, "\n"); err != nil {
			return err
		}
		for {
			c, err := net.Dial("tcp", gatewayAddr+":"+port)
			if err == nil {
				took = time.Since(begin)
				return c.Close()
			}
			if time.Now().After(end) {
				return err
			}
			time.Sleep(100 * time.Microsecond) // the original tells nobody when it is ready
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return cmd.Process.Pid, took, func() {
		close(quit)
		<-ended
	}
}

// direct is a logged-in connection to Tor itself.
func (r *rig) direct() *workstation {
	r.t.Helper()
	c := r.dialTo("127.0.0.1", "127.0.0.1:9052")
	cookie, err := r.root.ReadFile(defaultCookie, fileMax)
	if err != nil {
		r.t.Fatal(err)
	}
	c.want("AUTHENTICATE "+hex.EncodeToString(cookie), "250 OK")
	return c
}

// roundTrip is how long a command takes.
func (c *workstation) roundTrip() time.Duration {
	begin := time.Now()
	if _, err := io.WriteString(c.c, "GETINFO version\r\n"); err != nil {
		c.t.Fatal(err)
	}
	for {
		l, err := c.r.ReadSlice('\n')
		if err != nil {
			c.t.Fatal(err)
		}
		if l[3] == ' ' {
			return time.Since(begin)
		}
	}
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// BenchmarkProxyCommand: what a command costs more than at the bare control port.
// All are asked in turn, so that other work on the machine delays each alike. Of
// each the median of a block counts, and of these the least: what is measured is
// the program, not its neighbours.
func BenchmarkProxyCommand(b *testing.B) {
	const blocks, block = 10, 500
	r := gateway(b)
	names, clients := []string{"bare"}, []*workstation{r.direct()}
	for i, c := range contestants(b) {
		port := strconv.Itoa(unprivileged + 100 + i)
		_, _, stop := r.program(c.words, port)
		defer stop()
		client := r.dialTo(client11, gatewayAddr+":"+port)
		client.ask("GETINFO version")
		names, clients = append(names, c.name), append(clients, client)
	}
	least := make([]time.Duration, len(clients))
	for range max(b.N/block, blocks) {
		took := make([][]time.Duration, len(clients))
		for range block {
			for i, c := range clients {
				took[i] = append(took[i], c.roundTrip())
			}
		}
		for i := range clients {
			if m := median(took[i]); least[i] == 0 || m < least[i] {
				least[i] = m
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for i, name := range names {
		b.ReportMetric(micro(least[i]), name+"-µs")
		if i > 0 {
			b.ReportMetric(micro(least[i]-least[0]), name+"-added-µs")
		}
	}
}

// BenchmarkProxyStart: from exec to the first connection that is taken.
func BenchmarkProxyStart(b *testing.B) {
	r := gateway(b)
	for _, c := range contestants(b) {
		b.Run(c.name, func(b *testing.B) {
			var took []time.Duration
			for range min(max(b.N, 20), 100) {
				_, one, stop := r.program(c.words, "9051")
				took = append(took, one)
				stop()
			}
			b.ReportMetric(micro(median(took))/1e3, "start-ms")
			b.ReportMetric(micro(took[0])/1e3, "least-ms") // of a machine with nothing else to do
		})
	}
}

// BenchmarkProxySession: from connecting to the reply to the first command.
func BenchmarkProxySession(b *testing.B) {
	r := gateway(b)
	for _, c := range contestants(b) {
		b.Run(c.name, func(b *testing.B) {
			_, _, stop := r.program(c.words, "9051")
			defer stop()
			var took []time.Duration
			err := r.ns.Do(func() error {
				for range min(max(b.N, 50), 500) {
					begin := time.Now()
					to, err := net.Dial("tcp", gatewayAddr+":9051")
					if err != nil {
						return err
					}
					_, _ = io.WriteString(to, "AUTHENTICATE\r\n")
					if _, err := bufio.NewReader(to).ReadString('\n'); err != nil {
						return err
					}
					took = append(took, time.Since(begin))
					to.Close()
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(micro(median(took))/1e3, "setup-ms")
			b.ReportMetric(micro(took[0])/1e3, "least-ms")
		})
	}
}

// BenchmarkProxyMemory: what 100 open sessions cost.
func BenchmarkProxyMemory(b *testing.B) {
	r := gateway(b)
	for _, c := range contestants(b) {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				pid, _, stop := r.program(c.words, "9051")
				var open []*workstation
				for i := range 100 {
					w := r.dial([]string{client11, client12}[i%2])
					w.ask("AUTHENTICATE")
					w.ask("GETINFO version")
					open = append(open, w)
				}
				data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(status(b, string(data), "VmRSS")/1024, "RSS-MiB")
				b.ReportMetric(status(b, string(data), "Threads"), "threads")
				for _, w := range open {
					w.c.Close()
				}
				stop()
			}
		})
	}
}

// status is a number of /proc/PID/status.
func status(b *testing.B, text, name string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(n)
		}
	}
	b.Fatalf("no %s", name)
	return 0
}
