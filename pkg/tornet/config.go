// SPDX-License-Identifier: GPL-3.0-or-later

package tornet

import "fmt"

// commonConfig is for every process; see TestingTorNetwork in tor(1). The
// intervals are the shortest that tor takes.
const commonConfig = `
TestingTorNetwork 1
DataDirectory %[1]s
Log notice file %[1]s/log
SafeLogging 0
AssumeReachable 1
PathsNeededToBuildCircuits 0.25
TestingMinExitFlagThreshold 0
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 4
V3AuthDistDelay 4
TestingClientDownloadSchedule 0, 1
TestingServerDownloadSchedule 0, 1
ServerDNSResolvConfFile %[2]s
ServerDNSDetectHijacking 0
ServerDNSAllowBrokenConfig 1
Sandbox 0
`

// exitConfig takes the number and the OR port. Exits would refuse relays of
// which they do not know yet, and have no descriptors to hand out for a while.
const exitConfig = `
Nickname exit%d
Address 127.0.0.1
ORPort 127.0.0.1:%d
SocksPort 0
ExitRelay 1
ExitPolicy accept *:*
ExitPolicyRejectPrivate 0
RefuseUnknownExits 0
DirCache 0
`

// clientConfig takes the SocksPort and the ControlPort. With Conflux one stream
// can be on two circuits, which tests of isolation would take for a difference.
const clientConfig = `
SocksPort %s
ControlPort %s
CookieAuthentication 1
ClientRejectInternalAddresses 0
ClientDNSRejectInternalAddresses 0
ClientUseIPv6 0
UseEntryGuards 0
ConfluxEnabled 0
`

// authority is the configuration of a directory authority but for the lines
// that name all of them.
func (n *Network) authority(i int) string {
	return fmt.Sprintf(`
Nickname auth%[1]d
Address 127.0.0.1
ORPort 127.0.0.1:%[2]d
DirPort 127.0.0.1:%[3]d
SocksPort 0
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo auth%[1]d@example.invalid
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
ExitRelay 0
`, i, firstOR+i, firstDir+i)
}
