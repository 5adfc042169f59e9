/* SPDX-License-Identifier: MIT */
/*
 * Timers of a ring: a binary heap, soonest first.  Its memory is address space
 * reserved once and touched as it fills, so that setting a timer does not
 * allocate; only more than TIMERS_MAX of them fail.
 */
#include "uring/engine.h"

#include <errno.h>
#include <sys/mman.h>

void timer_init_ring(struct ring *r)
{
    r->timers = mmap(NULL, sizeof(*r->timers) * TIMERS_MAX, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->timers == MAP_FAILED)
        r->timers = NULL;
}

void timer_free_ring(struct ring *r)
{
    if (r->timers)
        munmap(r->timers, sizeof(*r->timers) * TIMERS_MAX);
    r->timers = NULL;
    r->timer_count = 0;
}

static void put(struct ring *r, unsigned at, struct timer *t)
{
    r->timers[at] = t;
    t->place = at + 1;
}

/* Move @t, which belongs at @at or somewhere above or below, to where it belongs. */
static void settle(struct ring *r, unsigned at, struct timer *t)
{
    while (at && r->timers[(at - 1) / 2]->when > t->when) {
        put(r, at, r->timers[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    for (;;) {
        unsigned child = 2 * at + 1;
        if (child >= r->timer_count)
            break;
        if (child + 1 < r->timer_count && r->timers[child + 1]->when < r->timers[child]->when)
            child++;
        if (r->timers[child]->when >= t->when)
            break;
        put(r, at, r->timers[child]);
        at = child;
    }
    put(r, at, t);
}

int timer_set(struct timer *timer, uint64_t when)
{
    struct ring *r = this_ring;

    if (!timer->place) {
        if (r->timer_count == TIMERS_MAX)
            return -ENOMEM;
        timer->place = ++r->timer_count;
    }
    timer->when = when;
    settle(r, timer->place - 1, timer);
    return 0;
}

void timer_cancel(struct timer *timer)
{
    struct ring *r = this_ring;

    if (!timer->place)
        return;
    unsigned at = timer->place - 1;
    struct timer *last = r->timers[--r->timer_count];
    timer->place = 0;
    if (last != timer)
        settle(r, at, last);
}

void timer_fire(struct ring *r, uint64_t now)
{
    for (unsigned i = 0; i < TURN_MAX && r->timer_count && r->timers[0]->when <= now; i++) {
        struct timer *t = r->timers[0];
        timer_cancel(t);
        t->fn(t);
    }
}
