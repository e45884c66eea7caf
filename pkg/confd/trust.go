// SPDX-License-Identifier: GPL-3.0-or-later

package confd

import (
	"errors"

	"whonix-networking/pkg/fsx"
)

// trusted checks that nobody but root can change the file.
func (o *Options) trusted(path string) error {
	err := o.Root.Trusted(path)
	var writable *fsx.Writable
	switch {
	case err == nil:
		return nil
	case errors.As(err, &writable):
		return &EvalError{Origin: Origin{File: path}, Text: "is refused: " + writable.Error()}
	}
	return &EvalError{Origin: Origin{File: path}, Text: "cannot be read: " + cause(err)}
}
