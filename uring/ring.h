/* SPDX-License-Identifier: MIT */
/*
 * Rings: one thread, one io_uring, one loop and one run queue each.  Ring 0 is
 * the control ring, the thread that called rings_init(); data rings 1..N are
 * started when they are first given work, each creating its io_uring itself.
 * This is the only folder that knows liburing.
 *
 * A turn of the loop: take the inbox, handle completions and due timers, run
 * the ready coroutines, run what was deferred to the end of the turn, submit
 * and, if nothing is ready, wait in the kernel.
 */
#ifndef URING_RING_H
#define URING_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "uring/co.h"

enum { RINGS_MAX = 64, RINGS_DEFAULT_MAX = 16 };

struct ring;
extern __thread struct ring *this_ring; /* NULL on threads that have none */

struct rings_config {
    unsigned count;   /* data rings; 0: one per CPU allowed (affinity, cgroup quota), at most 16 */
    bool no_pin;      /* don't pin data rings to CPUs */
    unsigned entries; /* submission entries per ring; 0: 256 */
};

/** rings_init - make the calling thread the control ring and prepare the data rings
 * A kernel without io_uring, or with it disabled (sysctl kernel.io_uring_disabled, seccomp), gets a
 * sentence that says which and what to do.
 */
int rings_init(const struct rings_config *config, struct err *err);

/** rings_exit - stop and join all data rings, free everything; no coroutine may live any more */
void rings_exit(void);

/** rings_count - data rings there can be; ring_index() of any ring is <= this */
unsigned rings_count(void);
unsigned ring_index(const struct ring *ring);
struct ring *ring_control(void);

/** ring_get - ring @index (0: control), started if it was not yet; control ring only, may yield when
 * called from a coroutine, else blocks until the new thread is up
 */
struct ring *ring_get(unsigned index, struct err *err);

/** ring_cpu - the CPU to which data ring @index is pinned, started or not; -1: to none */
int ring_cpu(unsigned index);

/** ring_started - ring @index, or NULL if nobody started it; any thread */
struct ring *ring_started(unsigned index);

/** ring_run - run this thread's loop until ring_stop(); ring_stop - any ring asks the control ring's
 * loop to return
 */
void ring_run(void);
void ring_stop(void);

/** ring_load - how many connections and queues live on a ring, for spreading; ring_load_add changes it */
unsigned ring_load(const struct ring *ring);
void ring_load_add(struct ring *ring, int delta);

/** ring_now - CLOCK_MONOTONIC, ns; ring_turn_now - the same as read at most once per turn of the loop */
uint64_t ring_now(void);
uint64_t ring_turn_now(void);

/* A message to a ring: fn runs once, on that ring's thread, outside any coroutine. */
struct work {
    struct work *next;
    void (*fn)(struct work *work);
};

/** ring_post - hand @work to @to; any thread, foreign ones included.  The memory is the callee's until
 * fn runs.  Order from one sender is kept.  Wake-ups are batched.  Never fails.
 */
void ring_post(struct ring *to, struct work *work);

/** ring_defer - run @work at the end of this turn of this ring's loop, before it submits and sleeps */
void ring_defer(struct work *work);

/** ring_call - run @fn in a coroutine on @to and wait for what it returns (this ring: a plain call)
 * Return: fn's result; -ENOMEM when @to has no stack for it.
 */
int co_fn ring_call(struct ring *to, int (*fn)(void *arg), void *arg);

/** ring_spawn - start a coroutine on @to and don't wait; 0 or -ENOMEM */
int ring_spawn(struct ring *to, void (*fn)(void *arg), void *arg, const char *label);

/** rings_call_all - ring_call() on every started ring (the control ring included) side by side
 * Return: the first negative result, else 0.
 */
int co_fn rings_call_all(int (*fn)(void *arg), void *arg);

/* A timer of this ring. */
struct timer {
    uint64_t when;  /* ring_now() scale */
    unsigned place; /* 1 + index in the ring's heap; 0: not set */
    void (*fn)(struct timer *timer);
};

/** timer_set - call fn on this ring at @when ns (moved if it was set); timer_cancel - don't
 * 0 or -ENOMEM.
 */
int timer_set(struct timer *timer, uint64_t when);
void timer_cancel(struct timer *timer);

/** ring_block - worker threads: run fn(arg) on one and wait; for calls that block (opening, DNS,
 * fsync of a directory, libraries).  At most 16 run at once, more queue up.
 * Return: fn's result.
 */
int co_fn ring_block(int (*fn)(void *arg), void *arg);

/** ring_dump - write every living coroutine of every ring with its label, age and call stack to the log
 * (SIGUSR1, watchdog); async: each ring writes its own
 */
void ring_dump(void);

/** ring_watchdog - warn, with a stack, about coroutines that wait longer than @ns (0: off; 30 s by
 * default) and about turns of a loop that took longer than a second
 */
void ring_watchdog(uint64_t ns);

struct ring_stats {
    unsigned coroutines, stacks_pooled;
    uint64_t turns, sleeps, switches, submitted;
};
void ring_read_stats(const struct ring *ring, struct ring_stats *stats);

#endif
