// SPDX-License-Identifier: GPL-3.0-or-later

package uwt

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"whonix-networking/pkg/cli"
	"whonix-networking/pkg/elfx"
	"whonix-networking/pkg/fsx"
)

// timeRequest is one step of a made-up time of day.
type timeRequest struct {
	folder           string
	year, month, day string // as given; empty is today's
	now              time.Time
	increment        uint64 // seconds
}

// Files of the state, each with one decimal number.
const (
	secondsFile = "seconds_file"
	minutesFile = "minutes_file"
	hoursFile   = "hours_file"
)

// nextTime advances the time of day kept in a folder, and returns it with the
// date as faketime(1) takes it. Runs at the same time follow one another: no
// increment is lost.
func nextTime(ctx context.Context, r timeRequest) (string, error) {
	const dirMode, lockFile = 0o700, ".lock"
	root := fsx.Host
	folder, err := filepath.Abs(r.folder)
	if err != nil {
		return "", err
	}
	if err := root.MkdirAll(folder, dirMode); err != nil {
		return "", fmt.Errorf("the time cannot be kept: %w", err)
	}
	unlock, err := root.Lock(ctx, filepath.Join(folder, lockFile))
	if err != nil {
		return "", fmt.Errorf("the time cannot be kept: %w", err)
	}
	defer unlock()
	old := clockTime{
		hours:   stored(root, filepath.Join(folder, hoursFile), 23),
		minutes: stored(root, filepath.Join(folder, minutesFile), 59),
		seconds: stored(root, filepath.Join(folder, secondsFile), 59),
	}
	now := old.plus(r.increment)
	for _, f := range []struct {
		name     string
		old, now uint64
	}{{hoursFile, old.hours, now.hours}, {minutesFile, old.minutes, now.minutes}, {secondsFile, old.seconds, now.seconds}} {
		path := filepath.Join(folder, f.name)
		if f.old == f.now && root.IsFile(path) {
			continue
		}
		const fileMode = 0o600
		if err := root.WriteAtomic(path, []byte(strconv.FormatUint(f.now, 10)+"\n"), fileMode); err != nil {
			return "", fmt.Errorf("the time cannot be kept: %w", err)
		}
	}
	return r.date() + now.String(), nil
}

// clockTime is a time of day.
type clockTime struct{ hours, minutes, seconds uint64 }

// String writes it as the original does, without padding.
func (c clockTime) String() string { return fmt.Sprintf("%d:%d:%d", c.hours, c.minutes, c.seconds) }

// plus goes on from the time by seconds; midnight does not change the date.
func (c clockTime) plus(seconds uint64) clockTime {
	const day = 24 * 60 * 60
	s := (c.hours*3600 + c.minutes*60 + c.seconds + seconds%day) % day
	return clockTime{s / 3600, s / 60 % 60, s % 60}
}

// stored reads a number of the state: 0 if there is none, at most limit.
func stored(root fsx.Root, path string, limit uint64) uint64 {
	const sizeMax = 64
	data, err := root.ReadFile(path, sizeMax)
	if err != nil {
		return 0
	}
	text := strings.TrimSpace(string(data))
	n, err := strconv.ParseUint(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) && digits(text) {
		return limit
	}
	if err != nil || !digits(text) {
		return 0
	}
	return min(n, limit)
}

func digits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// date is the date with a blank behind it.
func (r timeRequest) date() string {
	or := func(given, layout string) string {
		if given != "" {
			return given
		}
		return r.now.Format(layout)
	}
	return or(r.year, "2006") + "-" + or(r.month, "01") + "-" + or(r.day, "02") + " "
}

const timePrivacyHelp = `usage: time-privacy [-d DAY] [-m MONTH] [-y YEAR] [-i SECONDS | -r SECONDS] [-f FOLDER] [COMMAND...]
Prints a made-up date and time for faketime(1), and goes on from it the next
time. See time-privacy(1).
    -d, -m, -y  the date, digits only; today's if not given
    -i N        go on by N seconds (1)
    -r N        go on by 0 to N seconds, by chance
    -f FOLDER   where the time is kept (~/.timeprivacy)
    -h, --help  this help
`

// TimePrivacy is the program time-privacy, documented as time_privacy.
func TimePrivacy(ctx context.Context, env cli.Env) error {
	r, done, err := timeOptions(env)
	if err != nil || done {
		return err
	}
	text, err := nextTime(ctx, *r)
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Stdout, text)
	return nil
}

// timeOptions reads the command line by the original's rules: options one by
// one, each value a word of its own, up to a word that names a command.
func timeOptions(env cli.Env) (r *timeRequest, done bool, err error) {
	r = &timeRequest{now: env.Now()}
	increment, random := "", ""
	hasIncrement, hasRandom := false, false
	args := env.Args[1:]
	for len(args) > 0 && args[0] != "" {
		var to *string
		switch args[0] {
		case "-h", "--help":
			fmt.Fprint(env.Stdout, timePrivacyHelp)
			return nil, true, nil
		case "-d":
			to = &r.day
		case "-m":
			to = &r.month
		case "-y":
			to = &r.year
		case "-f":
			to = &r.folder
		case "-i":
			to, hasIncrement = &increment, true
		case "-r":
			to, hasRandom = &random, true
		default:
			pathList, _ := env.Lookup("PATH")
			if elfx.LookPath(args[0], pathList) == "" {
				return nil, false, fmt.Errorf("%s: neither an option nor a command", args[0])
			}
			args = args[:1]
		}
		if to != nil {
			if len(args) < 2 {
				return nil, false, fmt.Errorf("%s: its value is missing", args[0])
			}
			*to = args[1]
			args = args[1:]
		}
		args = args[1:]
	}
	if hasIncrement && hasRandom {
		return nil, false, complain(env, "You can not combine -r and -i.")
	}
	return r, false, r.check(env, increment, random, hasRandom)
}

// check reads the numbers, and fills in where the time is kept.
func (r *timeRequest) check(env cli.Env, increment, random string, hasRandom bool) error {
	for _, f := range []struct{ name, text string }{{"increment", increment}, {"year", r.year}, {"month", r.month}, {"day", r.day}} {
		if f.text != "" && !digits(f.text) {
			return complain(env, f.name+" is not a digit.")
		}
	}
	r.increment = 1
	var err error
	switch {
	case hasRandom:
		if !digits(random) {
			return complain(env, "randomincrement must be a positive number.")
		}
		r.increment, err = upTo(random)
	case increment != "":
		r.increment, err = strconv.ParseUint(increment, 10, 64)
	}
	if err != nil {
		return err
	}
	if r.folder == "" {
		home, _ := env.Lookup("HOME")
		if home == "" {
			return cli.WithHint(errors.New("HOME is not set"), "name the folder with -f")
		}
		r.folder = filepath.Join(home, ".timeprivacy")
	}
	return nil
}

// complain says what the original says, but on standard error (U10).
func complain(env cli.Env, text string) error {
	fmt.Fprintln(env.Stderr, text)
	return &cli.Exit{Code: codeFailed}
}

// upTo is a number from 0 to the one in the text, by chance.
func upTo(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 62)
	if err != nil {
		return 0, err
	}
	v, err := rand.Int(rand.Reader, new(big.Int).SetUint64(n+1))
	if err != nil {
		return 0, fmt.Errorf("no random number: %w", err)
	}
	return v.Uint64(), nil
}
