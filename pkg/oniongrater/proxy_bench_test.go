// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bufio"
	"encoding/hex"
	"errors"
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

// original is a path of the program that ours takes the place of, its merger
// beside it: figures of both come from the same run then.
var original = flag.String("original", "", "path of the original onion-grater, to be measured too")

// contestant is a program to measure.
type contestant struct {
	name  string
	words []string
}

// contestants are the programs to measure, ours first.
func contestants(b *testing.B) []contestant {
	b.Helper()
	out := []contestant{{"ours", []string{built(b, "whonix-networking/cmd/onion-grater")}}}
	if *original != "" {
		out = append(out, contestant{"original", []string{"/usr/bin/python3", "-IBu", *original}})
	}
	return out
}

// built is a Go program as it is installed.
func built(t testing.TB, what string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(what), ".go"))
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, what)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// minimal is a Go program that does nothing: no other can start in less time.
func minimal(t testing.TB) contestant {
	t.Helper()
	source := filepath.Join(t.TempDir(), "minimal.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return contestant{"minimal", []string{built(t, source)}}
}

// floor is a program in C that passes bytes and does nothing else: nothing that
// stands before the control port can add less.
func floor(b *testing.B) contestant {
	b.Helper()
	program := filepath.Join(b.TempDir(), "relay")
	if out, err := exec.Command("cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, "testdata/relay.c").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return contestant{"floor", []string{program, strconv.Itoa(defaultControl)}}
}

// held starts a program that does nothing before a line comes: what is measured
// is not how long the preparation of the shell takes.
func held(prepare string, words []string) (cmd *exec.Cmd, release func() error, ready func() error, err error) {
	args := append([]string{"--mount", "--propagation", "private", "/bin/sh", "-c", prepare + ` && echo && read -r go && exec "$@"`, "sh"}, words...)
	cmd = exec.Command("unshare", args...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	release = func() error {
		_, err := io.WriteString(in, "\n")
		return err
	}
	ready = func() error {
		_, err := out.Read(make([]byte, 1))
		return err
	}
	return cmd, release, ready, errors.Join(err1, err2)
}

// run is how long a program takes from exec to exit.
func run(t testing.TB, prepare string, words []string) time.Duration {
	t.Helper()
	cmd, release, ready, err := held(prepare, words)
	if err = errors.Join(err, cmd.Start(), ready()); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := errors.Join(release(), cmd.Wait()); err != nil {
		t.Fatal(words, err)
	}
	return time.Since(begin)
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
	cmd, release, ready, err := held("mount --bind "+r.root.Path("/etc")+" /etc", words)
	if err != nil {
		r.t.Fatal(err)
	}
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
	if err := ready(); err != nil {
		r.t.Fatal(err)
	}
	err = r.ns.Do(func() error {
		begin := time.Now()
		end := begin.Add(patience)
		if err := release(); err != nil {
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
	return r.login(r.dialTo("127.0.0.1", "127.0.0.1:9052"))
}

// login is what a connection needs at the end of which is Tor itself.
func (r *rig) login(c *workstation) *workstation {
	r.t.Helper()
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
	for i, c := range append([]contestant{floor(b)}, contestants(b)...) {
		port := strconv.Itoa(unprivileged + 100 + i)
		_, _, stop := r.program(c.words, port)
		defer stop()
		client := r.dialTo(client11, gatewayAddr+":"+port)
		if c.name == "floor" {
			r.login(client)
		}
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
	b.ReportMetric(micro(least[0]), "bare-µs")
	added := map[string]float64{}
	for i, name := range names[1:] {
		added[name] = micro(least[i+1] - least[0])
		b.ReportMetric(added[name], name+"-added-µs")
	}
	ratios(b, added)
}

// ratios reports ours in relation to each other one.
func ratios(b *testing.B, figures map[string]float64) {
	for name, figure := range figures {
		if name != "ours" {
			b.ReportMetric(figures["ours"]/figure, "ours/"+name)
		}
	}
}

// BenchmarkProxyStart: from exec to the first connection that is taken, in turn with
// a program that does nothing, from exec to exit.
func BenchmarkProxyStart(b *testing.B) {
	r := gateway(b)
	programs, empty := contestants(b), minimal(b)
	took := map[string][]time.Duration{}
	for range min(max(b.N, 20), 100) {
		took[empty.name] = append(took[empty.name], run(b, "true", empty.words))
		for _, c := range programs {
			_, one, stop := r.program(c.words, "9051")
			took[c.name] = append(took[c.name], one)
			stop()
		}
	}
	reportMillis(b, took)
}

// reportMillis reports medians, the least ones, and ratios of the latter: the least is
// that of a machine with nothing else to do.
func reportMillis(b *testing.B, took map[string][]time.Duration) {
	b.ReportMetric(0, "ns/op")
	least := map[string]float64{}
	for name, all := range took {
		b.ReportMetric(micro(median(all))/1e3, name+"-ms")
		least[name] = micro(all[0]) / 1e3
		b.ReportMetric(least[name], name+"-least-ms")
	}
	ratios(b, least)
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
