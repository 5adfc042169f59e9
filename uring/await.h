/* SPDX-License-Identifier: MIT */
/*
 * Kernel operations for coroutines: each yields until its completion is there
 * and returns its result: >= 0 or a negative errno, short counts included
 * unless the name says _all.  A deadline is a ring_now() time in ns, or
 * FOREVER; past it the operation is cancelled, still waited for, and
 * -ETIMEDOUT returned.
 */
#ifndef URING_AWAIT_H
#define URING_AWAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "uring/co.h"

#define FOREVER UINT64_MAX

int co_fn co_read(int fd, void *p, unsigned len, uint64_t offset);
int co_fn co_write(int fd, const void *p, unsigned len, uint64_t offset, int rw_flags);
int co_fn co_readv(int fd, const struct iovec *v, unsigned n, uint64_t offset);
int co_fn co_writev(int fd, const struct iovec *v, unsigned n, uint64_t offset, int rw_flags);
int co_fn co_fsync(int fd, bool data_only);
int co_fn co_fallocate(int fd, int mode, uint64_t offset, uint64_t len);

int co_fn co_recv(int fd, void *p, size_t len, int flags, uint64_t deadline);
int co_fn co_recvmsg(int fd, struct msghdr *m, int flags, uint64_t deadline);
int co_fn co_send(int fd, const void *p, size_t len, int flags, uint64_t deadline);
int co_fn co_sendmsg(int fd, const struct msghdr *m, int flags, uint64_t deadline);
/* All of it, or a negative errno; the end of the stream before that is -ECONNRESET. */
int co_fn co_recv_all(int fd, void *p, size_t len, uint64_t deadline);
int co_fn co_send_all(int fd, const void *p, size_t len, uint64_t deadline);

int co_fn co_accept(int fd, uint64_t deadline); /* the new descriptor, CLOEXEC */
int co_fn co_connect(int fd, const struct sockaddr *addr, socklen_t len, uint64_t deadline);

/** co_poll - wait for POLLIN etc. on a descriptor that a library owns; returns the events */
int co_fn co_poll(int fd, unsigned events, uint64_t deadline);

/** co_sleep - for @ns; 0, or -ECANCELED when cancelled by co_cancel() */
int co_fn co_sleep(uint64_t ns);
int co_fn co_sleep_until(uint64_t when);

/** co_cancel - end the leaf wait (operation in the kernel, timer, throttle) that a coroutine is in, or the
 * next one it begins, with -ECANCELED.  Any ring.  Waits for locks are never interrupted.  The
 * caller must know that @co still lives.
 */
void co_cancel(struct co *co);

/** co_cancelled - was this coroutine cancelled and has not yet seen it? */
bool co_cancelled(void);

#endif
