// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

// Keys of messages, as the original's file of translations has them.
const (
	msgFetching    = "fetching"
	msgRestricted  = "restricted"
	msgSigterm     = "sigterm"
	msgSleeping    = "sleeping"
	msgMinutes     = "minutes"
	msgSuccess     = "success"
	msgNoValidTime = "no_valid_time"
	msgNoValue     = "no_value_returned"
	msgNoList      = "list_not_built"
	msgRestart     = "restart"
	msgTimeout     = "general_timeout_error"
)

// Messages that no translation has.
const (
	msgGivingUp     = "Maximum allowed number of failures. Giving up."
	msgStopped      = "sdwdate stopped by user or system."
	msgNotPrepared  = "Preparation not done yet. For more information, see: sdwdate-gui -> right click -> Open sdwdate's log"
	msgReplay       = "Time Replay Protection: ERROR. More more information, see: sdwdate-gui -> right click -> Open sdwdate's log"
	msgForeignClock = "The clock was set by something else meanwhile. It is left as it is until the next try."
	msgFloorUnknown = "Time Replay Protection: the minimum time cannot be read. See sdwdate's log."
	msgNotWritten   = "sdwdate cannot write its state. See sdwdate's log."
)

// messages are the texts by their keys.
type messages map[string]string

func text() messages {
	return messages{
		msgFetching:    "Time fetching in progress...",
		msgRestricted:  "Initial time fetching in progress...",
		msgSigterm:     "Signal SIGTERM received.",
		msgSleeping:    "Sleeping for ",
		msgMinutes:     " minutes, ok.",
		msgSuccess:     "Success.",
		msgNoValidTime: "Time is not set: <b>no valid time returned from pool.</b><br> Possible causes: <br>- internet connection is down <br>- Tor is not running",
		msgNoValue:     "<b>No values returned from servers.</b>",
		msgNoList:      "<b>Something is wrong. sdwdate could not build a list or urls.</b>",
		msgRestart:     "<br> Restart sdwdate. If the problem persists, please report this bug.<br>",
		msgTimeout:     "<b>General Timeout Error.</b> Internet connection might be down.",
	}
}
