// SPDX-License-Identifier: GPL-3.0-or-later
// Names of hosts that look like others are shown for what they are.
pref("network.IDN_show_punycode", true);
