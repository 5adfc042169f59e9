/* SPDX-License-Identifier: MIT */
/*
 * Virtual rings: the same struct ring without an io_uring and without a loop.
 * One thread plays all of them, one step at a time, in the order that the test
 * chooses, so that every run can be repeated.
 */
#include "uring/virtual.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "uring/engine.h"

enum { RUN_STEPS_MAX = 1000 * 1000, EXPLORE_STEPS_MAX = 20000 };
#define VIRTUAL_EPOCH NS_PER_S /* the clock at the start: not 0, which means "never read" */

/* An operation in the "kernel". */
struct virtual_op {
    struct list link;
    struct io_uring_sqe sqe;
    bool cancelled;
};

struct virtual_ring {
    struct list ops; /* oldest first */
};

static uint64_t clock_ns = VIRTUAL_EPOCH;
static bool held;

uint64_t virtual_now(void)
{
    return clock_ns;
}

/* ---- life ---- */

void virtual_rings_init(unsigned count)
{
    clock_ns = VIRTUAL_EPOCH;
    held = false;
    rings_install_count(count);
    for (unsigned i = 0; i <= count; i++) {
        struct ring *r = ring_alloc(i);
        struct virtual_ring *v = calloc(1, sizeof(*v));
        if (!r || !v)
            abort(); /* a test without memory */
        list_init(&v->ops);
        r->virtual = v;
        r->turn_now = clock_ns;
        rings_install(r);
    }
    this_ring = ring_started(0);
}

void virtual_rings_exit(void)
{
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *r = ring_started(i);
        struct list *item;
        while ((item = list_pop_front(&r->virtual->ops)))
            free(container_of(item, struct virtual_op, link));
        free(r->virtual);
        rings_remove(i);
        ring_free(r);
    }
    this_ring = NULL;
}

/* ---- kernel operations ---- */

struct io_uring_sqe *virtual_sqe(struct ring *r)
{
    struct virtual_op *v = calloc(1, sizeof(*v));

    if (!v)
        abort(); /* a test without memory */
    list_push_back(&r->virtual->ops, &v->link);
    return &v->sqe;
}

static int result_of(ssize_t n)
{
    return n < 0 ? -errno : (int)n;
}

static int perform_rw(const struct io_uring_sqe *s)
{
    struct iovec one = { .iov_base = (void *)(uintptr_t)s->addr, .iov_len = s->len };
    bool vector = s->opcode == IORING_OP_READV || s->opcode == IORING_OP_WRITEV;
    const struct iovec *v = vector ? (const struct iovec *)(uintptr_t)s->addr : &one;
    int n = vector ? (int)s->len : 1;

    if (s->opcode == IORING_OP_READ || s->opcode == IORING_OP_READV)
        return result_of(preadv2(s->fd, v, n, (off_t)s->off, s->rw_flags));
    return result_of(pwritev2(s->fd, v, n, (off_t)s->off, s->rw_flags));
}

/* What is ready of @events; 0: nothing.  A signal in between is no answer. */
static int poll_now(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };
    int n;

    do
        n = poll(&p, 1, 0);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n == 0 ? 0 : p.revents;
}

static int perform_poll(const struct io_uring_sqe *s)
{
    int n = poll_now(s->fd, (short)s->poll32_events);

    return n ? n : -EAGAIN;
}

static int perform_socket(const struct io_uring_sqe *s)
{
    void *p = (void *)(uintptr_t)s->addr;
    int flags = (int)s->msg_flags | MSG_DONTWAIT;

    switch (s->opcode) {
    case IORING_OP_RECV: return result_of(recv(s->fd, p, s->len, flags));
    case IORING_OP_SEND: return result_of(send(s->fd, p, s->len, flags));
    case IORING_OP_RECVMSG: return result_of(recvmsg(s->fd, p, flags));
    default: return result_of(sendmsg(s->fd, p, flags));
    }
}

/* -EAGAIN: it would block. */
static int perform(const struct io_uring_sqe *s)
{
    switch (s->opcode) {
    case IORING_OP_NOP: return 0;
    case IORING_OP_READ:
    case IORING_OP_READV:
    case IORING_OP_WRITE:
    case IORING_OP_WRITEV: return perform_rw(s);
    case IORING_OP_FSYNC:
        return result_of(s->fsync_flags & IORING_FSYNC_DATASYNC ? fdatasync(s->fd) : fsync(s->fd));
    case IORING_OP_FALLOCATE:
        return result_of(fallocate(s->fd, (int)s->len, (off_t)s->off, (off_t)s->addr));
    case IORING_OP_RECV:
    case IORING_OP_SEND:
    case IORING_OP_RECVMSG:
    case IORING_OP_SENDMSG: return perform_socket(s);
    case IORING_OP_POLL_ADD: return perform_poll(s);
    case IORING_OP_ACCEPT:
        if (!poll_now(s->fd, POLLIN))
            return -EAGAIN;
        return result_of(accept4(s->fd, NULL, NULL, (int)s->accept_flags));
    case IORING_OP_CONNECT:
        return result_of(
            connect(s->fd, (const struct sockaddr *)(uintptr_t)s->addr, (socklen_t)s->off));
    default: return -EINVAL;
    }
}

/* Could this one be carried out now?  Looks only. */
static bool would_do(const struct virtual_op *v)
{
    const struct io_uring_sqe *s = &v->sqe;
    short events = POLLIN;

    if (v->cancelled)
        return true;
    switch (s->opcode) {
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG: events = POLLOUT; break;
    case IORING_OP_POLL_ADD: events = (short)s->poll32_events; break;
    case IORING_OP_RECV:
    case IORING_OP_RECVMSG:
    case IORING_OP_ACCEPT: break;
    default: return true;
    }
    return poll_now(s->fd, events) != 0;
}

static void finish(struct ring *r, struct virtual_op *v, int32_t result)
{
    uint64_t number = v->sqe.user_data;

    list_remove(&v->link);
    free(v);
    op_complete(r, number, result, 0);
}

static void cancel(struct ring *r, uint64_t number)
{
    struct virtual_op *v;

    list_for_each (v, &r->virtual->ops, link) {
        if (v->sqe.user_data == number && v->sqe.opcode != IORING_OP_ASYNC_CANCEL)
            v->cancelled = true;
    }
}

static struct virtual_op *oldest(struct ring *r)
{
    struct virtual_op *v;

    list_for_each (v, &r->virtual->ops, link) {
        if ((!held || v->cancelled || v->sqe.opcode == IORING_OP_ASYNC_CANCEL) && would_do(v))
            return v;
    }
    return NULL;
}

/* The "kernel" takes a step for ring @r. */
static bool kernel_step(struct ring *r)
{
    struct virtual_op *v = oldest(r);

    if (!v)
        return false;
    if (v->sqe.opcode == IORING_OP_ASYNC_CANCEL) {
        cancel(r, v->sqe.addr);
        finish(r, v, 0);
        return true;
    }
    int32_t result = v->cancelled ? -ECANCELED : perform(&v->sqe);
    finish(r, v, result);
    return true;
}

void virtual_hold(bool hold)
{
    held = hold;
}

unsigned virtual_ops(unsigned index)
{
    struct virtual_op *v;
    unsigned n = 0;

    list_for_each (v, &ring_started(index)->virtual->ops, link) {
        if (v->sqe.opcode != IORING_OP_ASYNC_CANCEL)
            n++;
    }
    return n;
}

void virtual_complete(unsigned index, int32_t result)
{
    struct ring *r = ring_started(index), *before = this_ring;
    struct virtual_op *v;

    list_for_each (v, &r->virtual->ops, link) {
        if (v->sqe.opcode == IORING_OP_ASYNC_CANCEL)
            continue;
        this_ring = r;
        finish(r, v, result);
        this_ring = before;
        return;
    }
}

/* ---- steps ---- */

/* One message, one coroutine or one deferred work. */
static bool soft_step(struct ring *r)
{
    r->turn_now = clock_ns;
    if (ring_take_message(r))
        return true;
    if (r->run_head) {
        co_resume(r, run_pop(r));
        return true;
    }
    struct work *w = r->defer_head;
    if (!w)
        return false;
    r->defer_head = w->next;
    if (!r->defer_head)
        r->defer_tail = &r->defer_head;
    w->fn(w);
    return true;
}

static bool soft_ready(struct ring *r)
{
    return ring_has_messages(r) || r->run_head || r->defer_head;
}

bool virtual_step(unsigned index)
{
    struct ring *r = ring_started(index), *before = this_ring;

    this_ring = r;
    bool did = soft_step(r) || kernel_step(r);
    this_ring = before;
    return did;
}

bool virtual_ready(unsigned index)
{
    struct ring *r = ring_started(index);

    return soft_ready(r) || oldest(r);
}

bool virtual_run(void)
{
    bool did = true;

    for (long steps = 0; did;) {
        did = false;
        for (unsigned i = 0; i <= rings_count(); i++) {
            if (!virtual_step(i))
                continue;
            did = true;
            if (++steps > RUN_STEPS_MAX)
                return false;
        }
    }
    return true;
}

void virtual_spawn(unsigned index, void (*fn)(void *arg), void *arg, const char *label)
{
    struct ring *before = this_ring;

    this_ring = ring_started(index);
    if (co_start(fn, arg, label) < 0)
        abort(); /* a test without memory */
    this_ring = before;
}

void virtual_advance(uint64_t ns)
{
    struct ring *before = this_ring;

    clock_ns += ns;
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *r = this_ring = ring_started(i);
        r->turn_now = clock_ns;
        while (timer_next(r) <= clock_ns)
            timer_fire(r, clock_ns);
    }
    this_ring = before;
}

/* ---- a worker thread's call: one step of the ring that asked ---- */

struct block {
    struct work work;
    int (*fn)(void *arg);
    void *arg;
    int result;
    struct co *co;
};

static void block_run(struct work *work)
{
    struct block *b = container_of(work, struct block, work);

    b->result = b->fn(b->arg);
    co_wake(b->co);
}

int virtual_block(int (*fn)(void *arg), void *arg)
{
    struct block b = { .work.fn = block_run, .fn = fn, .arg = arg, .co = co_self() };

    ring_post(this_ring, &b.work);
    co_yield ();
    return b.result;
}

/* ---- every order ---- */

/* What may happen next: ring choice / 2 takes a step, or (odd) its kernel does. */
struct turn_point {
    unsigned char choice[2 * (RINGS_MAX + 1)];
    unsigned count, taken;
};

struct search {
    struct turn_point *path;
    size_t length, room;
    unsigned preemptions; /* allowed in one run */
};

static void choices(struct turn_point *p, int last, bool may_leave)
{
    unsigned n = 0;

    p->count = 0;
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *r = ring_started(i);
        if (soft_ready(r))
            p->choice[n++] = (unsigned char)(2 * i);
        if (oldest(r))
            p->choice[n++] = (unsigned char)(2 * i + 1);
    }
    p->count = n;
    for (unsigned i = 0; i < n; i++) { /* go on with the last one first */
        if (p->choice[i] != last)
            continue;
        p->choice[i] = p->choice[0];
        p->choice[0] = (unsigned char)last;
        if (!may_leave)
            p->count = 1;
    }
}

static void take_choice(unsigned choice)
{
    struct ring *r = ring_started(choice / 2), *before = this_ring;

    this_ring = r;
    r->turn_now = clock_ns;
    if (choice & 1)
        kernel_step(r);
    else
        soft_step(r);
    this_ring = before;
}

/* Move to the next timer; false: there is none. */
static bool advance_to_timer(void)
{
    uint64_t when = UINT64_MAX;

    for (unsigned i = 0; i <= rings_count(); i++)
        if (timer_next(ring_started(i)) < when)
            when = timer_next(ring_started(i));
    if (when == UINT64_MAX)
        return false;
    virtual_advance(when > clock_ns ? when - clock_ns : 0);
    return true;
}

static struct turn_point *point_at(struct search *s, size_t at)
{
    if (at == s->room) {
        s->room = s->room ? 2 * s->room : 256;
        s->path = realloc(s->path, s->room * sizeof(*s->path));
        if (!s->path)
            abort(); /* a test without memory */
    }
    return &s->path[at];
}

/* One run along the path, then always the first choice; false: it does not end. */
static bool run_once(struct search *s)
{
    unsigned left = s->preemptions;
    int last = -1;

    for (size_t at = 0; at < EXPLORE_STEPS_MAX;) {
        struct turn_point *p = point_at(s, at), now;
        choices(&now, last, left > 0);
        if (!now.count) {
            if (advance_to_timer())
                continue; /* endless timers: the test's fault, and its time limit */
            s->length = at;
            return true;
        }
        now.taken = at < s->length ? p->taken : 0;
        if (at >= s->length)
            s->length = at + 1;
        *p = now;
        if (now.choice[0] == last && now.taken > 0)
            left--;
        last = now.choice[now.taken];
        at++;
        take_choice((unsigned)last);
    }
    return false;
}

/* Coroutines that wait for what never comes. */
static bool all_ended(void)
{
    bool ended = true;

    for (unsigned i = 0; i <= rings_count(); i++) {
        struct ring *r = ring_started(i);
        struct co *co;
        list_for_each (co, &r->stacks, all) {
            if (!co->live || co->exempt)
                continue;
            log_error("virtual ring %u: '%s' waits for ever", i, co->label);
            ended = false;
        }
    }
    return ended;
}

/* The next path in depth-first order; false: that was the last. */
static bool next_path(struct search *s)
{
    while (s->length) {
        struct turn_point *p = &s->path[s->length - 1];
        if (p->taken + 1 < p->count) {
            p->taken++;
            return true;
        }
        s->length--;
    }
    return false;
}

static void print_path(const struct search *s, long run)
{
    char line[256];
    size_t used = 0;

    for (size_t i = 0; i < s->length && used < sizeof(line) - 8; i++)
        used += (size_t)snprintf(line + used, sizeof(line) - used, " %u%s",
                                 s->path[i].choice[s->path[i].taken] / 2,
                                 s->path[i].choice[s->path[i].taken] & 1 ? "k" : "");
    line[used] = 0;
    log_error("virtual rings: interleaving %ld fails; rings' steps:%s", run, line);
}

long virtual_explore_bounded(unsigned count, void (*setup)(void), bool (*check)(void), long limit,
                             unsigned preemptions)
{
    struct search s = { .preemptions = preemptions };
    long runs = 0;
    bool ok = true, more = true;

    while (ok && more && runs < limit) {
        virtual_rings_init(count);
        setup();
        bool ends = run_once(&s) && all_ended();
        ok = ends && check();
        virtual_rings_exit();
        runs++;
        if (!ok)
            print_path(&s, runs);
        more = next_path(&s);
    }
    free(s.path);
    return ok ? runs : -runs;
}

long virtual_explore(unsigned count, void (*setup)(void), bool (*check)(void), long limit)
{
    return virtual_explore_bounded(count, setup, check, limit, UINT32_MAX);
}
