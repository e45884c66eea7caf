#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

# For login shells and X sessions. Nothing here may end either of them.

if [ -x /usr/libexec/uwt/uwt.sh ]; then
	# shellcheck source=/dev/null
	. /usr/libexec/uwt/uwt.sh || true
fi
