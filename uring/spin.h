/* SPDX-License-Identifier: MIT */
/*
 * Whether a ring with nothing to do should wait awake for a moment before it
 * sleeps.  Waking a sleeping CPU takes tens of microseconds, most of what one
 * small request at a time costs.  A client that answers within such a time, again
 * and again, is worth waiting for; after one wait in vain the ring goes back to
 * sleeping and must see as many short sleeps as before.  So an idle or lightly
 * loaded ring does not wait awake, and a wrong guess costs about as much as the
 * sleep that it was to save.
 */
#ifndef URING_SPIN_H
#define URING_SPIN_H

#include <stdbool.h>
#include <stdint.h>

enum {
    SPIN_NS = 50 * 1000,  /* how long a ring waits awake, and what counts as a short sleep */
    SPIN_SHORT_SLEEPS = 8 /* short sleeps in a row before it does */
};

struct spin {
    unsigned short_waits; /* in a row, at most SPIN_SHORT_SLEEPS */
};

/** spin_worth - is there reason to wait awake? */
static inline bool spin_worth(const struct spin *s)
{
    return s->short_waits == SPIN_SHORT_SLEEPS;
}

/** spin_learn - a wait, awake or asleep, took @ns */
static inline void spin_learn(struct spin *s, uint64_t ns)
{
    if (ns > SPIN_NS)
        s->short_waits = 0;
    else if (s->short_waits < SPIN_SHORT_SLEEPS)
        s->short_waits++;
}

#endif
