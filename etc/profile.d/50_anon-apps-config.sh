# SPDX-License-Identifier: GPL-3.0-or-later
#
# Where programs of the desktop find this package's settings. Sourced by the shells
# of logins and by Xsession, so that nothing here may end them.

case ":${XDG_CONFIG_DIRS-}:" in
*:/usr/share/anon-apps-config/:*) ;;
*) export XDG_CONFIG_DIRS="/usr/share/anon-apps-config/:${XDG_CONFIG_DIRS:-/etc/xdg}" ;;
esac
case ":${XDG_DATA_DIRS-}:" in
*:/usr/share/anon-apps-config/share/:*) ;;
*) export XDG_DATA_DIRS="/usr/share/anon-apps-config/share/:${XDG_DATA_DIRS:-/usr/local/share/:/usr/share/}" ;;
esac
