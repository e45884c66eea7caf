// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// ofBash reports variables that bash sets or reads itself: what they mean is
// left to it.
func ofBash(name string) bool {
	switch name {
	case "_", "HOSTNAME", "HOSTTYPE", "MACHTYPE", "OSTYPE", "PWD", "OLDPWD", "SHLVL", "UID", "EUID", "PPID", "GROUPS",
		"DIRSTACK", "OPTIND", "OPTERR", "OPTARG", "RANDOM", "SRANDOM", "EPOCHSECONDS", "EPOCHREALTIME", "SECONDS",
		"LINENO", "FUNCNAME", "PIPESTATUS", "SHELL", "TERM", "COLUMNS", "LINES", "MAPFILE", "REPLY", "COPROC", "PS0",
		"PS1", "PS2", "PS3", "CHILD_MAX", "EMACS", "INPUTRC", "IGNOREEOF", "auto_resume", "histchars", "HOME", "MAIL",
		"MAILCHECK", "MAILPATH", "READLINE_LINE", "READLINE_POINT", "READLINE_MARK", "READLINE_ARGUMENT", "FCEDIT":
		return true
	}
	return steering(name)
}

// value expands a word as the value of an assignment: no splitting.
func (m *machine) value(w *syntax.Word) string {
	var b strings.Builder
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.Lit:
			if strings.Contains(p.Value, "~") {
				m.giveUp(p, "a tilde")
			}
			b.WriteString(unescape(p.Value))
		default:
			out, _ := m.part(p, false)
			b.WriteString(out)
		}
	}
	m.grow(w, b.Len())
	return b.String()
}

// part expands a part other than a bare literal. quoted tells whether the
// result is exempt from splitting.
func (m *machine) part(p syntax.WordPart, inQuotes bool) (text string, quoted bool) {
	switch p := p.(type) {
	case *syntax.SglQuoted:
		if p.Dollar {
			return m.ansiC(p), true
		}
		return p.Value, true
	case *syntax.DblQuoted:
		if p.Dollar || inQuotes {
			m.giveUp(p, "a translated or nested string")
		}
		var b strings.Builder
		for _, q := range p.Parts {
			if lit, ok := q.(*syntax.Lit); ok {
				b.WriteString(unescapeQuoted(lit.Value))
				continue
			}
			out, _ := m.part(q, true)
			b.WriteString(out)
		}
		return b.String(), true
	case *syntax.ParamExp:
		if _, all := m.elements(p); all {
			m.giveUp(p, "all elements of an array in one word")
		}
		text := m.param(p, inQuotes)
		m.grow(p, len(text))
		return text, inQuotes
	case *syntax.CmdSubst:
		out, status := m.substitution(p)
		m.substituted = status
		m.grow(p, len(out))
		return out, inQuotes
	}
	m.giveUp(p, "an expansion")
	return "", false
}

// pattern expands a word that bash would match as a pattern, and gives up
// where it could be more than its own text.
func (m *machine) pattern(w *syntax.Word) string {
	for _, p := range w.Parts {
		switch p := p.(type) {
		case *syntax.Lit:
			if strings.ContainsAny(p.Value, `*?[]\~+@!()`) {
				m.giveUp(p, "a pattern")
			}
		case *syntax.SglQuoted, *syntax.DblQuoted:
		default:
			m.giveUp(w, "a pattern from a variable")
		}
	}
	return m.value(w)
}

// fields expands a word as an argument: unquoted results are split at blanks,
// tabs and newlines. What could be a file name pattern is left to bash.
func (m *machine) fields(w *syntax.Word) []string {
	if list, ok := m.wholeArray(w); ok {
		const header = 16 // bytes of a string besides its text
		m.grow(w, len(list)*header)
		return list
	}
	var out []string
	var cur strings.Builder
	open := false
	end := func() {
		if open {
			out = append(out, cur.String())
			cur.Reset()
			open = false
		}
	}
	for _, p := range w.Parts {
		if lit, ok := p.(*syntax.Lit); ok {
			if strings.ContainsAny(lit.Value, "{~") || strings.ContainsAny(lit.Value, "*?[") && !m.noGlob {
				m.giveUp(lit, "a file name pattern")
			}
			cur.WriteString(unescape(lit.Value))
			open = true
			continue
		}
		text, quoted := m.part(p, false)
		if quoted {
			cur.WriteString(text)
			open = true
			continue
		}
		if strings.ContainsAny(text, `*?[\`) && !m.noGlob {
			m.giveUp(p, "a file name pattern in a value")
		}
		for i, field := range strings.FieldsFunc(" "+text, isBlank) {
			if i > 0 || startsBlank(text) {
				end()
			}
			cur.WriteString(field)
			open = true
		}
		if text != "" && isBlank(rune(text[len(text)-1])) {
			end()
		}
	}
	end()
	return out
}

// wholeArray is a word that is just "${NAME[@]}": each element one field.
func (m *machine) wholeArray(w *syntax.Word) ([]string, bool) {
	if len(w.Parts) != 1 {
		return nil, false
	}
	q, ok := w.Parts[0].(*syntax.DblQuoted)
	if !ok || q.Dollar || len(q.Parts) != 1 {
		return nil, false
	}
	p, ok := q.Parts[0].(*syntax.ParamExp)
	if !ok {
		return nil, false
	}
	return m.elements(p)
}

// elements are those of ${NAME[@]}, if p is that and NAME an array.
func (m *machine) elements(p *syntax.ParamExp) ([]string, bool) {
	index, ok := p.Index.(*syntax.Word)
	if !ok || index.Lit() != "@" || p.Excl || p.Length || p.Width || p.Slice != nil || p.Repl != nil || p.Exp != nil || p.Param == nil {
		return nil, false
	}
	v := m.vars[p.Param.Value]
	return v.Array, v.isArray
}

// ansiC is $'...' with the escapes that stand for one character.
func (m *machine) ansiC(p *syntax.SglQuoted) string {
	var b strings.Builder
	for i := 0; i < len(p.Value); i++ {
		c := p.Value[i]
		if c != '\\' {
			b.WriteByte(c)
			continue
		}
		i++
		at := -1
		if i < len(p.Value) {
			at = strings.IndexByte(`abefnrtv\'"`, p.Value[i])
		}
		if at < 0 {
			m.giveUp(p, "an escape in an ANSI-C quoted string")
		}
		b.WriteByte("\a\b\x1b\f\n\r\t\v\\'\""[at])
	}
	return b.String()
}

func isBlank(c rune) bool { return c == ' ' || c == '\t' || c == '\n' }

func startsBlank(text string) bool { return text != "" && isBlank(rune(text[0])) }

// unescape removes the backslashes of unquoted text.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// unescapeQuoted removes the backslashes that count within double quotes.
func unescapeQuoted(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("$`\"\\\n", s[i+1]) >= 0 {
			i++
			if s[i] == '\n' {
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// param is a parameter expansion, as far as its operators take plain text.
func (m *machine) param(p *syntax.ParamExp, inQuotes bool) string {
	if p.Excl || p.Width || p.Index != nil || p.Slice != nil || p.Names != 0 || p.Param == nil ||
		!syntax.ValidName(p.Param.Value) || ofBash(p.Param.Value) {
		m.giveUp(p, "an expansion of "+paramName(p))
	}
	v, isSet := m.vars[p.Param.Value]
	switch {
	case v.isArray && len(v.Array) == 0:
		m.giveUp(p, "an empty array")
	case p.Length:
		m.bound(p, isSet)
		m.onlyASCII(p, v.Text)
		return strconv.Itoa(len(v.Text))
	case p.Repl != nil:
		m.bound(p, isSet)
		return m.replace(p, v.Text)
	case p.Exp == nil:
		m.bound(p, isSet)
		return v.Text
	}
	return m.operator(p, v, isSet, inQuotes)
}

func (m *machine) onlyASCII(n syntax.Node, text string) {
	for i := range len(text) {
		if text[i] >= 0x80 {
			m.giveUp(n, "text that is not ASCII, in an operation on characters")
		}
	}
}

// replace is ${NAME/pattern/text} or ${NAME//pattern/text}.
func (m *machine) replace(p *syntax.ParamExp, text string) string {
	from, with := m.plainWord(p, p.Repl.Orig), m.plainWord(p, p.Repl.With)
	if from == "" || strings.HasPrefix(from, "#") || strings.Contains(with, "&") {
		m.giveUp(p, "a replacement")
	}
	if p.Repl.All {
		m.grow(p, strings.Count(text, from)*len(with))
		return strings.ReplaceAll(text, from, with)
	}
	return strings.Replace(text, from, with, 1)
}

// operator is ${NAME op word}.
func (m *machine) operator(p *syntax.ParamExp, v Value, isSet, inQuotes bool) string {
	orNull := isSet && v.Text != ""
	switch p.Exp.Op {
	case syntax.DefaultUnset, syntax.DefaultUnsetOrNull:
		if orNull || isSet && p.Exp.Op == syntax.DefaultUnset {
			return v.Text
		}
		return m.operand(p, inQuotes)
	case syntax.AlternateUnset, syntax.AlternateUnsetOrNull:
		if orNull || isSet && p.Exp.Op == syntax.AlternateUnset {
			return m.operand(p, inQuotes)
		}
		return ""
	case syntax.AssignUnset, syntax.AssignUnsetOrNull:
		if orNull || isSet && p.Exp.Op == syntax.AssignUnset {
			return v.Text
		}
		text := m.operand(p, inQuotes)
		m.refuseAssign(p)
		m.assign(p, p.Param.Value, text, false)
		return text
	case syntax.RemSmallSuffix, syntax.RemLargeSuffix:
		m.bound(p, isSet)
		return strings.TrimSuffix(v.Text, m.plainWord(p, p.Exp.Word))
	case syntax.RemSmallPrefix, syntax.RemLargePrefix:
		m.bound(p, isSet)
		return strings.TrimPrefix(v.Text, m.plainWord(p, p.Exp.Word))
	case syntax.UpperAll, syntax.LowerAll:
		m.bound(p, isSet)
		m.onlyASCII(p, v.Text)
		if p.Exp.Word != nil {
			m.giveUp(p, "an operator in the expansion of "+paramName(p))
		}
		if p.Exp.Op == syntax.UpperAll {
			return strings.ToUpper(v.Text)
		}
		return strings.ToLower(v.Text)
	}
	m.giveUp(p, "an operator in the expansion of "+paramName(p))
	return ""
}

// plainWord is the pattern or text of an operator if it is letters, digits and
// the like, which stand for themselves.
func (m *machine) plainWord(p *syntax.ParamExp, w *syntax.Word) string {
	if w == nil {
		return ""
	}
	text := w.Lit()
	for _, c := range text {
		if c != '.' && c != ':' && c != '_' && c != '-' && c != '/' && c != '+' && c != ',' &&
			(c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			m.giveUp(p, "a pattern behind an operator")
		}
	}
	if text == "" && len(w.Parts) > 0 {
		m.giveUp(p, "a pattern behind an operator")
	}
	return text
}

func paramName(p *syntax.ParamExp) string {
	if p.Param == nil {
		return "a parameter"
	}
	return "$" + p.Param.Value
}

// refuseAssign keeps ${NAME:=word} from assigning what must not be assigned.
func (m *machine) refuseAssign(p *syntax.ParamExp) {
	if why := m.o.RefuseVariable(p.Param.Value); why != "" {
		m.fail(p, "assigning %s is refused: %s", p.Param.Value, why)
	}
}

// bound fails for unset variables under nounset, in bash's own words.
func (m *machine) bound(p *syntax.ParamExp, isSet bool) {
	if isSet || !m.o.Shell.Nounset {
		return
	}
	io.WriteString(m.o.Stderr, fmt.Sprintf("%s: line %d: %s: unbound variable\n", m.file, p.Pos().Line(), p.Param.Value))
	panic(&EvalError{Origin: m.origin(p), Text: p.Param.Value + ": unbound variable", Quiet: true})
}

// operand is the word behind an operator. Quoting in it follows rules of its
// own; only plain text and simple expansions are taken here.
func (m *machine) operand(p *syntax.ParamExp, inQuotes bool) string {
	if p.Exp.Word == nil {
		return ""
	}
	var b strings.Builder
	for _, q := range p.Exp.Word.Parts {
		switch q := q.(type) {
		case *syntax.Lit:
			if strings.ContainsAny(q.Value, "\\~'\"*?[]{}") {
				m.giveUp(q, "quoting or a pattern behind an operator")
			}
			b.WriteString(q.Value)
		case *syntax.ParamExp:
			b.WriteString(m.param(q, inQuotes))
		default:
			m.giveUp(q, "quoting behind an operator")
		}
	}
	return b.String()
}

// substitution is $(id -u NAME), $(seq A B) or $(qubesdb-read KEY).
func (m *machine) substitution(p *syntax.CmdSubst) (string, int) {
	call, quiet := m.onlyCall(p)
	args := m.args(call)
	switch name := call.Args[0].Lit(); {
	case name == "id" && len(args) == 2 && args[0] == "-u" && plain(args[1]):
		if uid, ok := m.o.Account(args[1]); ok {
			return strconv.FormatUint(uint64(uid), 10), 0
		}
		if !quiet {
			io.WriteString(m.o.Stderr, noSuchUser(args[1]))
		}
		return "", 1
	case name == "seq" && len(args) == 2:
		return m.seq(p, args), 0
	case name == "qubesdb-read" && len(args) == 1 && quiet:
		out, ok := m.o.QubesDB(args[0])
		return out, toStatus(ok)
	}
	m.giveUp(p, "a command substitution")
	return "", 0
}

// plain reports whether id(1) would take name as an account's name.
func plain(name string) bool {
	return name != "" && name[0] != '-' && name[0] != '+' && (name[0] < '0' || name[0] > '9')
}

// onlyCall is the one command of a substitution; quiet, if its standard error
// goes to /dev/null.
func (m *machine) onlyCall(p *syntax.CmdSubst) (call *syntax.CallExpr, quiet bool) {
	if len(p.Stmts) == 1 && !p.TempFile && !p.ReplyVar {
		s := p.Stmts[0]
		call, ok := s.Cmd.(*syntax.CallExpr)
		if ok && len(call.Assigns) == 0 && len(call.Args) > 0 && !s.Negated && !s.Background && !s.Coprocess {
			if len(s.Redirs) == 0 {
				return call, false
			}
			if r := s.Redirs[0]; len(s.Redirs) == 1 && r.N != nil && r.N.Value == "2" && r.Op == syntax.RdrOut && r.Word.Lit() == "/dev/null" {
				return call, true
			}
		}
	}
	m.giveUp(p, "a command substitution")
	return nil, false
}

// seq counts as seq(1) does, one number a line.
func (m *machine) seq(p *syntax.CmdSubst, args []string) string {
	const countMax = 100_000
	first, err1 := strconv.ParseUint(args[0], 10, 31)
	last, err2 := strconv.ParseUint(args[1], 10, 31)
	if err1 != nil || err2 != nil || last >= first+countMax || strconv.FormatUint(first, 10) != args[0] || strconv.FormatUint(last, 10) != args[1] {
		m.giveUp(p, "an odd seq")
	}
	var b strings.Builder
	for i := first; i <= last; i++ {
		if i > first {
			b.WriteByte('\n')
		}
		b.WriteString(strconv.FormatUint(i, 10))
	}
	return b.String()
}
