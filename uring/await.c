/* SPDX-License-Identifier: MIT */
/*
 * Kernel operations and sleeping, for coroutines.
 *
 * Operation, deadline and cancel all arrive on the waiting coroutine's own
 * ring, so no lock decides between them: deadline and cancel only mark the
 * wait and ask the kernel to end the operation, and its completion, which
 * always comes, is what wakes the coroutine.  A cancel that came too late to
 * end this wait stays for the next one.
 */
#include "uring/await.h"

#include <errno.h>

#include "uring/engine.h"

struct wait {
    struct op op;
    struct leaf leaf;
    struct co *co;
    int32_t result;
    bool timed_out;
    struct timer timer;
};

static void wait_done(struct op *op, int32_t result, uint32_t flags)
{
    struct wait *w = container_of(op, struct wait, op);

    (void)flags;
    w->result = result;
    run_push(this_ring, w->co);
}

static void wait_cancel(struct leaf *leaf)
{
    op_cancel(&container_of(leaf, struct wait, leaf)->op);
}

static void wait_deadline(struct timer *timer)
{
    struct wait *w = container_of(timer, struct wait, timer);

    w->timed_out = true;
    op_cancel(&w->op);
}

/* A cancel that this coroutine has not seen yet: it sees it now. */
static bool take_cancel(struct co *self)
{
    bool cancelled = self->cancelled;

    self->cancelled = false;
    return cancelled;
}

/* Ready to start the operation; false: cancelled. */
static inline bool wait_begin(struct wait *w)
{
    w->co = this_ring->running;
    if (unlikely(w->co->cancelled))
        return !take_cancel(w->co);
    w->op.done = wait_done;
    w->op.number = 0;
    w->leaf.cancel = wait_cancel;
    w->timed_out = false;
    w->timer.place = 0;
    return true;
}

/* Yield until the operation is over. */
static inline int co_fn wait_end(struct wait *w, uint64_t deadline)
{
    if (deadline != FOREVER) {
        w->timer.fn = wait_deadline;
        if (timer_set(&w->timer, deadline) < 0)
            wait_deadline(&w->timer); /* never wait for longer than was asked */
    }
    w->co->leaf = &w->leaf;
    co_yield ();
    w->co->leaf = NULL;
    if (deadline != FOREVER)
        timer_cancel(&w->timer);
    if (likely(w->result != -ECANCELED && w->result != -EINTR))
        return w->result;
    if (w->co->cancelled && take_cancel(w->co))
        return -ECANCELED;
    return w->timed_out ? -ETIMEDOUT : w->result;
}

int co_fn co_read(int fd, void *p, unsigned len, uint64_t offset)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_read(&w.op, fd, p, len, offset);
    return wait_end(&w, FOREVER);
}

int co_fn co_write(int fd, const void *p, unsigned len, uint64_t offset, int rw_flags)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_write(&w.op, fd, p, len, offset, rw_flags);
    return wait_end(&w, FOREVER);
}

int co_fn co_readv(int fd, const struct iovec *v, unsigned n, uint64_t offset)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_readv(&w.op, fd, v, n, offset);
    return wait_end(&w, FOREVER);
}

int co_fn co_writev(int fd, const struct iovec *v, unsigned n, uint64_t offset, int rw_flags)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_writev(&w.op, fd, v, n, offset, rw_flags);
    return wait_end(&w, FOREVER);
}

int co_fn co_fsync(int fd, bool data_only)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_fsync(&w.op, fd, data_only);
    return wait_end(&w, FOREVER);
}

int co_fn co_fallocate(int fd, int mode, uint64_t offset, uint64_t len)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_fallocate(&w.op, fd, mode, offset, len);
    return wait_end(&w, FOREVER);
}

int co_fn co_recv(int fd, void *p, size_t len, int flags, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_recv(&w.op, fd, p, len, flags);
    return wait_end(&w, deadline);
}

int co_fn co_recvmsg(int fd, struct msghdr *m, int flags, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_recvmsg(&w.op, fd, m, flags);
    return wait_end(&w, deadline);
}

int co_fn co_send(int fd, const void *p, size_t len, int flags, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_send(&w.op, fd, p, len, flags);
    return wait_end(&w, deadline);
}

int co_fn co_sendmsg(int fd, const struct msghdr *m, int flags, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_sendmsg(&w.op, fd, m, flags);
    return wait_end(&w, deadline);
}

int co_fn co_recv_all(int fd, void *p, size_t len, uint64_t deadline)
{
    for (char *at = p; len;) {
        int n = co_recv(fd, at, len, MSG_WAITALL, deadline);
        if (n <= 0)
            return n ? n : -ECONNRESET;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int co_fn co_send_all(int fd, const void *p, size_t len, uint64_t deadline)
{
    for (const char *at = p; len;) {
        int n = co_send(fd, at, len, MSG_WAITALL, deadline);
        if (n <= 0)
            return n ? n : -EPIPE;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

int co_fn co_accept(int fd, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_accept(&w.op, fd, false);
    return wait_end(&w, deadline);
}

int co_fn co_connect(int fd, const struct sockaddr *addr, socklen_t len, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_connect(&w.op, fd, addr, len);
    return wait_end(&w, deadline);
}

int co_fn co_poll(int fd, unsigned events, uint64_t deadline)
{
    struct wait w;

    if (!wait_begin(&w))
        return -ECANCELED;
    op_poll(&w.op, fd, events);
    return wait_end(&w, deadline);
}

/* ---- sleeping ---- */

struct sleep {
    struct timer timer;
    struct leaf leaf;
    struct co *co;
    bool cancelled;
};

static void sleep_over(struct timer *timer)
{
    run_push(this_ring, container_of(timer, struct sleep, timer)->co);
}

static void sleep_cancel(struct leaf *leaf)
{
    struct sleep *s = container_of(leaf, struct sleep, leaf);

    if (!s->timer.place) /* over already; the cancel stays for the next wait */
        return;
    s->cancelled = true;
    timer_cancel(&s->timer);
    run_push(this_ring, s->co);
}

int co_fn co_sleep_until(uint64_t when)
{
    struct co *self = this_ring->running;
    struct sleep s = { .timer.fn = sleep_over, .leaf.cancel = sleep_cancel, .co = self };

    if (self->cancelled && take_cancel(self))
        return -ECANCELED;
    int code = timer_set(&s.timer, when);
    if (code < 0)
        return code;
    self->leaf = &s.leaf;
    co_yield ();
    self->leaf = NULL;
    if (!s.cancelled)
        return 0;
    take_cancel(self);
    return -ECANCELED;
}

int co_fn co_sleep(uint64_t ns)
{
    uint64_t now = ring_now();

    return co_sleep_until(ns < FOREVER - now ? now + ns : FOREVER - 1);
}

/* ---- cancelling ---- */

static void cancel_here(struct co *co)
{
    co->cancelled = true;
    if (co->leaf)
        co->leaf->cancel(co->leaf);
}

/* The stack may have begun another life since: then this cancel is void. */
static void cancel_arrives(struct work *work)
{
    struct co *co = container_of(work, struct co, cancel);

    atomic_store(&co->cancel_posted, false);
    if (atomic_load(&co->cancel_serial) == co->serial && co->live)
        cancel_here(co);
}

void co_cancel(struct co *co)
{
    if (co->ring == this_ring) {
        cancel_here(co);
        return;
    }
    atomic_store(&co->cancel_serial, co->serial);
    if (!atomic_exchange(&co->cancel_posted, true)) {
        co->cancel.fn = cancel_arrives;
        ring_post(co->ring, &co->cancel);
    }
}

bool co_cancelled(void)
{
    return this_ring->running->cancelled;
}
