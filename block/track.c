/* SPDX-License-Identifier: MIT */
/*
 * Overlap tracking.  A shard is a spin lock and a list; a request is entered
 * in every shard that its range touches (all of them when it is long).
 *
 * 1. A request enters all of its shards with all of their locks held, taken in
 *    ascending order: any two requests that meet in several shards stand in
 *    the same order in each.
 * 2. In a shard a request looks only at entries before its own.  Once it has
 *    found no conflict there, none can appear.
 * 3. A waiter sits on the entry that it waits for, under that shard's lock.
 */
#include "block/track.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "block/edit.h"
#include "block/graph.h"
#include "block/io.h"
#include "block/observe.h"
#include "block/submit.h"

struct shard {
    _Alignas(64) atomic_flag lock;
    struct list entries;
};

struct tracked_requests {
    struct shard shards[TRACK_SHARDS];
};

struct track_waiter {
    struct list link;
    struct co *co;
};

struct tracked_requests *tracked_requests_new(void)
{
    struct tracked_requests *in = aligned_alloc(64, sizeof *in);
    if (!in)
        return NULL;
    for (unsigned i = 0; i < TRACK_SHARDS; i++) {
        atomic_flag_clear(&in->shards[i].lock);
        list_init(&in->shards[i].entries);
    }
    return in;
}

void tracked_requests_free(struct tracked_requests *in)
{
    free(in);
}

static void shard_lock(struct shard *s)
{
    for (unsigned spins = 0; atomic_flag_test_and_set_explicit(&s->lock, memory_order_acquire);
         spins++) {
        if (spins > 200)
            sched_yield(); /* its holder lost the CPU */
    }
}

static void shard_unlock(struct shard *s)
{
    atomic_flag_clear_explicit(&s->lock, memory_order_release);
}

static bool covers(const struct tracked *t, unsigned shard)
{
    return (shard - t->first) % TRACK_SHARDS < t->count;
}

/* The first entry before t's own in that shard that is in conflict with it, or NULL. */
static struct track_entry *conflict(const struct shard *s, const struct tracked *t)
{
    struct track_entry *e;
    list_for_each (e, &s->entries, link) {
        const struct tracked *other = e->of;
        if (other == t)
            return NULL;
        if ((t->serialising || other->serialising) && other->offset < t->end &&
            t->offset < other->end)
            return e;
    }
    return NULL;
}

/* Enter all shards; return whether there is a conflict in any. */
static bool enter(struct tracked_requests *in, struct tracked *t)
{
    bool blocked = false;
    for (unsigned i = 0; i < TRACK_SHARDS; i++) {
        if (covers(t, i))
            shard_lock(&in->shards[i]);
    }
    for (unsigned i = 0; i < TRACK_SHARDS; i++) {
        if (!covers(t, i))
            continue;
        struct track_entry *e = &t->entries[i];
        e->of = t;
        list_init(&e->waiters);
        list_push_back(&in->shards[i].entries, &e->link);
        blocked = blocked || conflict(&in->shards[i], t);
    }
    for (unsigned i = 0; i < TRACK_SHARDS; i++) {
        if (covers(t, i))
            shard_unlock(&in->shards[i]);
    }
    return blocked;
}

static void co_fn wait_in_shard(struct shard *s, struct tracked *t)
{
    struct track_entry *e;
    shard_lock(s);
    while ((e = conflict(s, t))) {
        struct track_waiter w = { .co = co_self() };
        list_push_back(&e->waiters, &w.link);
        shard_unlock(s);
        co_yield ();
        shard_lock(s);
    }
    shard_unlock(s);
}

void co_fn track_begin(struct tracked_requests *in, struct tracked *t, uint64_t offset,
                       uint64_t len, bool serialising)
{
    uint64_t first = offset >> TRACK_STRIPE_SHIFT;
    uint64_t stripes = ((offset + len - 1) >> TRACK_STRIPE_SHIFT) - first + 1;
    t->in = in;
    t->offset = offset;
    t->end = offset + len;
    t->serialising = serialising;
    t->first = first % TRACK_SHARDS;
    t->count = stripes < TRACK_SHARDS ? stripes : TRACK_SHARDS;
    if (!enter(in, t))
        return;
    for (unsigned i = 0; i < TRACK_SHARDS; i++) {
        if (covers(t, i))
            wait_in_shard(&in->shards[i], t);
    }
}

void track_end(struct tracked *t)
{
    for (unsigned i = 0; i < TRACK_SHARDS; i++) {
        if (!covers(t, i))
            continue;
        struct shard *s = &t->in->shards[i];
        struct list *item, woken;
        list_init(&woken);
        shard_lock(s);
        list_remove(&t->entries[i].link);
        while ((item = list_pop_front(&t->entries[i].waiters)))
            list_push_back(&woken, item);
        shard_unlock(s);
        while ((item = list_pop_front(&woken)))
            co_wake(container_of(item, struct track_waiter, link)->co);
    }
}

/* ---- switching it on and off ---- */

int track_cover(struct node *n)
{
    struct descent d;
    struct node *at;
    int r = 0;
    descent_begin(&d, n);
    while ((at = descent_next(&d))) {
        if (at->tracking)
            continue;
        at->tracking = tracked_requests_new();
        if (!at->tracking)
            r = -ENOMEM;
        watch_refresh(at);
    }
    return r;
}

bool track_required(const struct node *n)
{
    const struct edge *e;
    if (n->track_required)
        return true;
    list_for_each (e, &n->parents, in_child) {
        if (e->parent_node && e->parent_node->tracking)
            return true;
    }
    return false;
}

/* Top down: whether a node's parents are tracked is settled before it is asked. */
static void uncover(struct node *n)
{
    struct descent d;
    struct node *at;
    descent_begin(&d, n);
    while ((at = descent_next(&d))) {
        if (!at->tracking || track_required(at))
            continue;
        tracked_requests_free(at->tracking);
        at->tracking = NULL;
        watch_refresh(at);
    }
}

static void drop_requirement(struct node *n)
{
    n->track_required--;
    uncover(n);
}

static void co_fn undo_require(void *arg)
{
    drop_requirement(arg);
}

int co_fn track_require_in(struct edit *edit, struct node *n, struct err *err)
{
    int r = edit_drain_below(edit, n, err);
    if (r < 0)
        return r;
    const struct edit_step step = { .abort = undo_require, .arg = n };
    n->track_required++;
    r = track_cover(n);
    if (r < 0)
        err_set(err, r, "Cannot keep account of requests on node '%s': out of memory",
                node_label(n));
    else
        r = edit_step(edit, &step, err);
    if (r < 0)
        drop_requirement(n);
    return r;
}

bool track_needed(struct node *n, uint32_t block)
{
    struct descent d;
    struct node *at;
    const struct edge *e;
    bool needed = node_alignment(n) > block;
    descent_begin(&d, n);
    d.not_backing = true;
    while ((at = descent_next(&d))) {
        list_for_each (e, &at->children, in_parent)
            needed = needed ||
                     (e->role != ROLE_BACKING && node_alignment(e->child) > node_alignment(at));
    }
    return needed;
}

int co_fn track_require(struct node *n, struct err *err)
{
    struct edit *edit = edit_begin("track requests");
    int r = track_require_in(edit, n, err);
    if (r < 0) {
        edit_abort(edit);
        return r;
    }
    return edit_commit(edit, err);
}

void co_fn track_release(struct node *n)
{
    autoerr err = { 0 };
    struct edit *edit = edit_begin("stop tracking requests");
    if (edit_drain_below(edit, n, &err) < 0) {
        /* Requests in flight hold on to the tables: they stay, which only costs time. */
        n->track_required--;
        edit_abort(edit);
        return;
    }
    drop_requirement(n);
    edit_commit(edit, &err);
}
