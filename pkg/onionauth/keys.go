// SPDX-License-Identifier: GPL-3.0-or-later

package onionauth

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha3"
	"crypto/x509"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"regexp"
	"strings"
)

// keyPair is a client's key in the forms that are written down; see "Client
// authorization" in rend-spec-v3.
type keyPair struct{ privatePEM, publicPEM, private32, public32 string }

func newKeyPair() (*keyPair, error) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	if err != nil {
		return nil, err
	}
	raw := base32.StdEncoding.WithPadding(base32.NoPadding)
	return &keyPair{
		privatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
		publicPEM:  string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		private32:  raw.EncodeToString(key.Bytes()), public32: raw.EncodeToString(key.PublicKey().Bytes()),
	}, nil
}

// clientLine is what the client's Tor needs, serviceLine what the service's.
func (k *keyPair) clientLine(onion string) string {
	return onion + ":descriptor:x25519:" + k.private32 + "\n"
}

func (k *keyPair) serviceLine() string { return "descriptor:x25519:" + k.public32 + "\n" }

// onionName is a hostname without its ending, if it is that of an onion
// service.
func onionName(host string) (string, error) {
	name, ok := strings.CutSuffix(strings.TrimSpace(host), ".onion")
	if !ok || !isOnion(name) {
		return "", errors.New("it does not hold the address of an onion service")
	}
	return name, nil
}

// isOnion checks the address's own checksum; see "Encoding onion addresses" in
// rend-spec-v3.
func isOnion(name string) bool {
	const key, sum, version = 32, 34, 3
	raw, err := base32.StdEncoding.DecodeString(strings.ToUpper(name))
	if err != nil || name != strings.ToLower(name) || len(raw) != sum+1 || raw[sum] != version {
		return false
	}
	want := sha3.Sum256(append(append([]byte(".onion checksum"), raw[:key]...), version))
	return bytes.Equal(raw[key:sum], want[:2])
}

// checkClientLine checks what a client was given (defect 30). What is wrong is
// not shown: it may be a secret of somebody else's.
func checkClientLine(text string) error {
	m := regexp.MustCompile(`^([a-z2-7]{56}):descriptor:x25519:([A-Z2-7]{52})\n?$`).FindStringSubmatch(text)
	switch {
	case m == nil:
		return errors.New("is not one line of the form ADDRESS:descriptor:x25519:KEY, with 56 and 52 characters")
	case !isOnion(m[1]):
		return errors.New("names an address that is none of an onion service: its checksum is wrong")
	}
	return nil
}
