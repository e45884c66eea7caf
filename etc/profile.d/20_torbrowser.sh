#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

# For login shells and X sessions. Nothing here may end either of them: what a
# shell cannot read, or ends by, ends another shell first (defect 43).

if [ -x /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh ]; then
	# shellcheck source=/dev/null
	if [ "$(. /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh >/dev/null 2>&1; echo read)" = read ]; then
		. /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh >/dev/null 2>&1 || true
	fi
fi
