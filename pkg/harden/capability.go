// SPDX-License-Identifier: GPL-3.0-or-later

package harden

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// capabilityAttribute holds a file's capabilities; see capabilities(7).
const capabilityAttribute = "security.capability"

// The layout of the attribute, from <linux/capability.h>.
const (
	capRevisionMask  = 0xff000000
	capRevision1     = 0x01000000
	capRevision2     = 0x02000000
	capRevision3     = 0x03000000
	capEffective     = 0x000001
	capBytes1        = 4 + 8
	capBytes2        = 4 + 16
	capBytes3        = 4 + 16 + 4
	noFileCapability = "=" // libcap's text of the empty set
)

// fileCaps are the capabilities of a file.
type fileCaps struct {
	permitted, inheritable uint64
	effective              bool   // one flag for all, see capabilities(7)
	rootID                 uint32 // the user whose namespace they count in
}

// capabilityNames are the names of all capabilities, by number.
func capabilityNames() []string {
	return []string{
		"cap_chown", "cap_dac_override", "cap_dac_read_search", "cap_fowner", "cap_fsetid", "cap_kill", "cap_setgid", "cap_setuid", "cap_setpcap",
		"cap_linux_immutable", "cap_net_bind_service", "cap_net_broadcast", "cap_net_admin", "cap_net_raw", "cap_ipc_lock", "cap_ipc_owner",
		"cap_sys_module", "cap_sys_rawio", "cap_sys_chroot", "cap_sys_ptrace", "cap_sys_pacct", "cap_sys_admin", "cap_sys_boot", "cap_sys_nice",
		"cap_sys_resource", "cap_sys_time", "cap_sys_tty_config", "cap_mknod", "cap_lease", "cap_audit_write", "cap_audit_control", "cap_setfcap",
		"cap_mac_override", "cap_mac_admin", "cap_syslog", "cap_wake_alarm", "cap_block_suspend", "cap_audit_read", "cap_perfmon", "cap_bpf",
		"cap_checkpoint_restore",
	}
}

// granted is what `setcap NAME+ep` gives.
func granted(name string) (fileCaps, error) {
	n := slices.Index(capabilityNames(), name)
	if n < 0 {
		return fileCaps{}, fmt.Errorf("there is no capability %s", name)
	}
	return fileCaps{permitted: 1 << n, effective: true}, nil
}

// decodeCaps reads the attribute's value. None is the empty set.
func decodeCaps(value []byte) (fileCaps, error) {
	if value == nil {
		return fileCaps{}, nil
	}
	if len(value) < capBytes1 {
		return fileCaps{}, errors.New("capabilities in an unknown form")
	}
	word := func(i int) uint64 { return uint64(binary.LittleEndian.Uint32(value[4*i:])) }
	magic := uint32(word(0))
	c := fileCaps{permitted: word(1), inheritable: word(2), effective: magic&capEffective != 0}
	switch revision := magic & capRevisionMask; {
	case revision == capRevision1 && len(value) == capBytes1:
		return c, nil
	case revision == capRevision3 && len(value) == capBytes3:
		c.rootID = uint32(word(5))
	case revision != capRevision2 || len(value) != capBytes2:
		return fileCaps{}, errors.New("capabilities in an unknown form")
	}
	c.permitted |= word(3) << 32
	c.inheritable |= word(4) << 32
	return c, nil
}

// encode is the reverse of decodeCaps.
func (c fileCaps) encode() []byte {
	if c.permitted|c.inheritable == 0 {
		return nil
	}
	magic := uint32(capRevision2)
	if c.rootID != 0 {
		magic = capRevision3
	}
	if c.effective {
		magic |= capEffective
	}
	var out []byte
	for _, w := range []uint32{magic, uint32(c.permitted), uint32(c.inheritable), uint32(c.permitted >> 32), uint32(c.inheritable >> 32)} {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	if c.rootID != 0 {
		out = binary.LittleEndian.AppendUint32(out, c.rootID)
	}
	return out
}

// String is the text that getcap(8) prints, one clause for each set of flags:
// `cap_net_raw=ep`.
func (c fileCaps) String() string {
	clauses := map[string][]string{}
	for n, name := range allCapabilities() {
		var flags string
		p, i := c.permitted>>n&1 != 0, c.inheritable>>n&1 != 0
		if (p || i) && c.effective {
			flags += "e"
		}
		if i {
			flags += "i"
		}
		if p {
			flags += "p"
		}
		if flags != "" {
			clauses[flags] = append(clauses[flags], name)
		}
	}
	var out []string
	for _, flags := range []string{"ep", "eip", "ei", "p", "ip", "i"} {
		if names := clauses[flags]; names != nil {
			out = append(out, strings.Join(names, ",")+"="+flags)
		}
	}
	if out == nil {
		return noFileCapability
	}
	if c.rootID != 0 {
		out = append(out, fmt.Sprintf("[rootid=%d]", c.rootID))
	}
	return strings.Join(out, " ")
}

// allCapabilities names all 64 bits; those without a name by their number, as
// libcap does.
func allCapabilities() []string {
	names := capabilityNames()
	for n := len(names); n < 64; n++ {
		names = append(names, strconv.Itoa(n))
	}
	return names
}

// parseCaps reads what String prints, and what getcap prints of files: clauses
// of names with `=` or `+` and flags.
func parseCaps(text string) (fileCaps, error) {
	var c fileCaps
	names := allCapabilities()
	for _, clause := range strings.Fields(text) {
		if id, ok := strings.CutPrefix(clause, "[rootid="); ok {
			n, err := strconv.ParseUint(strings.TrimSuffix(id, "]"), 10, 32)
			if err != nil {
				return fileCaps{}, fmt.Errorf("capabilities %q: not a user id", clause)
			}
			c.rootID = uint32(n)
			continue
		}
		at := strings.IndexAny(clause, "=+")
		if at < 0 {
			return fileCaps{}, fmt.Errorf("capabilities %q: no flags", clause)
		}
		list, flags := strings.Split(clause[:at], ","), clause[at+1:]
		if clause[:at] == "" || clause[:at] == "all" {
			list = names
		}
		if strings.Trim(flags, "eip") != "" || len(flags) == 0 && at > 0 {
			return fileCaps{}, fmt.Errorf("capabilities %q: unknown flags", clause)
		}
		for _, name := range list {
			n := slices.Index(names, name)
			if n < 0 {
				return fileCaps{}, fmt.Errorf("capabilities %q: there is no %q", clause, name)
			}
			if strings.Contains(flags, "p") {
				c.permitted |= 1 << n
			}
			if strings.Contains(flags, "i") {
				c.inheritable |= 1 << n
			}
			c.effective = c.effective || strings.Contains(flags, "e")
		}
	}
	return c, nil
}
