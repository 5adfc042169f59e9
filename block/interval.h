/* SPDX-License-Identifier: MIT */
/*
 * Latencies over the last interval of time.  Time is cut in halves of the
 * interval; a window is one interval long and one begins with each half, so two
 * are always being filled, half overlapping.  What a query shows is the older
 * one: at least half an interval of history, at most a whole.
 */
#ifndef BLOCK_INTERVAL_H
#define BLOCK_INTERVAL_H

#include "block/stats.h"

struct latencies {
    uint64_t count, sum, min, max; /* ns; min and max only with a count */
};

struct interval_window {
    uint64_t half; /* number of the half in which it begins, counted from 1; 0: unused */
    struct latencies kinds[IO_KINDS];
};

/* One interval on one ring. */
struct interval_stats {
    struct interval_window windows[2]; /* by .half modulo 2 */
};

/** interval_half - the number of the half in which @now lies; the first is 1
 * @age: ns since counting began; @seconds: length of the interval
 */
uint64_t interval_half(uint64_t age, uint32_t seconds);

/** interval_add - a request ended in half @half with this latency */
void interval_add(struct interval_stats *s, uint64_t half, enum io_kind kind, uint64_t latency);

/** interval_merge - add what the window shown in half @half has to @kinds */
void interval_merge(const struct interval_stats *s, uint64_t half, struct latencies *kinds);

/** interval_elapsed - how long ago the window shown at @age began, ns; > 0 */
uint64_t interval_elapsed(uint64_t age, uint32_t seconds);

#endif
