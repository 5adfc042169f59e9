/* SPDX-License-Identifier: MIT */
/*
 * Figures over the last interval of so many seconds: smallest, largest and
 * average latency of each kind of request.  There are two windows, half an
 * interval apart; the older one, which has seen between half and all of the
 * interval, gives the answer.
 */
#ifndef BLOCK_INTERVAL_H
#define BLOCK_INTERVAL_H

#include "block/stats.h"

struct interval_window {
    uint64_t ends;                 /* ring_now() scale */
    uint64_t min, max, sum, count; /* latencies, ns */
};

struct interval_stats {
    atomic_flag guard; /* a few instructions long */
    uint64_t length;   /* ns */
    struct interval_window windows[IO_KINDS][2];
};

/** interval_init - @began is when the windows count from, the same on all rings */
void interval_init(struct interval_stats *i, uint64_t began, uint64_t length);
void interval_add(struct interval_stats *i, enum io_kind kind, uint64_t now, uint64_t latency);
/** interval_read - the window that gives the answer at @now */
struct interval_window interval_read(struct interval_stats *i, enum io_kind kind, uint64_t now);

#endif
