// SPDX-License-Identifier: GPL-3.0-or-later

package sdwdate

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/fsx"
)

const minimumUsage = `usage: minimum-unixtime-show
       minimum-time-check UNIXTIME
       timesanitycheck
Shows the earliest time that the clock may have, or compares with it.
  --version  print the version
`

// Minimum is the program minimum-unixtime-show, also as minimum-time-check and
// timesanitycheck.
func Minimum(_ context.Context, env cli.Env) error { return minimumAt(fsx.Host)(env) }

func minimumAt(root fsx.Root) func(cli.Env) error {
	return func(env cli.Env) error {
		flags := pflag.NewFlagSet(env.Name(), pflag.ContinueOnError)
		flags.Usage = func() {}
		if err := flags.Parse(env.Args[1:]); errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(env.Stdout, minimumUsage)
			return nil
		} else if err != nil {
			return &cli.Exit{Code: 1, Err: err}
		}
		b, notices, err := loadBounds(root)
		for _, n := range notices {
			env.Warnf("%s", sanitise(n))
		}
		if err != nil {
			return err
		}
		switch env.Name() {
		case "minimum-time-check":
			return b.check(flags.Args())
		case "timesanitycheck":
			return releaseBounds(root).sanityCheck(env)
		}
		fmt.Fprintf(env.Stderr, "%s\n", human(b.Floor))
		_, err = fmt.Fprintf(env.Stdout, "%d\n", b.Floor)
		return err
	}
}

// check is minimum-time-check.
func (b bounds) check(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments instead of 1, a unixtime", len(args))
	}
	t, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || t < 0 {
		return fmt.Errorf("%s is no unixtime", strconv.Quote(short(args[0])))
	}
	if t < b.Floor {
		return fmt.Errorf("%d is earlier than the minimum, %d", t, b.Floor)
	}
	return nil
}

// sanityCheck is timesanitycheck.
func (b bounds) sanityCheck(env cli.Env) error {
	const codeSlow, codeFast = 2, 3
	switch now := env.Now().Unix(); {
	case now < b.Floor:
		fmt.Fprintf(env.Stdout, "The clock is slow.\n(Current time is less than the minimum time '%s'.)\n", human(b.Floor))
		return &cli.Exit{Code: codeSlow}
	case now > b.Ceiling:
		fmt.Fprintf(env.Stdout, "The clock is fast.\n(Current time is more than the expiration timestamp '%s'.)\n", human(b.Ceiling))
		return &cli.Exit{Code: codeFast}
	}
	_, err := fmt.Fprintf(env.Stdout, "Within minimum time '%s' and expiration timestamp '%s', ok.\n", human(b.Floor), human(b.Ceiling))
	return err
}
