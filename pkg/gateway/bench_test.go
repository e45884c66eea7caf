// SPDX-License-Identifier: GPL-3.0-or-later

package gateway

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
	"whonix-networking/pkg/whonix"
)

// BenchmarkSane is tor-config-sane without waiting, where everything is right:
// at most 50 ms.
func BenchmarkSane(b *testing.B) {
	root := fsx.Root(b.TempDir())
	for path, text := range map[string]string{
		whonix.GatewayMarker: "", waited: "", listenersBase: ListenersBase(),
		"/etc/passwd": "debian-tor:x:102:105::/var/lib/tor:/bin/false\n", "/etc/group": "debian-tor:x:105:\n",
	} {
		if err := os.MkdirAll(filepath.Dir(root.Path(path)), 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(root.Path(path), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	env := cli.Env{Args: []string{"tor-config-sane"}, Stdout: io.Discard, Stderr: io.Discard, Now: time.Now}
	s := &sane{root, env, func(context.Context) { b.Error("waits") }, &listenerList{root, env, bindable}}
	for b.Loop() {
		if err := s.run(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
