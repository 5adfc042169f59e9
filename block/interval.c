/* SPDX-License-Identifier: MIT */
/* Latencies over the last interval: see the header. */
#include "block/interval.h"

#include <string.h>

static const uint64_t half_second = 500000000;

uint64_t interval_half(uint64_t age, uint32_t seconds)
{
    return age / (half_second * seconds) + 1;
}

uint64_t interval_elapsed(uint64_t age, uint32_t seconds)
{
    uint64_t half = half_second * seconds;
    return age % half + half; /* it began with the half before */
}

static void add_one(struct latencies *l, uint64_t latency)
{
    if (!l->count || latency < l->min)
        l->min = latency;
    if (latency > l->max)
        l->max = latency;
    l->sum += latency;
    l->count++;
}

void interval_add(struct interval_stats *s, uint64_t half, enum io_kind kind, uint64_t latency)
{
    for (uint64_t begins = half - 1; begins <= half; begins++) {
        struct interval_window *w = &s->windows[begins % 2];
        if (w->half != begins) {
            memset(w, 0, sizeof *w);
            w->half = begins;
        }
        add_one(&w->kinds[kind], latency);
    }
}

void interval_merge(const struct interval_stats *s, uint64_t half, struct latencies *kinds)
{
    const struct interval_window *w = &s->windows[(half - 1) % 2];
    if (w->half != half - 1)
        return;
    for (unsigned i = 0; i < IO_KINDS; i++) {
        const struct latencies *from = &w->kinds[i];
        struct latencies *to = &kinds[i];
        if (!from->count)
            continue;
        if (!to->count || from->min < to->min)
            to->min = from->min;
        if (from->max > to->max)
            to->max = from->max;
        to->count += from->count;
        to->sum += from->sum;
    }
}
