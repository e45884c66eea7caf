# SPDX-License-Identifier: GPL-3.0-or-later
#
# No previews in Dolphin: a picture is not opened to be seen in a list. Sourced by
# the shells of logins and by Xsession, so that nothing here may end them.

case ":${XDG_CONFIG_DIRS-}:" in
*:/usr/share/security-misc/:*) ;;
*) export XDG_CONFIG_DIRS="/usr/share/security-misc/:${XDG_CONFIG_DIRS:-/etc/xdg}" ;;
esac
