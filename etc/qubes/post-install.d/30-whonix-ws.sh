#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

# Tells dom0 what is installed here. Nothing depends on its being told.
if [ -f /usr/share/anon-gw-base-files/gateway ]; then
	qvm-features-request whonix-gw=1
fi
if [ -f /usr/share/anon-ws-base-files/workstation ]; then
	qvm-features-request whonix-ws=1
fi
exit 0
