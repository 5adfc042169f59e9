/* SPDX-License-Identifier: MIT */
/* Who wants to see the writes of a node. */
#include "block/observe.h"

static unsigned look(struct node *n)
{
    return (n->tracking ? WATCH_TRACKING : 0) | (n->guarded_raw ? WATCH_GUARD : 0) |
           (atomic_load(&n->write_threshold) ? WATCH_THRESHOLD : 0) |
           (n->options.detect_zeroes != DETECT_ZEROES_OFF ? WATCH_DETECT_ZEROES : 0) |
           (n->observers ? WATCH_OBSERVERS : 0);
}

unsigned watch_flags(struct node *n)
{
    unsigned known = atomic_load_explicit(&n->watch, memory_order_relaxed);
    return known & WATCH_SETTLED ? known & ~WATCH_SETTLED : look(n);
}

void watch_refresh(struct node *n)
{
    unsigned now = look(n) | WATCH_SETTLED;
    /* Other roots' rings may be reading a word that stays as it is. */
    if (atomic_load_explicit(&n->watch, memory_order_relaxed) != now)
        atomic_store_explicit(&n->watch, now, memory_order_relaxed);
}

void observer_attach(struct node *n, struct observer *w)
{
    w->next = n->observers;
    n->observers = w;
    watch_refresh(n);
}

void observer_detach(struct node *n, struct observer *w)
{
    struct observer **place = &n->observers;
    while (*place && *place != w)
        place = &(*place)->next;
    if (*place)
        *place = w->next;
    watch_refresh(n);
}
