// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkStart is how long it takes until the program runs, beyond running
// it. The figure to keep is 50 ms.
func BenchmarkStart(b *testing.B) {
	w := newWorld(b)
	var isolated, plain []time.Duration
	for range b.N {
		for _, c := range []struct {
			cmd  *exec.Cmd
			took *[]time.Duration
		}{{w.command(65534, "/bin/true"), &isolated}, {exec.Command("/bin/true"), &plain}} {
			begin := time.Now()
			if out, err := w.run(c.cmd); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			*c.took = append(*c.took, time.Since(begin))
		}
	}
	b.ReportMetric(float64((median(isolated) - median(plain)).Microseconds()), "added-us")
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkThroughput compares one bulk stream with one by torsocks through the
// same SocksPort. The figure to keep is half of that.
func BenchmarkThroughput(b *testing.B) {
	const amount = 256 << 20
	w := newWorld(b)
	w.bulk = amount
	script := "import socket\ns = socket.create_connection(('192.0.2.7', 81))\nn = 0\nb = bytearray(1 << 20)\nwhile True:\n k = s.recv_into(b)\n if k == 0: break\n n += k\nprint(n, end='')"
	var isolated, socks []time.Duration
	for range b.N {
		for _, c := range []struct {
			cmd  *exec.Cmd
			took *[]time.Duration
		}{{w.command(0, "python3", "-c", script), &isolated}, {exec.Command("torsocks", "-i", "python3", "-c", script), &socks}} {
			begin := time.Now()
			if out, err := w.run(c.cmd); err != nil || out != strconv.Itoa(amount+len("hello 192.0.2.7")) {
				b.Fatalf("%v: %s", err, out)
			}
			*c.took = append(*c.took, time.Since(begin))
			<-w.asked
		}
	}
	speed := func(d []time.Duration) float64 { return amount / median(d).Seconds() / 1e6 }
	b.ReportMetric(speed(isolated), "MB/s")
	b.ReportMetric(speed(socks), "torsocks-MB/s")
	b.ReportMetric(speed(isolated)/speed(socks), "ratio")
}

// pour writes as much as is asked for.
func (w *world) pour(c net.Conn) {
	_, _ = io.Copy(c, io.LimitReader(zeros{}, w.bulk))
}

// zeros is an endless stream of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
