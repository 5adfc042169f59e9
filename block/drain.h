/* SPDX-License-Identifier: MIT */
/*
 * How an edit quiets what can reach a place: which roots those are, how their
 * gates are shut on every ring, and how they open again.  For edit.c and
 * root.c; everybody else goes through edit.h.
 *
 * Order: all clients, jobs and commands first, side by side; then background
 * roots, top down.  What a client waits for inside is thus still moving when
 * it is waited for.  A background root may only be shut when all clients above
 * the node that it works for are; so the way up from a place leads through
 * background roots, too, on to the node whose work they do.
 */
#ifndef BLOCK_DRAIN_H
#define BLOCK_DRAIN_H

#include "block/node.h"
#include "block/root.h"

/* One ring's part of a batch of roots being shut or opened. */
struct drain_part {
    struct work work;   /* goes to the ring and, when that is done, comes back */
    struct work cancel; /* the same, to end a wait */
    struct drain *drain;
    unsigned waiting;     /* this ring: gates of the batch that are not empty */
    struct root *blocker; /* given up: the root of the oldest operation inside; else NULL */
    uint64_t since;       /* when that entered; ring_now() */
};

struct drain {
    struct list clients;    /* struct root.in_drain: to be shut by the next drain_shut() */
    struct list background; /* the same, top down */
    struct list shut;       /* done */
    struct list nodes;      /* struct node.walk.drained: to be told of the end, referenced */
    struct list *batch;     /* what the rings work on */
    unsigned outstanding;   /* works that have not come back */
    struct co *waiter;
    struct timer timer;
    bool late;
    struct drain_part parts[RINGS_MAX + 1];
};

void drain_init(struct drain *d);

/** drain_gather - find the roots that can reach @n and are not shut yet; never yields, never fails */
void drain_gather(struct drain *d, struct node *n);

/** drain_gather_below - the roots that can reach @n or anything below it */
void drain_gather_below(struct drain *d, struct node *n);

/** drain_gather_root - that one root */
void drain_gather_root(struct drain *d, struct root *r);

/** drain_shut - shut what was gathered
 * @deadline: ring_now() scale
 * @blocker, @age: on failure the root of the oldest operation that is still inside, and its age in ns
 * Return: 0; -ETIMEDOUT, with gates in any state: drain_open() follows.
 */
int co_fn drain_shut(struct drain *d, uint64_t deadline, struct root **blocker, uint64_t *age);

/** drain_open - open all gates again, also those that were about to be shut; nodes and roots are told.
 * Returns when every ring has done so.
 */
void co_fn drain_open(struct drain *d);

/** drain_gate_empty - root.c: the last operation left a gate that somebody waits for; that ring */
void drain_gate_empty(struct gate *g);

/** gate_open_here - root.c: open this ring's gate of @r and run who waits before it */
void gate_open_here(struct root *r);

#endif
