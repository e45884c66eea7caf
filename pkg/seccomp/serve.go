// SPDX-License-Identifier: GPL-3.0-or-later

package seccomp

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Handler answers a notification. It answers each exactly once; what it leaves
// without an answer waits until the listener is closed.
type Handler func(*Notification)

// Serve hands every notification to handle, in at most workers goroutines;
// more calls than that wait their turn. It returns nil when no thread with the
// filter is left or ctx ends, after the last handler has returned.
func (l *Listener) Serve(ctx context.Context, workers int, handle Handler) error {
	wake, err := newWaker(ctx)
	if err != nil {
		return err
	}
	defer wake.close()
	p := newPool(workers, handle)
	defer p.close()
	for {
		n, err := l.next(wake.fd)
		switch {
		case errors.Is(err, ErrClosed), errors.Is(err, context.Canceled):
			return nil
		case errors.Is(err, ErrGone), errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("receive a notification: %w", err)
		default:
			p.work <- n
		}
	}
}

// next waits for a notification, for the end of the last thread, or for wake.
func (l *Listener) next(wake int) (*Notification, error) {
	fds := []unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, -1); err != nil {
		return nil, err
	}
	switch {
	case fds[1].Revents != 0:
		return nil, context.Canceled
	case fds[0].Revents&unix.POLLIN != 0:
		n, err := l.receive()
		return &n, err
	case fds[0].Revents&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0:
		return nil, ErrClosed
	}
	return nil, unix.EINTR
}

// waker is a descriptor that can be read once a context has ended.
type waker struct {
	fd      int
	unasked chan struct{}
	done    sync.WaitGroup
}

func newWaker(ctx context.Context) (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &waker{fd: fd, unasked: make(chan struct{})}
	w.done.Add(1)
	go func() {
		defer w.done.Done()
		select {
		case <-ctx.Done():
			// The first write into an eventfd of ours cannot fail.
			_, _ = unix.Write(w.fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		case <-w.unasked:
		}
	}()
	return w, nil
}

func (w *waker) close() {
	close(w.unasked)
	w.done.Wait()
	unix.Close(w.fd)
}

// pool is the goroutines that handle notifications.
type pool struct {
	work chan *Notification
	done sync.WaitGroup
}

func newPool(workers int, handle Handler) *pool {
	p := &pool{work: make(chan *Notification)}
	for range max(workers, 1) {
		p.done.Add(1)
		go func() {
			defer p.done.Done()
			for n := range p.work {
				handle(n)
			}
		}()
	}
	return p
}

func (p *pool) close() {
	close(p.work)
	p.done.Wait()
}
