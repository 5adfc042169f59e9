/* SPDX-License-Identifier: MIT */
/* Windows of interval statistics: written by one ring, read by queries. */
#include "block/interval.h"

void interval_init(struct interval_stats *i, uint64_t began, uint64_t length)
{
    *i = (struct interval_stats){ .guard = ATOMIC_FLAG_INIT, .length = length };
    for (unsigned kind = 0; kind < IO_KINDS; kind++) {
        i->windows[kind][0].ends = began + length / 2;
        i->windows[kind][1].ends = began + length;
    }
}

static void lock(struct interval_stats *i)
{
    while (atomic_flag_test_and_set_explicit(&i->guard, memory_order_acquire))
        ;
}

static void unlock(struct interval_stats *i)
{
    atomic_flag_clear_explicit(&i->guard, memory_order_release);
}

/* Begin a window anew when its time is over, on the grid that it was set on. */
static void expire(struct interval_stats *i, struct interval_window *w, uint64_t now)
{
    if (now < w->ends)
        return;
    *w =
        (struct interval_window){ .ends = w->ends + ((now - w->ends) / i->length + 1) * i->length };
}

void interval_add(struct interval_stats *i, enum io_kind kind, uint64_t now, uint64_t latency)
{
    lock(i);
    for (unsigned j = 0; j < 2; j++) {
        struct interval_window *w = &i->windows[kind][j];
        expire(i, w, now);
        if (!w->count || latency < w->min)
            w->min = latency;
        if (latency > w->max)
            w->max = latency;
        w->sum += latency;
        w->count++;
    }
    unlock(i);
}

struct interval_window interval_read(struct interval_stats *i, enum io_kind kind, uint64_t now)
{
    struct interval_window *w = i->windows[kind], older;

    lock(i);
    expire(i, &w[0], now);
    expire(i, &w[1], now);
    older = w[w[0].ends < w[1].ends ? 0 : 1];
    unlock(i);
    return older;
}
