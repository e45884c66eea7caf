#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Hook of dracut's: the new root, before the system's own init is started.

level=$(getarg remountsecure=)
if [ -n "$level" ]; then
	export NEWROOT
	if remount-secure "$level"; then
		info "remount-secure $level: done"
	else
		warn "remount-secure $level: failed with status $?"
	fi
fi
