/* SPDX-License-Identifier: MIT */
/*
 * Locks and queues for coroutines.
 *
 * 1. A waiter lies on the stack of its coroutine.  Who takes it off the list,
 *    under the guard, is the one that wakes it; a deadline does the same, so
 *    exactly one of them does.
 * 2. Releasing the guard is the last access to a lock by who releases or
 *    signals it: the coroutine to be woken is remembered before.  So a lock
 *    may be freed by whoever takes it next.
 * 3. The guard is held for a few instructions, never across a yield.
 * 4. A mutex's first waiter stays in the list while its wake-up travels
 *    (woken); then it takes the lock if it is free, or counts itself passed
 *    over.  One wake-up travels at a time.
 */
#include "uring/sync.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "base/log.h"
#include "uring/engine.h"

enum {
    SPINS = 1000, /* looks at a mutex that another ring holds: some microseconds */
    PASSED_OVER_MAX = 4,
    GUARD_SPINS = 1000, /* then the holder's thread may have lost its CPU */
};

enum kind { MUTEX, READER, WRITER, COND, SEM };

struct waiter {
    struct list link;
    struct co *co;
    enum kind kind;
    unsigned n; /* SEM: how many; MUTEX: how often passed over */
    bool woken; /* MUTEX: a wake-up is on its way */
    bool granted;
};

static inline void guard(struct co_waiters *w)
{
    for (unsigned spins = 0;
         unlikely(atomic_flag_test_and_set_explicit(&w->guard, memory_order_acquire)); spins++) {
        if (spins < GUARD_SPINS)
            cpu_relax();
        else
            sched_yield();
    }
}

static inline void unguard(struct co_waiters *w)
{
    atomic_flag_clear_explicit(&w->guard, memory_order_release);
}

static void waiters_init(struct co_waiters *w)
{
    atomic_flag_clear(&w->guard);
    list_init(&w->waiting);
}

static struct waiter *first(struct co_waiters *w)
{
    return list_empty(&w->waiting) ? NULL : container_of(w->waiting.next, struct waiter, link);
}

/* The running coroutine, or what stands for the loop. */
static inline struct co *holder_self(void)
{
    struct ring *r = this_ring;

    return r->running ? r->running : &r->loop_co;
}

/* ---- lock order ---- */

#ifdef LOCK_ORDER_CHECKED
static void order_check(unsigned order)
{
    struct co *self = holder_self();

    for (unsigned i = 0; order && i < self->held_count; i++) {
        if (self->held[i] < order)
            continue;
        log_error("lock order: '%s' takes a lock of order %u while it holds one of order %u",
                  self->label, order, self->held[i]);
        abort();
    }
}

static void order_push(unsigned order)
{
    struct co *self = holder_self();

    if (order && self->held_count < LOCKS_HELD_MAX)
        self->held[self->held_count++] = order;
}

static void order_pop(unsigned order)
{
    struct co *self = holder_self();

    for (unsigned i = self->held_count; order && i-- > 0;) {
        if (self->held[i] != order)
            continue;
        self->held[i] = self->held[--self->held_count];
        return;
    }
}
#else
#define order_check(order) ((void)(order))
#define order_push(order)  ((void)(order))
#define order_pop(order)   ((void)(order))
#endif

/* ---- mutex ---- */

void co_mutex_init(struct co_mutex *m, unsigned order)
{
    waiters_init(&m->w);
    m->holder = NULL;
    m->order = order;
}

/* Atomic only for who spins; all others look under the guard. */
static inline void set_holder(struct co_mutex *m, struct co *co)
{
    __atomic_store_n(&m->holder, co, __ATOMIC_RELAXED);
}

/* Watch the lock for a moment; true: it looks free. */
static bool spin(const struct co_mutex *m, unsigned *budget)
{
    while (*budget) {
        --*budget;
        cpu_relax();
        if (!__atomic_load_n(&m->holder, __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

/* Queue up, guard held, and yield until the lock is ours. */
static __attribute__((noinline)) void co_fn mutex_wait(struct co_mutex *m, struct co *self)
{
    struct waiter me = { .co = self, .kind = MUTEX };

    list_push_back(&m->w.waiting, &me.link);
    for (;;) {
        unguard(&m->w);
        co_yield ();
        guard(&m->w);
        me.woken = false;
        if (me.granted)
            break;
        if (!m->holder) {
            list_remove(&me.link);
            set_holder(m, self);
            break;
        }
        me.n++;
    }
    unguard(&m->w);
}

void co_fn co_mutex_lock(struct co_mutex *m)
{
    struct ring *r = this_ring;
    struct co *self = r->running;
    unsigned budget = r->virtual ? 0 : SPINS;

    order_check(m->order);
    for (;;) {
        guard(&m->w);
        struct co *holder = m->holder;
        if (likely(!holder)) {
            set_holder(m, self);
            unguard(&m->w);
            break;
        }
        if (holder->ring == r || !budget) {
            mutex_wait(m, self);
            break;
        }
        unguard(&m->w);
        spin(m, &budget);
    }
    order_push(m->order);
}

bool co_mutex_trylock(struct co_mutex *m)
{
    guard(&m->w);
    bool taken = !m->holder;
    if (taken)
        set_holder(m, holder_self());
    unguard(&m->w);
    if (taken)
        order_push(m->order);
    return taken;
}

void co_mutex_unlock(struct co_mutex *m)
{
    struct co *wake = NULL;

    order_pop(m->order);
    guard(&m->w);
    struct waiter *w = first(&m->w);
    if (unlikely(w != NULL)) {
        if (!w->woken)
            wake = w->co;
        w->woken = true;
        if (w->n >= PASSED_OVER_MAX) {
            w->granted = true;
            list_remove(&w->link);
            set_holder(m, w->co);
        } else {
            set_holder(m, NULL);
        }
    } else {
        set_holder(m, NULL);
    }
    unguard(&m->w);
    if (wake)
        co_wake(wake);
}

bool co_mutex_held(const struct co_mutex *m)
{
    return __atomic_load_n(&m->holder, __ATOMIC_RELAXED) == holder_self();
}

/* ---- waiters that are served strictly in order ---- */

/* Queue up, guard held, and yield until granted. */
static void co_fn queue_wait(struct co_waiters *w, struct waiter *me)
{
    me->co = co_self();
    list_push_back(&w->waiting, &me->link);
    unguard(w);
    co_yield ();
}

/* Move a waiter to the chain of those to be woken once the guard is released. */
static void grant(struct list *chain, struct waiter *w)
{
    list_remove(&w->link);
    list_push_back(chain, &w->link);
}

/* A woken waiter is gone with its stack: look at the next one first. */
static void wake_chain(struct list *chain)
{
    while (!list_empty(chain)) {
        struct waiter *w = container_of(list_pop_front(chain), struct waiter, link);
        co_wake(w->co);
    }
}

/* ---- readers and writer ---- */

void co_rwlock_init(struct co_rwlock *l)
{
    waiters_init(&l->w);
    l->readers = 0;
}

void co_fn co_rwlock_read(struct co_rwlock *l)
{
    guard(&l->w);
    if (likely(l->readers >= 0 && list_empty(&l->w.waiting))) {
        l->readers++;
        unguard(&l->w);
        return;
    }
    struct waiter me = { .kind = READER };
    queue_wait(&l->w, &me);
}

void co_fn co_rwlock_write(struct co_rwlock *l)
{
    guard(&l->w);
    if (l->readers == 0 && list_empty(&l->w.waiting)) {
        l->readers = -1;
        unguard(&l->w);
        return;
    }
    struct waiter me = { .kind = WRITER };
    queue_wait(&l->w, &me);
}

void co_rwlock_unlock(struct co_rwlock *l)
{
    struct list chain = LIST_INIT(chain);
    struct waiter *w;

    guard(&l->w);
    l->readers = l->readers < 0 ? 0 : l->readers - 1;
    while ((w = first(&l->w)) && l->readers >= 0) {
        if (w->kind == WRITER && l->readers > 0)
            break;
        l->readers = w->kind == WRITER ? -1 : l->readers + 1;
        grant(&chain, w);
    }
    unguard(&l->w);
    wake_chain(&chain);
}

/* ---- condition ---- */

void co_cond_init(struct co_cond *c)
{
    waiters_init(&c->w);
}

void co_fn co_cond_wait(struct co_cond *c, struct co_mutex *m)
{
    struct waiter me = { .kind = COND, .co = co_self() };

    guard(&c->w);
    list_push_back(&c->w.waiting, &me.link);
    unguard(&c->w);
    if (m)
        co_mutex_unlock(m);
    co_yield ();
    if (m)
        co_mutex_lock(m);
}

struct timed_waiter {
    struct waiter waiter;
    struct timer timer;
    struct co_cond *cond;
    bool timed_out;
};

static void cond_deadline(struct timer *timer)
{
    struct timed_waiter *t = container_of(timer, struct timed_waiter, timer);

    guard(&t->cond->w);
    if (!t->waiter.granted) {
        list_remove(&t->waiter.link);
        t->timed_out = true;
    }
    unguard(&t->cond->w);
    if (t->timed_out)
        co_wake(t->waiter.co);
}

int co_fn co_cond_wait_until(struct co_cond *c, struct co_mutex *m, uint64_t deadline)
{
    struct timed_waiter me = { .waiter = { .kind = COND, .co = co_self() },
                               .timer.fn = cond_deadline,
                               .cond = c };

    if (deadline == UINT64_MAX) {
        co_cond_wait(c, m);
        return 0;
    }
    if (timer_set(&me.timer, deadline) < 0) /* a quarter of a million timers: no room to wait */
        return -ETIMEDOUT;
    guard(&c->w);
    list_push_back(&c->w.waiting, &me.waiter.link);
    unguard(&c->w);
    if (m)
        co_mutex_unlock(m);
    co_yield ();
    timer_cancel(&me.timer);
    if (m)
        co_mutex_lock(m);
    return me.timed_out ? -ETIMEDOUT : 0;
}

/* Guard held. */
static void cond_grant(struct list *chain, struct waiter *w)
{
    w->granted = true;
    grant(chain, w);
}

bool co_cond_wake_one(struct co_cond *c)
{
    struct list chain = LIST_INIT(chain);

    guard(&c->w);
    struct waiter *w = first(&c->w);
    if (w)
        cond_grant(&chain, w);
    unguard(&c->w);
    wake_chain(&chain);
    return w != NULL;
}

void co_cond_wake_all(struct co_cond *c)
{
    struct list chain = LIST_INIT(chain);
    struct waiter *w;

    guard(&c->w);
    while ((w = first(&c->w)))
        cond_grant(&chain, w);
    unguard(&c->w);
    wake_chain(&chain);
}

/* ---- semaphore ---- */

void co_sem_init(struct co_sem *s, unsigned value)
{
    waiters_init(&s->w);
    s->value = value;
}

bool co_sem_try_down(struct co_sem *s, unsigned n)
{
    guard(&s->w);
    bool taken = s->value >= n && list_empty(&s->w.waiting);
    if (taken)
        s->value -= n;
    unguard(&s->w);
    return taken;
}

void co_fn co_sem_down(struct co_sem *s, unsigned n)
{
    guard(&s->w);
    if (likely(s->value >= n && list_empty(&s->w.waiting))) {
        s->value -= n;
        unguard(&s->w);
        return;
    }
    struct waiter me = { .kind = SEM, .n = n };
    queue_wait(&s->w, &me);
}

void co_sem_up(struct co_sem *s, unsigned n)
{
    struct list chain = LIST_INIT(chain);
    struct waiter *w;

    guard(&s->w);
    s->value += n;
    while ((w = first(&s->w)) && s->value >= w->n) {
        s->value -= w->n;
        grant(&chain, w);
    }
    unguard(&s->w);
    wake_chain(&chain);
}

/* ---- group ---- */

static void group_main(void *arg)
{
    struct co *self = co_self();
    struct co_group *g = self->group;
    int result = self->group_fn(arg);

    if (result < 0 && !g->first_error)
        g->first_error = result;
    if (--g->running == 0 && g->waiter) {
        struct co *waiter = g->waiter;
        g->waiter = NULL;
        co_wake(waiter);
    }
}

int co_group_start(struct co_group *g, int (*fn)(void *arg), void *arg, const char *label)
{
    struct co *co = co_new(this_ring, group_main, arg, label);

    if (!co)
        return -ENOMEM;
    co->group = g;
    co->group_fn = fn;
    g->running++;
    run_push(this_ring, co);
    return 0;
}

int co_fn co_group_wait(struct co_group *g)
{
    while (g->running) {
        g->waiter = co_self();
        co_yield ();
    }
    return g->first_error;
}
