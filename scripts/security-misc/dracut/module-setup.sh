#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
#
# dracut module: remount-secure in the initial RAM disk. To use it, link this
# folder into /usr/lib/dracut/modules.d and set remountsecure=1, 2 or 3 on the
# kernel's command line.

check() {
	require_binaries remount-secure || return 1
}

depends() {
	return 0
}

install() {
	inst_multiple remount-secure
	# shellcheck disable=SC2154 # dracut's
	inst_hook cleanup 90 "$moddir/remount-secure.sh"
}
