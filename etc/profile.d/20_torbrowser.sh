#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

# For login shells and X sessions. Nothing here may end either of them: what a
# shell cannot read, or ends by, ends another shell first (defect 43), and a
# command that fails ends none, also where sh -e starts the session.

if [ -x /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh ]; then
	# shellcheck source=/dev/null
	if [ "$(set +e; . /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh >/dev/null 2>&1; echo read)" = read ]; then
		case $- in
		*e*)
			set +e
			. /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh >/dev/null 2>&1
			set -e
			;;
		*) . /usr/libexec/anon-ws-disable-stacked-tor/torbrowser.sh >/dev/null 2>&1 ;;
		esac
	fi
fi
