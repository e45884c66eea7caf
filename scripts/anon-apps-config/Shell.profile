# SPDX-License-Identifier: GPL-3.0-or-later
#
# A terminal that forgets no line.
[General]
Name=Shell
Parent=FALLBACK/

[Scrolling]
HistoryMode=2
