#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later

# Read by login shells and X sessions, of any kind of shell. Tor Browser then
# uses the Gateway's Tor in place of its own. Unless this file is executable,
# nothing reads it.

# No Tor of its own, and no belief to be offline without one (since 10.5).
export TOR_SKIP_LAUNCH=1
export TOR_USE_LEGACY_LAUNCHER=1

# Where the Gateway is to be found. Addresses and ports are not set, because
# Tor Browser prefers them, and TOR_TRANSPROXY is not, because it would put all
# tabs on one circuit.
export TOR_SOCKS_IPC_PATH=/run/anon-ws-disable-stacked-tor/127.0.0.1_9150.sock
export TOR_CONTROL_IPC_PATH=/run/anon-ws-disable-stacked-tor/127.0.0.1_9151.sock

# The Gateway's filter answers less than Tor Browser would ask for.
export TOR_SKIP_CONTROLPORTTEST=1

# Tor is configured on the Gateway.
export TOR_NO_DISPLAY_NETWORK_SETTINGS=1
