// SPDX-License-Identifier: GPL-3.0-or-later

package checksum

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// TestRFC1071: the numbers of its section 3, and an odd byte.
func TestRFC1071(t *testing.T) {
	if got := Of([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}); got != ^uint16(0xddf2) {
		t.Errorf("%#x", got)
	}
	if got := Of([]byte{0x12}); got != ^uint16(0x1200) {
		t.Errorf("an odd byte: %#x", got)
	}
	if got := Of(nil); got != 0xffff {
		t.Errorf("nothing: %#x", got)
	}
}

// TestVerifies: what contains its checksum has the checksum 0, in both
// families, and with any one byte changed it has not.
func TestVerifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 8, 1500).Draw(t, "data")
		src, dst := netip.MustParseAddr("10.152.152.11"), netip.MustParseAddr("198.51.100.1")
		if rapid.Bool().Draw(t, "IPv6") {
			src, dst = netip.MustParseAddr("fd19:c33d:88bc::11"), netip.MustParseAddr("2001:db8::1")
		}
		const at, proto = 6, 17
		binary.BigEndian.PutUint16(b[at:], 0)
		binary.BigEndian.PutUint16(b[at:], Transport(src, dst, proto, b))
		if got := Transport(src, dst, proto, b); got != 0 {
			t.Fatalf("%#x", got)
		}
		i := rapid.IntRange(0, len(b)-1).Draw(t, "byte")
		b[i] ^= byte(rapid.IntRange(1, 0xfe).Draw(t, "change"))
		if got := Transport(src, dst, proto, b); got == 0 {
			t.Fatalf("a changed byte %d is not seen", i)
		}
	})
}
