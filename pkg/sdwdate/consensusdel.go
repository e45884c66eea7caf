// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"io"
	"os"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const consensusDelUsage = `usage: anon-consensus-del
       anon-consensus-del-files
Deletes what Tor has downloaded about its network, and restarts Tor without it;
by the second name, only deletes.
 -h, --help      show this text
     --version   show the version
`

// ConsensusDel is the program anon-consensus-del, also as
// anon-consensus-del-files.
func ConsensusDel(ctx context.Context, env cli.Env) error {
	return (&suspend{env: env, root: fsx.Host, euid: os.Geteuid()}).consensusDel(ctx)
}

func (s *suspend) consensusDel(ctx context.Context) error {
	switch args := s.env.Args[1:]; {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		_, err := io.WriteString(s.env.Stdout, consensusDelUsage)
		return err
	case len(args) > 0:
		return cli.WithHint(cli.Usagef("unexpected argument %q", short(args[0])), "%s --help", s.env.Name())
	case s.euid != 0:
		return &cli.Exit{Code: cli.CodeFailed, Err: errors.New("must run as root")}
	}
	del := s.deleteConsensus
	if s.env.Name() == "anon-consensus-del-files" {
		del = func(context.Context) error { return deleteConsensusFiles(s.root) }
	}
	return del(ctx)
}

// deleteConsensusFiles deletes all of them, whatever became of the others.
func deleteConsensusFiles(root fsx.Root) (err error) {
	for _, name := range []string{"cached-certs", "cached-microdesc-consensus", "cached-microdescs", "cached-microdescs.new"} {
		err = together(err, root.Remove(torFolder+"/"+name))
	}
	return err
}
