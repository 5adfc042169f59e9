/* SPDX-License-Identifier: MIT */
/*
 * One ring: its io_uring, its inbox and its loop.
 *
 * The kernel is entered once a turn, to submit and wait together.  With
 * DEFER_TASKRUN completions appear only inside such a call, so a turn that has
 * other work enters the kernel, without waiting, only when there is something
 * to submit or the kernel has flagged task work.
 */
#include "uring/engine.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

enum {
    CQ_FACTOR = 16,    /* CQ entries for each SQ entry */
    IOWQ_BOUNDED = 16, /* kernel threads per ring for file work that can't be started inline */
    IOWQ_UNBOUNDED = 32,
};

__thread struct ring *this_ring;

uint64_t clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t ring_now(void)
{
    if (unlikely(this_ring && this_ring->virtual))
        return virtual_now();
    return clock_now();
}

uint64_t ring_turn_now(void)
{
    struct ring *r = this_ring;

    return likely(r && r->turn_now) ? r->turn_now : ring_now();
}

/* ---- set-up ---- */

int ring_queue_init(struct io_uring *u, unsigned entries, ring_setup_fn *setup)
{
    /* Each flag with those that can't be without it; newest kernels' first. */
    static const unsigned give_up[] = {
        IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_SINGLE_ISSUER,
        IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
        IORING_SETUP_SUBMIT_ALL,
        IORING_SETUP_CQSIZE,
    };
    unsigned flags = IORING_SETUP_CQSIZE;
    for (unsigned i = 0; i < sizeof(give_up) / sizeof(*give_up); i++)
        flags |= give_up[i];

    if (RUNNING_ON_VALGRIND)
        flags &= ~give_up[0];
    for (unsigned i = 0;; i++) {
        struct io_uring_params p = { .flags = flags, .cq_entries = entries * CQ_FACTOR };
        int code = setup(entries, u, &p);
        if (code != -EINVAL || i == sizeof(give_up) / sizeof(*give_up))
            return code;
        flags &= ~give_up[i];
    }
}

int ring_explain(struct err *err, int code)
{
    char text[16] = "";
    FILE *f;

    switch (code) {
    case -ENOSYS:
        return err_set(
            err, code,
            "this kernel offers no io_uring (Linux 5.15 or newer with CONFIG_IO_URING is "
            "needed, and no seccomp filter that hides it)");
    case -EPERM:
        f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
        if (f && !fgets(text, sizeof(text), f))
            text[0] = 0;
        if (f)
            fclose(f);
        if (text[0] == '2')
            return err_set(err, code,
                           "io_uring is switched off on this host: set sysctl "
                           "kernel.io_uring_disabled to 0 (it is 2)");
        if (text[0] == '1')
            return err_set(err, code,
                           "io_uring is kept for privileged users on this host: set sysctl "
                           "kernel.io_uring_disabled to 0 (it is 1), or join the group that "
                           "kernel.io_uring_group names, or grant CAP_SYS_ADMIN");
        return err_set(err, code,
                       "io_uring is forbidden to this process, most likely by a seccomp filter of "
                       "the container or service: allow io_uring_setup, io_uring_enter and "
                       "io_uring_register");
    case -ENOMEM:
        return err_set(err, code,
                       "not enough memory that may be locked for io_uring: raise RLIMIT_MEMLOCK "
                       "(ulimit -l, or LimitMEMLOCK= of the service)");
    default: return err_set_errno(err, code, "cannot create an io_uring");
    }
}

static void arm_event(struct ring *r)
{
    op_read(&r->event_op, r->event_fd, &r->event_value, sizeof(r->event_value), 0);
}

static void event_came(struct op *op, int32_t result, uint32_t flags)
{
    struct ring *r = container_of(op, struct ring, event_op);

    (void)flags;
    if (result == sizeof(r->event_value))
        arm_event(r);
    else if (result != -ECANCELED)
        log_error("ring %u: cannot read its eventfd: %s", r->index, strerror(-result));
}

int ring_setup(struct ring *r, unsigned entries, struct err *err)
{
    int code = ring_queue_init(&r->u, entries, io_uring_queue_init_params);

    if (code < 0)
        return ring_explain(err, code);
    r->has_uring = true;
    r->polls = RUNNING_ON_VALGRIND;
    r->bell_fd = r->u.ring_fd;
    io_uring_register_ring_fd(&r->u); /* saves a look-up per system call, where it works */
    unsigned workers[2] = { IOWQ_BOUNDED, IOWQ_UNBOUNDED };
    io_uring_register_iowq_max_workers(&r->u, workers);
    struct io_uring_probe *probe = io_uring_get_probe_ring(&r->u);
    r->msg_ring = probe && io_uring_opcode_supported(probe, IORING_OP_MSG_RING);
    io_uring_free_probe(probe);
    size_t bytes = sizeof(struct stashed_cqe) << OP_INDEX_BITS;
    r->stash = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->stash == MAP_FAILED) {
        r->stash = NULL;
        return err_set(err, -ENOMEM, "no memory for ring %u", r->index);
    }
    r->event_op.done = event_came;
    arm_event(r);
    return 0;
}

void ring_teardown(struct ring *r)
{
    if (r->has_uring)
        io_uring_queue_exit(&r->u);
    r->has_uring = false;
    if (r->stash)
        munmap(r->stash, sizeof(struct stashed_cqe) << OP_INDEX_BITS);
    r->stash = NULL;
}

/* ---- submission ---- */

/* Take completions out of the CQ so that the kernel can go on; they are handled in their turn. */
static void stash_completions(struct ring *r)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&r->u, head, cqe)
    {
        if (r->stash_tail - r->stash_head == 1u << OP_INDEX_BITS)
            break;
        r->stash[r->stash_tail++ & ((1u << OP_INDEX_BITS) - 1)] = (struct stashed_cqe){
            .user_data = cqe->user_data,
            .res = cqe->res,
            .flags = cqe->flags,
        };
        n++;
    }
    io_uring_cq_advance(&r->u, n);
}

static void count_submitted(struct ring *r, int n)
{
    if (n > 0)
        stat_add(&r->stats.submitted, (uint64_t)n);
}

/* The SQ is full: submit in the middle of the turn. */
struct io_uring_sqe *ring_sqe_slow(struct ring *r)
{
    struct io_uring_sqe *sqe;

    if (r->virtual)
        return virtual_sqe(r);
    for (;;) {
        int n = io_uring_submit(&r->u);
        count_submitted(r, n);
        sqe = io_uring_get_sqe(&r->u);
        if (sqe)
            return sqe;
        /* The kernel is short of memory or its CQ is full. */
        stash_completions(r);
        io_uring_get_events(&r->u);
        if (n == -EAGAIN)
            sched_yield();
    }
}

/* ---- messages ---- */

static void ring_bell(struct ring *to)
{
    uint64_t one = 1;

    while (write(to->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void doorbell(struct ring *to)
{
    struct ring *r = this_ring;

    if (!r || !r->looping || !r->msg_ring || to->bell_fd < 0) {
        ring_bell(to);
        return;
    }
    struct io_uring_sqe *sqe = ring_sqe(r);
    io_uring_prep_msg_ring(sqe, to->bell_fd, 0, NUMBER_IGNORED, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = DOORBELL_MARK | to->index;
}

void ring_post(struct ring *to, struct work *work)
{
    struct work *old = atomic_load_explicit(&to->inbox, memory_order_relaxed);

    do {
        work->next = old;
    } while (!atomic_compare_exchange_weak(&to->inbox, &old, work));
    /* Who found messages there leaves the bell to who put the first. */
    if (!old && atomic_load(&to->sleeping) && atomic_exchange(&to->sleeping, false))
        doorbell(to);
}

bool ring_has_messages(struct ring *r)
{
    return r->taken || atomic_load_explicit(&r->inbox, memory_order_relaxed);
}

bool ring_take_message(struct ring *r)
{
    if (!r->taken) {
        if (!atomic_load_explicit(&r->inbox, memory_order_relaxed))
            return false;
        struct work *w = atomic_exchange_explicit(&r->inbox, NULL, memory_order_acquire);
        while (w) { /* last in came first: turn round */
            struct work *next = w->next;
            w->next = r->taken;
            r->taken = w;
            w = next;
        }
    }
    struct work *w = r->taken;
    r->taken = w->next;
    w->fn(w);
    return true;
}

void ring_take_inbox(struct ring *r)
{
    for (unsigned i = 0; i < TURN_MAX && ring_take_message(r); i++)
        ;
}

void ring_defer(struct work *work)
{
    struct ring *r = this_ring;

    work->next = NULL;
    *r->defer_tail = work;
    r->defer_tail = &work->next;
}

/* Run what was deferred so far; what is deferred meanwhile waits for the next turn. */
void ring_run_deferred(struct ring *r)
{
    struct work *w = r->defer_head;

    r->defer_head = NULL;
    r->defer_tail = &r->defer_head;
    while (w) {
        struct work *next = w->next;
        w->fn(w);
        w = next;
    }
}

/* ---- the loop ---- */

static void complete(struct ring *r, uint64_t user_data, int32_t res, uint32_t flags)
{
    if (unlikely(user_data & DOORBELL_MARK)) {
        struct ring *to = user_data >> 33 ? NULL : ring_started((unsigned)user_data);
        if (to && res < 0)
            ring_bell(to);
        return;
    }
    op_complete(r, user_data, res, flags);
}

static void reap(struct ring *r)
{
    unsigned n = 0;

    while (unlikely(r->stash_head != r->stash_tail) && n < TURN_MAX) {
        const struct stashed_cqe c = r->stash[r->stash_head++ & ((1u << OP_INDEX_BITS) - 1)];
        complete(r, c.user_data, c.res, c.flags);
        n++;
    }
    while (n < TURN_MAX && r->stash_head == r->stash_tail) {
        struct io_uring_cqe *cqe;
        unsigned head = *r->u.cq.khead;
        if (head == io_uring_smp_load_acquire(r->u.cq.ktail))
            break;
        cqe = &r->u.cq.cqes[head & r->u.cq.ring_mask];
        uint64_t user_data = cqe->user_data;
        int32_t res = cqe->res;
        uint32_t flags = cqe->flags;
        /* Give the entry back first: the handler may submit, and so need a free CQ. */
        io_uring_cq_advance(&r->u, 1);
        complete(r, user_data, res, flags);
        n++;
    }
}

static void run_ready(struct ring *r)
{
    for (unsigned n = 0; n < TURN_MAX && r->run_head; n++)
        co_resume(r, run_pop(r));
}

static bool work_left(struct ring *r)
{
    return r->run_head || r->defer_head || r->dead_head || ring_has_messages(r) ||
           r->stash_head != r->stash_tail || io_uring_cq_ready(&r->u);
}

/* Submit what is queued, then wait awake until @until for a completion or a message.
 * Return: true when there is one. */
static bool wait_awake(struct ring *r, uint64_t until)
{
    count_submitted(r, io_uring_submit_and_get_events(&r->u));
    do {
        if (io_uring_smp_load_acquire(r->u.sq.kflags) & IORING_SQ_TASKRUN)
            io_uring_get_events(&r->u);
        if (io_uring_cq_ready(&r->u) || ring_has_messages(r))
            return true;
        cpu_relax();
    } while (clock_now() < until);
    return false;
}

/* Valgrind lets one thread run at a time, and does not know that io_uring_enter() may wait; of poll() it does.
 * Completions that the kernel puts off until it is entered would not end the poll(): see ring_queue_init(). */
static void wait_in_poll(struct ring *r, uint64_t now, uint64_t when)
{
    struct pollfd p = { .fd = r->u.ring_fd, .events = POLLIN };
    uint64_t ms = when > now ? (when - now) / NS_PER_MS + 1 : 0;

    io_uring_submit_and_get_events(&r->u);
    if (!io_uring_cq_ready(&r->u))
        poll(&p, 1, ms < INT32_MAX ? (int)ms : -1);
    io_uring_get_events(&r->u);
}

/* Submit, and wait for the kernel or a message, until @when. */
static void wait_asleep(struct ring *r, uint64_t now, uint64_t when)
{
    atomic_store(&r->sleeping, true);
    if (atomic_load(&r->inbox)) {
        atomic_store_explicit(&r->sleeping, false, memory_order_relaxed);
        return;
    }
    unsigned queued = io_uring_sq_ready(&r->u);
    if (unlikely(r->polls)) {
        wait_in_poll(r, now, when);
    } else if (when == UINT64_MAX) {
        io_uring_submit_and_wait(&r->u, 1);
    } else {
        uint64_t ns = when > now ? when - now : 0;
        struct __kernel_timespec ts = { .tv_sec = (int64_t)(ns / NS_PER_S),
                                        .tv_nsec = (long long)(ns % NS_PER_S) };
        struct io_uring_cqe *cqe;
        io_uring_submit_and_wait_timeout(&r->u, &cqe, 1, &ts, NULL);
    }
    count_submitted(r, (int)(queued - io_uring_sq_ready(&r->u)));
    stat_add(&r->stats.sleeps, 1);
    atomic_store_explicit(&r->sleeping, false, memory_order_relaxed);
}

/* Nothing to do: wait until there is, or a timer is due.  The control ring never waits awake. */
static void ring_wait(struct ring *r)
{
    uint64_t when = timer_next(r), began = clock_now();

    if (began - r->turn_now > NS_PER_S)
        watchdog_slow_turn(r, began - r->turn_now);
    if (r->index == 0 || !spin_worth(&r->spin) || when < began + SPIN_NS ||
        !wait_awake(r, began + SPIN_NS))
        wait_asleep(r, began, when);
    r->turn_now = clock_now();
    spin_learn(&r->spin, r->turn_now - began);
}

/* Told to leave, and only the submission of what is queued keeps it: no reason to sleep. */
static bool about_to_leave(struct ring *r)
{
    return r->stopping && (op_in_flight_count(r) <= 1 || r->gave_up);
}

static void enter_kernel(struct ring *r)
{
    if (!work_left(r) && !about_to_leave(r)) {
        watchdog_arm(r);
        ring_wait(r);
        return;
    }
    unsigned kernel = io_uring_smp_load_acquire(r->u.sq.kflags);
    if (io_uring_sq_ready(&r->u) || (kernel & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)))
        count_submitted(r, io_uring_submit_and_get_events(&r->u));
    uint64_t now = clock_now();
    if (unlikely(now - r->turn_now > NS_PER_S))
        watchdog_slow_turn(r, now - r->turn_now);
    r->turn_now = now;
}

static void turn(struct ring *r)
{
    stat_add(&r->stats.turns, 1);
    ring_take_inbox(r);
    reap(r);
    if (unlikely(r->dead_head != NULL))
        op_fail_dead(r);
    if (timer_next(r) <= r->turn_now)
        timer_fire(r, r->turn_now);
    run_ready(r);
    if (unlikely(!list_empty(&r->spawn_waiting)))
        spawn_retry(r);
    if (r->defer_head)
        ring_run_deferred(r);
}

/* A data ring leaves when it was told to and has nothing to do at this moment; the control ring when
 * ring_stop() was called.
 */
static bool leave_loop(struct ring *r)
{
    if (r->index == 0)
        return atomic_load_explicit(&r->stop, memory_order_acquire);
    return about_to_leave(r) && !work_left(r) && !io_uring_sq_ready(&r->u);
}

void ring_stop_event(struct ring *r)
{
    op_cancel(&r->event_op);
    while (op_in_flight(&r->event_op) && io_uring_submit_and_wait(&r->u, 1) >= 0)
        reap(r);
}

void ring_loop(struct ring *r)
{
    r->looping = true;
    r->turn_now = clock_now();
    for (;;) {
        turn(r);
        if (unlikely(leave_loop(r)))
            break;
        enter_kernel(r);
    }
    r->looping = false;
    count_submitted(r, io_uring_submit(&r->u));
    r->turn_now = 0;
}
