// SPDX-License-Identifier: GPL-3.0-or-later

package oniongrater

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
)

// stemScript is a program that uses stem as programs do: it logs in, asks, makes
// an onion service and waits for an event.
const stemScript = `
import stem.control
c = stem.control.Controller.from_port(address='10.152.152.10', port=9051)
c.authenticate()
print('version', c.get_version())
print('circuit', c.get_info('status/circuit-established'))
c.signal('NEWNYM')
r = c.create_ephemeral_hidden_service({80: 17600}, key_type='NEW', key_content='ED25519-V3', await_publication=False)
print('service', len(r.service_id), r.private_key_type)
print('listed', c.list_ephemeral_hidden_services() == [r.service_id])
c.add_event_listener(lambda e: None, 'HS_DESC')
try:
    c.add_event_listener(lambda e: None, 'BW')
except stem.ProtocolError as e:
    print('refused', 'BW')
try:
    c.get_info('address')
except stem.ControllerError as e:
    print('refused', e)
print('removed', c.remove_ephemeral_hidden_service(r.service_id))
c.close()
`

// TestStem: rows 66 and 64 with the library that most programs use.
func TestStem(t *testing.T) {
	r := newRig(t).realTor("DisableNetwork 1").start()
	r.filter(mergedProfiles(t, "onionshare"))
	var out, complaints bytes.Buffer
	err := r.ns.Do(func() error {
		cmd := exec.CommandContext(soon(t), "/usr/bin/python3", "-c", stemScript)
		cmd.Stdout, cmd.Stderr = &out, &complaints
		return cmd.Run()
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, &complaints)
	}
	for _, want := range []string{"version 0.", "circuit 0", "service 56 ED25519-V3", "listed True", "refused BW", "Command filtered", "removed True"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
	for _, l := range r.rec.taken() {
		if strings.HasPrefix(l, "ADD_ONION") && !strings.Contains(l, "Port=80,"+gatewayAddr+":17600") {
			t.Errorf("tor got %q", l)
		}
	}
}
