// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

func TestRenderStatus(t *testing.T) {
	for _, c := range [][3]string{
		{"success", "Success.", `{"icon": "success", "message": "Success."}`},
		{"error", "a \"b\"\\ <b>ü</b> 😀\n\x01", `{"icon": "error", "message": "a \"b\"\\ <b>\u00fc</b> \ud83d\ude00\n\u0001"}`},
	} {
		if got := renderStatus(c[0], c[1]); got != c[2] {
			t.Errorf("%s, want %s", got, c[2])
		}
		var back struct{ Icon, Message string }
		if err := json.Unmarshal([]byte(renderStatus(c[0], c[1])), &back); err != nil || back.Icon != c[0] || back.Message != c[1] {
			t.Errorf("%q: %+v, %v", c[1], back, err)
		}
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

// TestAcceptance19_StatusWatch: whoever reads while the status changes a
// thousand times always finds a whole document, in the same inode, and is told
// of each change.
func TestAcceptance19_StatusWatch(t *testing.T) {
	dir, err := os.MkdirTemp("/dev/shm", "sdwdate") // as /run is: files on a disk take time
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	root := fsx.Root(dir)
	write(t, root, "/run/sdwdate/status", "")
	s := statusFolder{root: root, path: "/run/sdwdate"}
	path := root.Path("/run/sdwdate/status")
	if err := s.set(iconBusy, "first"); err != nil {
		t.Fatal(err)
	}
	was := inode(t, path)
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, path, unix.IN_MODIFY|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF); err != nil {
		t.Fatal(err)
	}
	var end atomic.Bool
	reads := make(chan int)
	go func() {
		n := 0
		for ; !end.Load(); n++ {
			data, err := os.ReadFile(path)
			var doc struct{ Icon, Message string }
			if err == nil {
				err = json.Unmarshal(data, &doc)
			}
			if err != nil {
				t.Errorf("after %d reads: %v: %q", n, err, data)
				break
			}
		}
		reads <- n
	}()
	told := make([]byte, 64<<10)
	const changes = 1000
	for i := range changes {
		if err := s.set(iconSuccess, fmt.Sprint(i, " ", strings.Repeat("<b>x</b>", i%97))); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Read(watch, told)
		if err != nil || n < unix.SizeofInotifyEvent {
			t.Fatalf("change %d was not told: %v", i, err)
		}
		if mask := uint32(told[4]) | uint32(told[5])<<8; mask&unix.IN_MODIFY == 0 {
			t.Fatalf("change %d: event %#x", i, mask)
		}
	}
	end.Store(true)
	t.Logf("%d reads", <-reads)
	if inode(t, path) != was {
		t.Error("the inode changed")
	}
	before, _ := os.Stat(path)
	if err := s.set(iconSuccess, fmt.Sprint(changes-1, " ", strings.Repeat("<b>x</b>", (changes-1)%97))); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(path); after.ModTime() != before.ModTime() {
		t.Error("the same content was written again")
	}
	if n, _ := unix.Read(watch, told); n > 0 {
		t.Error("no change was told as one")
	}
}

// TestStatusFollowsNoLink: a link in the folder leads nowhere.
func TestStatusFollowsNoLink(t *testing.T) {
	root := fsx.Root(t.TempDir())
	write(t, root, "/victim", "kept")
	if err := root.MkdirAll("/run/sdwdate", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fileStatus, fileFail} {
		if err := os.Symlink(root.Path("/victim"), root.Path("/run/sdwdate/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	s := statusFolder{root: root, path: "/run/sdwdate"}
	if s.set(iconBusy, "x") == nil || s.create(fileFail) == nil {
		t.Error("a link was followed")
	}
	if data, _ := os.ReadFile(root.Path("/victim")); string(data) != "kept" {
		t.Errorf("%q", data)
	}
}

func TestFolders(t *testing.T) {
	for home, want := range map[string]string{"/run/sdwdate": "/run/sdwdate /var/lib/sdwdate", "/home/user": "/home/user/sdwdate /home/user/sdwdate", "/root": "", "": "", "sdwdate": ""} {
		status, state, err := folders(home)
		if got := strings.TrimSpace(status + " " + state); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", home, got, err)
		}
	}
}

// TestSleepTimes: how long, by how many failures (5.7, D2).
func TestSleepTimes(t *testing.T) {
	for _, c := range []struct {
		failures    int
		first       bool
		least, most time.Duration
	}{
		{0, true, time.Hour, 3 * time.Hour}, {0, false, time.Hour, 3 * time.Hour},
		{1, false, 5 * time.Second, 15 * time.Second}, {3, false, 5 * time.Second, 15 * time.Second},
		{4, false, 30 * time.Second, time.Minute}, {6, false, 30 * time.Second, time.Minute},
		{7, false, 2 * time.Minute, 5 * time.Minute}, {1000, false, 2 * time.Minute, 5 * time.Minute},
		{1, true, 5 * time.Minute, 15 * time.Minute}, {2, true, 10 * time.Minute, 30 * time.Minute},
		{3, true, 20 * time.Minute, time.Hour}, {4, true, 40 * time.Minute, 2 * time.Hour}, {5, true, time.Hour, 3 * time.Hour}, {1000, true, time.Hour, 3 * time.Hour},
	} {
		low, high := c.most, c.least
		for range 500 {
			d := draw(cryptoDraw).sleep(c.failures, c.first)
			low, high = min(low, d), max(high, d)
		}
		if low < c.least || high > c.most || high-low < (c.most-c.least)/2 {
			t.Errorf("%d failures, first success %v: %v to %v, want %v to %v", c.failures, c.first, low, high, c.least, c.most)
		}
	}
	if s := draw(func(n int64) int64 { return n - 1 }).sleep(0, true); s != 10799999999998*time.Nanosecond {
		t.Errorf("at most %v", s)
	}
	for range 1000 {
		if r := draw(cryptoDraw).randomSecond(); r.Abs() > 999999998 {
			t.Errorf("%v", r)
		}
	}
}

func TestSanitise(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb\nc": "a\tb\nc", "<b>bold</b><br> x": "bold x", "a<b": "a_b", "1 < 2 > 1 & x": "1 _ 2 _ 1 _ x", "\x1b[31m\u009bü\xff": "_[31m___", "<<b>script>x": "_script_x",
		"<!-- x -->y": "y",
	} {
		got := sanitise(in)
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzSanitise(f *testing.F) {
	for _, s := range []string{"", "<", "<b", "<b>", "<<>>", "\x1b]0;x\x07", "a&b", "</"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := sanitise(text)
		if strings.Trim(got, strings.NewReplacer("<", "", ">", "", "&", "").Replace(printable)) != "" || len(got) > len(text) {
			t.Errorf("%q became %q", text, got)
		}
		if again := sanitise(got); again != got {
			t.Errorf("%q became %q, then %q", text, got, again)
		}
	})
}

func FuzzHead(f *testing.F) {
	for _, s := range []string{"HTTP/1.1 200 OK\r\nDate: " + requestTime + "\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404\nDate:x\n\n", "HTTP/1.1 200", "\r\n\r\n", "HTTP/1.1 200 OK\r\n a\r\n"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, text string, step int) {
		whole, err := readHead(strings.NewReader(text), func() time.Duration { return 0 })
		if step < 1 {
			step = 1
		}
		parts, again := readHead(&stepReader{text, step}, func() time.Duration { return 0 })
		if (err == nil) != (again == nil) || fmt.Sprint(whole) != fmt.Sprint(parts) {
			t.Errorf("%q at once: %v %v, by %d: %v %v", text, whole, err, step, parts, again)
		}
		if err != nil {
			return
		}
		if whole.Status < 200 || whole.Status > 599 || len(whole.Dates) > fieldsMax {
			t.Errorf("%q: %+v", text, whole)
		}
		if at, err := whole.unixtime(); err == nil && (at <= 0 || at > unixtimeMax) {
			t.Errorf("%q: %d", text, at)
		}
	})
}

// stepReader gives so many bytes at a time.
type stepReader struct {
	text string
	step int
}

func (r *stepReader) Read(p []byte) (int, error) {
	if r.text == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), r.step)], r.text)
	r.text = r.text[n:]
	return n, nil
}

func FuzzDate(f *testing.F) {
	for _, s := range []string{requestTime, "Thu, 31 Dec 2026 23:59:60 GMT", "Fri, 29 Feb 2028 00:00:00 GMT", "Tue, 29 Feb 2028 00:00:00 GMT", "00000000000000000000000000012"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseDate(text)
		if err != nil {
			return
		}
		back := time.Unix(at, 0).UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")
		if back != strings.Replace(text, ":60 GMT", ":59 GMT", 1) {
			t.Errorf("%q was read as %q", text, back)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"unixtime":1805698966,"rtt_ns":1,"realtime_ns":2,"raw_ns":3,"took_ns":4,"status":200}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"unixtime":1e9}x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := parseAnswer(data)
		if err == nil && (a.Unixtime <= 0 || a.Unixtime > unixtimeMax || a.RTT < 0 || len(data) > answerMax) {
			t.Errorf("%q: %+v", data, a)
		}
	})
}
