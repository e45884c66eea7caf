#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck source=/dev/null

# For login shells and X sessions. Nothing here may end either of them: Xsession
# runs with errexit, which in some shells holds in a sourced file whatever
# stands behind it.

if [ -x /usr/libexec/uwt/uwt.sh ]; then
	case $- in
	*e*)
		set +e
		. /usr/libexec/uwt/uwt.sh
		set -e
		;;
	*)
		. /usr/libexec/uwt/uwt.sh || true
		;;
	esac
fi
