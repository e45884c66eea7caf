// SPDX-License-Identifier: GPL-3.0-or-later

package basesys

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"whonix-networking/pkg/fsx"
)

const (
	storeDir     = "/var/lib/virusforget"
	manifestName = "manifest"
	manifestMax  = 64 << 20
)

// store is where root keeps what an account's files were: NAME/backup, a manifest
// and the contents by their SHA-256, and NAME/dangerous, what was replaced. Nobody
// but root can read or write it (defect D-10).
type store struct {
	root fsx.Root
	dir  string // storeDir/NAME
}

func (s store) path(elem ...string) string {
	return s.root.Path(filepath.Join(append([]string{s.dir}, elem...)...))
}

// snapshot reads a home, as its account, and spools contents into dir. What comes
// from there may be anything.
func snapshot(ctx context.Context, a account, home, dir string, as asFunc, s streams) ([]object, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	done := make(chan error, 1)
	go func() {
		s.out = w
		err := as(ctx, a, s, taskRead, home)
		w.Close()
		done <- err
	}()
	objects, err := receive(r, dir)
	r.Close() // a child that still writes ends
	if child := <-done; child != nil {
		return nil, child
	}
	return objects, err
}

type asFunc func(ctx context.Context, a account, s streams, args ...string) error

// receive takes what sendHome sends, and believes none of it.
func receive(from io.Reader, dir string) ([]object, error) {
	in := bufio.NewReaderSize(from, lineMax)
	var objects []object
	seen := map[string]bool{}
	var total int64
	for {
		var o object
		if err := readLine(in, &o); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if o.Kind == objectEnd {
			return objects, nil
		}
		total += max(o.Size, 0)
		p := string(o.Path)
		if !isWatched(p) || seen[p] || len(objects) > objectMax || o.Size < 0 || total > totalMax || o.Mode > 0o7777 {
			return nil, fmt.Errorf("refused: %q", p)
		}
		seen[p] = true
		o.SHA256 = ""
		if o.Kind == objectFile {
			sum, err := spool(io.LimitReader(in, o.Size), o.Size, dir)
			if err != nil {
				return nil, err
			}
			o.SHA256 = sum
		} else {
			o.Size = 0
		}
		objects = append(objects, o)
	}
}

// spool writes a content into a file by the name of its sum.
func spool(content io.Reader, size int64, dir string) (sum string, err error) {
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), content)
	if err == nil && n < size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	return sum, os.Rename(f.Name(), filepath.Join(dir, sum))
}

// prepare makes the directories, for root only.
func (s store) prepare() error {
	for _, dir := range []string{storeDir, s.dir} {
		if err := s.root.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		fi, err := os.Lstat(s.root.Path(dir))
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return fmt.Errorf("%s is no directory", dir)
		}
		if err := os.Chmod(s.root.Path(dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}

// fresh makes an empty directory beside the backup.
func (s store) fresh() (string, error) {
	dir := s.path("new")
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	return dir, os.Mkdir(dir, 0o700)
}

// commit puts a spooled snapshot in the place of the backup, at once.
func (s store) commit(dir string, objects []object) error {
	data, err := json.Marshal(objects)
	if err != nil {
		return err
	}
	if err := s.root.WriteAtomic(s.root.Logical(filepath.Join(dir, manifestName)), data, 0o600); err != nil {
		return err
	}
	backup := s.path("backup")
	err = unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, backup, unix.RENAME_EXCHANGE)
	if errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(dir, backup)
	}
	if err != nil {
		return err
	}
	return errors.Join(s.root.SyncDir(s.dir), os.RemoveAll(dir))
}

// manifest reads what was committed.
func (s store) manifest() ([]object, error) {
	data, err := s.root.ReadFile(filepath.Join(s.dir, "backup", manifestName), manifestMax)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("nothing was committed for this account")
	}
	if err != nil {
		return nil, err
	}
	var objects []object
	if err := json.Unmarshal(data, &objects); err != nil {
		return nil, fmt.Errorf("%s/backup/%s: %w", s.dir, manifestName, err)
	}
	return objects, nil
}

// setAside keeps what is about to be replaced, under a number of its own, with a
// manifest of where it was.
func (s store) setAside(dir string, objects []object) (string, error) {
	if err := s.root.MkdirAll(filepath.Join(s.dir, "dangerous"), 0o700); err != nil {
		return "", err
	}
	for n := 1; ; n++ {
		to := s.path("dangerous", strconv.Itoa(n))
		err := os.Mkdir(to, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		for _, o := range objects {
			if o.SHA256 == "" {
				continue
			}
			if err := os.Link(filepath.Join(dir, o.SHA256), filepath.Join(to, o.SHA256)); err != nil && !errors.Is(err, fs.ErrExist) {
				return "", err
			}
		}
		data, err := json.Marshal(objects)
		if err != nil {
			return "", err
		}
		return s.root.Logical(to), s.root.WriteAtomic(s.root.Logical(filepath.Join(to, manifestName)), data, 0o600)
	}
}
