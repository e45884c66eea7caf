// SPDX-License-Identifier: GPL-3.0-or-later

package isolate

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"
)

// probe is the program that is isolated: it does what its arguments say, one
// after the other, and prints what came of it.
func probe(steps []string) int {
	for _, step := range steps {
		word, arg, _ := strings.Cut(step, " ")
		switch word {
		case "dial":
			say(dial(arg))
		case "udp":
			say(datagram(arg))
		case "raw":
			_, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
			say("ok", err)
		case "packet":
			_, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
			say("ok", err)
		case "family":
			n, _ := strconv.Atoi(arg)
			_, err := unix.Socket(n, unix.SOCK_STREAM, 0)
			say("ok", err)
		case "uring":
			_, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
			say("ok", errno)
		case "listen":
			_, err := net.Listen("tcp", ":0")
			say("ok", err)
		case "resolve":
			say(resolve("udp", strings.Fields(arg)))
		case "resolvetcp":
			say(resolve("tcp", strings.Fields(arg)))
		case "exit":
			n, _ := strconv.Atoi(arg)
			return n
		default:
			process(word, arg)
		}
	}
	return 0
}

func say(text string, err error) {
	if err != nil {
		text = err.Error()
	}
	fmt.Println(text)
}

// process are steps about the process itself.
func process(word, arg string) {
	switch word {
	case "self":
		dir, _ := os.Getwd()
		children, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
		fmt.Println(os.Args[0], os.Getpid(), os.Getppid(), dir, len(strings.Fields(string(children))))
	case "status":
		status, _ := os.ReadFile("/proc/self/status")
		_, rest, _ := strings.Cut(string(status), arg+":\t")
		line, _, _ := strings.Cut(rest, "\n")
		fmt.Println(line)
	case "child":
		out, err := again(arg).CombinedOutput()
		say(strings.TrimSpace(string(out)), err)
	case "leave":
		cmd := again("wait")
		cmd.Stdin = os.Stdin
		say("left", cmd.Start())
	case "wait":
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGTERM)
		select {}
	}
}

func again(step string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"probe", step}
	return cmd
}

func dial(to string) (string, error) {
	c, err := (&net.Dialer{Timeout: patience, Resolver: &net.Resolver{PreferGo: true}}).Dial("tcp", to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	data, err := io.ReadAll(c)
	return string(data), err
}

func datagram(to string) (string, error) {
	c, err := net.Dial("udp", to)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return "", err
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, err = c.Read(make([]byte, 1))
	return "sent", err
}

// resolve asks a server: SERVER TYPE NAME.
func resolve(network string, f []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	kinds := map[string]dnsmessage.Type{"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "TXT": dnsmessage.TypeTXT, "PTR": dnsmessage.TypePTR}
	name, err := dnsmessage.NewName(f[2] + ".")
	if err != nil {
		return "", err
	}
	query := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: name, Type: kinds[f[1]], Class: dnsmessage.ClassINET}}}
	packed, err := query.Pack()
	if err != nil {
		return "", err
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, f[0])
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	const prefix = 2 // the length, over TCP
	if network == "tcp" {
		packed = append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
	}
	if _, err := c.Write(packed); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, err := c.Read(answer)
	if err != nil {
		return "", err
	}
	answer = answer[:n]
	if network == "tcp" {
		answer = answer[prefix:]
	}
	var m dnsmessage.Message
	if err := m.Unpack(answer); err != nil {
		return "", err
	}
	code := map[dnsmessage.RCode]string{dnsmessage.RCodeSuccess: "NOERROR", dnsmessage.RCodeNameError: "NXDOMAIN", dnsmessage.RCodeNotImplemented: "NOTIMP"}[m.RCode]
	text := fmt.Sprint(code, " ", len(m.Answers))
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			text += " " + net.IP(b.A[:]).String()
		case *dnsmessage.PTRResource:
			text += " " + b.PTR.String()
		}
	}
	return text, nil
}
