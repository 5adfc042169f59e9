/* SPDX-License-Identifier: MIT */
/*
 * Requests in flight on one node, by range, across rings: who overlaps whom.
 *
 * A request registers with its range and whether it serialises.  Two requests
 * that overlap conflict when one of them serialises; of two that conflict the
 * one that registered later waits for the earlier to end.  As everybody waits
 * only for earlier ones, and registers on a node above before one below, there
 * is no circle of waiters.
 */
#ifndef BLOCK_TRACK_H
#define BLOCK_TRACK_H

#include "block/types.h"

/* The offsets of a node are dealt out to shards in stripes, so that rings seldom meet at one lock. */
enum { TRACK_SHARDS = 16, TRACK_STRIPE_SHIFT = 20 };

struct tracked_requests;

struct track_entry {
    struct list link;    /* in the shard, in order of arrival */
    struct list waiters; /* who waits for this request to end */
    struct tracked *of;
};

/* One request; its memory is the caller's from track_begin() to track_end(). */
struct tracked {
    struct tracked_requests *in;
    uint64_t offset, end;
    bool serialising;
    unsigned first, count; /* shards: first, first + 1, ... modulo TRACK_SHARDS */
    struct track_entry entries[TRACK_SHARDS];
};

/** tracked_requests_new - NULL when out of memory; tracked_requests_free - it must be empty */
struct tracked_requests *tracked_requests_new(void);
void tracked_requests_free(struct tracked_requests *in);

/** track_begin - register [offset, offset+len), len > 0, and wait for the earlier ones in conflict */
void co_fn track_begin(struct tracked_requests *in, struct tracked *t, uint64_t offset,
                       uint64_t len, bool serialising);

/** track_end - the request is over: let those go that waited for it; on the ring that began it */
void track_end(struct tracked *t);

/** track_require_in - track_require() within an edit that is under way: the owner of a root that is being
 * moved to @n requires it anew
 */
int co_fn track_require_in(struct edit *e, struct node *n, struct err *err);

/** track_required - is there anybody above who needs it?  Control ring. */
bool track_required(const struct node *n);

/** track_cover - see to it that @n and all below are tracked; -ENOMEM leaves some that are not
 * In an edit, with everything drained that can reach them.
 */
int track_cover(struct node *n);

#endif
