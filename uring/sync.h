/* SPDX-License-Identifier: MIT */
/*
 * Locks and queues for coroutines, across rings.  A waiter spins a moment when
 * the holder runs on another ring, then yields; it is woken on its own ring.
 * A freed lock goes to whoever asks first (handing it to the waiter makes
 * convoys), but a waiter passed over four times is handed it.  Waits for locks
 * can't be cancelled.  No data I/O under a lock.
 *
 * In debug builds locks that carry an order are checked: a coroutine may take
 * a lock only while it holds none of the same or a higher order.
 */
#ifndef URING_SYNC_H
#define URING_SYNC_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "uring/co.h"

struct co_waiters {
    atomic_flag guard; /* a few instructions long */
    struct list waiting;
};

struct co_mutex {
    struct co_waiters w;
    struct co *holder;
    unsigned order; /* 0: unchecked */
};

void co_mutex_init(struct co_mutex *m, unsigned order);
void co_fn co_mutex_lock(struct co_mutex *m);
bool co_mutex_trylock(struct co_mutex *m);
void co_mutex_unlock(struct co_mutex *m);
bool co_mutex_held(const struct co_mutex *m); /* by this coroutine */

static inline void co_mutex_unlock_p(struct co_mutex **m)
{
    co_mutex_unlock(*m);
}
#define CO_GUARD_NAME_(line) guard_##line
#define CO_GUARD_LINE_(m, line)                                                                    \
    __attribute__((cleanup(co_mutex_unlock_p), unused)) struct co_mutex *CO_GUARD_NAME_(line) =    \
        (co_mutex_lock(m), (m))
#define CO_GUARD_EXPAND_(m, line) CO_GUARD_LINE_(m, line)
/* Held until the end of the scope. */
#define CO_GUARD(m) CO_GUARD_EXPAND_(m, __LINE__)

struct co_rwlock {
    struct co_waiters w;
    int readers; /* -1: a writer holds it */
};

void co_rwlock_init(struct co_rwlock *l);
void co_fn co_rwlock_read(struct co_rwlock *l); /* waits behind a waiting writer */
void co_fn co_rwlock_write(struct co_rwlock *l);
void co_rwlock_unlock(struct co_rwlock *l);

/* A condition: wait until woken.  The condition itself is guarded by a mutex, or by everything being on
 * one ring (then @m is NULL). */
struct co_cond {
    struct co_waiters w;
};

#define CO_COND_INIT(c)                                                                            \
    {                                                                                              \
        .w = {.guard = ATOMIC_FLAG_INIT, .waiting = LIST_INIT((c).w.waiting) }                     \
    }

void co_cond_init(struct co_cond *c);
void co_fn co_cond_wait(struct co_cond *c, struct co_mutex *m);
/* 0, or -ETIMEDOUT; the mutex is held again either way */
int co_fn co_cond_wait_until(struct co_cond *c, struct co_mutex *m, uint64_t deadline);
bool co_cond_wake_one(struct co_cond *c); /* any ring */
void co_cond_wake_all(struct co_cond *c);

struct co_sem {
    struct co_waiters w;
    unsigned value;
};

void co_sem_init(struct co_sem *s, unsigned value);
void co_fn co_sem_down(struct co_sem *s, unsigned n); /* first come first served */
bool co_sem_try_down(struct co_sem *s, unsigned n);
void co_sem_up(struct co_sem *s, unsigned n);

/* Start coroutines and wait for all of them. */
struct co_group {
    unsigned running; /* this ring only */
    int first_error;
    struct co *waiter;
};

/** co_group_start - run fn(arg) in a coroutine on this ring; 0 or -ENOMEM; its negative result is kept */
int co_group_start(struct co_group *g, int (*fn)(void *arg), void *arg, const char *label);
/** co_group_wait - until all have ended; the first negative result, or 0 */
int co_fn co_group_wait(struct co_group *g);

#endif
