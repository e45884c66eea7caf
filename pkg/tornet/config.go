// SPDX-License-Identifier: GPL-3.0-or-later

package tornet

import "fmt"

// networkConfig is for whoever uses the network; see TestingTorNetwork in
// tor(1).
const networkConfig = `
TestingTorNetwork 1
PathsNeededToBuildCircuits 0.25
TestingClientDownloadSchedule 0, 1
`

// commonConfig is for every process of the network. The intervals are the
// shortest that tor takes. Nothing remains of a test that was killed: a tor
// ends with the process that owns it.
const commonConfig = `
DataDirectory %[1]s
Log notice file %[1]s/log
__OwningControllerProcess %[3]d
SafeLogging 0
AssumeReachable 1
TestingMinExitFlagThreshold 0
TestingV3AuthInitialVotingInterval 10
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
V3AuthVotingInterval 20
V3AuthVoteDelay 4
V3AuthDistDelay 4
TestingServerDownloadSchedule 0, 1
ServerDNSResolvConfFile %[2]s
ServerDNSDetectHijacking 0
ServerDNSAllowBrokenConfig 1
Sandbox 0
`

// exitConfig takes the number, the address and the OR port. Exits would refuse relays of
// which they do not know yet, and have no descriptors to hand out for a while.
const exitConfig = `
Nickname exit%[1]d
Address %[2]s
ORPort %[2]s:%[3]d
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
Address %[4]s
ORPort %[4]s:%[2]d
DirPort %[4]s:%[3]d
SocksPort 0
AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
ContactInfo auth%[1]d@example.invalid
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
ExitRelay 0
`, i, firstOR+i, firstDir+i, n.o.Address)
}
