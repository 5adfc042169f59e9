/* SPDX-License-Identifier: MIT */
/*
 * Whether a ring with nothing to do should wait awake for a moment before it
 * sleeps.  Waking a sleeping CPU takes tens of microseconds, most of what one
 * small request at a time costs.  A client that answers within such a time, again
 * and again, is worth waiting for.  So the ring keeps a balance: each short wait is
 * a reason to wait awake, each long one takes many reasons away.  Among a busy
 * client's thousands of short waits a long one now and then changes nothing; an
 * idle or lightly loaded ring sleeps, having waited in vain at most a few times.
 */
#ifndef URING_SPIN_H
#define URING_SPIN_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SPIN_NS = 50 * 1000,        /* how long a ring waits awake */
    SPIN_SHORT_NS = 100 * 1000, /* what counts as short: a sleep's time has the waking in it */
    SPIN_REASONS = 8,           /* so many make it worthwhile */
    SPIN_REASONS_MAX = 32,      /* so many are kept: at most 4 waits in vain */
    SPIN_LONG_COSTS = 8,        /* so many a long wait takes away */
};

struct spin {
    unsigned reasons; /* at most SPIN_REASONS_MAX */
};

/** spin_worth - is there reason to wait awake? */
static inline bool spin_worth(const struct spin *s)
{
    return s->reasons >= SPIN_REASONS;
}

/** spin_learn - a wait, awake or asleep or first the one and then the other, took @ns */
static inline void spin_learn(struct spin *s, uint64_t ns)
{
    if (ns > SPIN_SHORT_NS)
        s->reasons -= s->reasons < SPIN_LONG_COSTS ? s->reasons : (unsigned)SPIN_LONG_COSTS;
    else if (s->reasons < SPIN_REASONS_MAX)
        s->reasons++;
}

#endif
