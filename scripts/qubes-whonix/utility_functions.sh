#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck disable=SC2034 # whoever reads this uses them

PROXY_SERVER='http://127.0.0.1:8082/'
PROXY_META='<meta name="application-name" content="tor proxy"/>'
