#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

# Sourced by shells at login: torsocks is to speak up about errors only, not
# about every system call that it does not know.

export TORSOCKS_LOG_LEVEL=1
