// SPDX-License-Identifier: GPL-3.0-or-later

package fsx

import (
	"fmt"
	"strconv"
	"strings"
)

// Number looks up the number of an account or a group in a file like passwd(5)
// or group(5).
func (r Root) Number(file, name string) (int, error) {
	const sizeMax = 16 << 20
	data, err := r.ReadFile(file, sizeMax)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		const least = 3
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) >= least && f[0] == name {
			return strconv.Atoi(f[2])
		}
	}
	return 0, fmt.Errorf("%s has no %q", file, name)
}
