/* SPDX-License-Identifier: MIT */
/*
 * Who wants to see the writes of a node: the place in the road where bitmaps,
 * copy-before-write and the like come in.  Each write tests one word,
 * node->watch; only where it is not WATCH_SETTLED alone does it look further.
 *
 * Whatever watches is attached by an edit, inside the drained section, so it
 * never meets a request that began without it.
 */
#ifndef BLOCK_OBSERVE_H
#define BLOCK_OBSERVE_H

#include "block/node.h"

enum watch_flags {
    WATCH_SETTLED = 1 << 0,       /* the others are valid; else look at the node itself */
    WATCH_TRACKING = 1 << 1,      /* node->tracking */
    WATCH_GUARD = 1 << 2,         /* node->guarded_raw */
    WATCH_THRESHOLD = 1 << 3,     /* node->write_threshold */
    WATCH_DETECT_ZEROES = 1 << 4, /* node->options.detect_zeroes */
    WATCH_OBSERVERS = 1 << 5,     /* node->observers */
};

enum change_kind { CHANGE_WRITE, CHANGE_ZERO, CHANGE_DISCARD };

/* Sees every change of a node's bytes.  Its owner keeps it alive until it is detached. */
struct observer {
    struct observer *next;
    /* Before the change reaches the driver, inside the operation; negative fails the request.
     * May be NULL. */
    int co_fn (*before)(struct observer *w, struct operation *o, enum change_kind kind,
                        uint64_t offset, uint64_t len);
    /* After the driver is done with it and before anybody is told; also when it failed, be it for an
     * observer's sake.  May be NULL. */
    void (*after)(struct observer *w, enum change_kind kind, uint64_t offset, uint64_t len,
                  int result);
};

/** observer_attach / observer_detach - control ring, in an edit that has drained @n */
void observer_attach(struct node *n, struct observer *w);
void observer_detach(struct node *n, struct observer *w);

/** watch_refresh - set node->watch from the node; in an edit, after anything that it tells changed
 * (shortcut_recompute() does it for all nodes below a root)
 */
void watch_refresh(struct node *n);

/** watch_flags - what wants to see the writes of @n, WATCH_SETTLED aside */
unsigned watch_flags(struct node *n);

#endif
