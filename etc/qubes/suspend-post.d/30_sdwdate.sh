#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

exec /usr/libexec/sdwdate/suspend-post
