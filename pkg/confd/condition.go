// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"mvdan.cc/sh/v3/syntax"
)

// testCommand is `test` or `[`, by the number of operands as POSIX has it.
func (m *machine) testCommand(c *syntax.CallExpr, name string) int {
	args := m.args(c)
	if name == "[" {
		if len(args) == 0 || args[len(args)-1] != "]" {
			m.giveUp(c, "a [ without ]")
		}
		args = args[:len(args)-1]
	}
	return toStatus(m.operands(c, args))
}

func (m *machine) operands(c *syntax.CallExpr, args []string) bool {
	switch len(args) {
	case 0:
		return false
	case 1:
		return args[0] != ""
	case 2:
		if args[0] == "!" {
			return args[1] == ""
		}
		return m.unary(c, args[0], args[1])
	case 3:
		if isBinary(args[1]) {
			return m.binary(c, args[0], args[1], args[2])
		}
		if args[0] == "!" {
			return !m.operands(c, args[1:])
		}
	case 4:
		if args[0] == "!" {
			return !m.operands(c, args[1:])
		}
	}
	m.giveUp(c, "a long test")
	return false
}

func (m *machine) unary(n syntax.Node, op, arg string) bool {
	path := func() string {
		if !strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, "/dev/") || strings.HasPrefix(arg, "/proc/") {
			m.giveUp(n, "a test of a relative path, or of a process's own files")
		}
		return m.o.Root.Path(arg)
	}
	mode := func(match func(os.FileMode) bool) bool {
		fi, err := os.Stat(path())
		return err == nil && match(fi.Mode())
	}
	switch op {
	case "-n":
		return arg != ""
	case "-z":
		return arg == ""
	case "-e", "-a":
		return mode(func(os.FileMode) bool { return true })
	case "-f":
		return mode(os.FileMode.IsRegular)
	case "-d":
		return mode(os.FileMode.IsDir)
	case "-s":
		fi, err := os.Stat(path())
		return err == nil && fi.Size() > 0
	case "-L", "-h":
		fi, err := os.Lstat(path())
		return err == nil && fi.Mode()&os.ModeSymlink != 0
	case "-r":
		return unix.Access(path(), unix.R_OK) == nil
	case "-x":
		return unix.Access(path(), unix.X_OK) == nil
	}
	m.giveUp(n, "the test "+op)
	return false
}

func isBinary(op string) bool {
	switch op {
	case "=", "==", "!=", "-eq", "-ne", "-lt", "-le", "-gt", "-ge":
		return true
	}
	return false
}

func (m *machine) binary(n syntax.Node, a, op, b string) bool {
	switch op {
	case "=", "==":
		return a == b
	case "!=":
		return a != b
	}
	x, y := m.integer(n, a), m.integer(n, b)
	switch op {
	case "-eq":
		return x == y
	case "-ne":
		return x != y
	case "-lt":
		return x < y
	case "-le":
		return x <= y
	case "-gt":
		return x > y
	default:
		return x >= y
	}
}

// integer reads a decimal number; signs, blanks and other bases are left to
// bash.
func (m *machine) integer(n syntax.Node, text string) int64 {
	i, err := strconv.ParseInt(text, 10, 63)
	if err != nil || strconv.FormatInt(i, 10) != text {
		m.giveUp(n, "a comparison of what is no plain number")
	}
	return i
}

// testExpr is the inside of [[ ]].
func (m *machine) testExpr(x syntax.TestExpr) bool {
	switch x := x.(type) {
	case *syntax.Word:
		return m.value(x) != ""
	case *syntax.ParenTest:
		return m.testExpr(x.X)
	case *syntax.UnaryTest:
		if x.Op == syntax.TsNot {
			return !m.testExpr(x.X)
		}
		w, ok := x.X.(*syntax.Word)
		if !ok {
			m.giveUp(x, "an odd condition")
		}
		return m.unary(x, x.Op.String(), m.value(w))
	case *syntax.BinaryTest:
		return m.binaryTest(x)
	}
	m.giveUp(x, "an odd condition")
	return false
}

func (m *machine) binaryTest(x *syntax.BinaryTest) bool {
	switch x.Op {
	case syntax.AndTest:
		return m.testExpr(x.X) && m.testExpr(x.Y)
	case syntax.OrTest:
		return m.testExpr(x.X) || m.testExpr(x.Y)
	}
	a, okA := x.X.(*syntax.Word)
	b, okB := x.Y.(*syntax.Word)
	if !okA || !okB {
		m.giveUp(x, "an odd condition")
	}
	switch x.Op {
	case syntax.TsMatchShort, syntax.TsMatch:
		return m.value(a) == m.pattern(b)
	case syntax.TsNoMatch:
		return m.value(a) != m.pattern(b)
	case syntax.TsEql, syntax.TsNeq, syntax.TsLss, syntax.TsLeq, syntax.TsGtr, syntax.TsGeq:
		return m.binary(x, m.value(a), x.Op.String(), m.value(b))
	}
	m.giveUp(x, "the condition "+x.Op.String())
	return false
}
