/* SPDX-License-Identifier: MIT */
/*
 * What is done at each node that a request reaches: counting, and where
 * somebody watches (block/observe.h) what he asks for.  Reads and unwatched
 * writes pass with a few instructions.
 *
 * Order, for changes: zero detection, threshold, range (tracking), guard,
 * observers.  Ranges are taken from the top of the graph downwards, the guard's
 * after the range of the same node, so nobody waits in a circle.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/align.h"
#include "block/io.h"
#include "block/observe.h"
#include "block/probe.h"
#include "block/road.h"
#include "block/submit.h"
#include "block/threshold.h"
#include "block/track.h"

static bool is_change(const struct stop *s)
{
    return s->kind != ROAD_READ;
}

static enum change_kind change_of(enum road_kind kind)
{
    return kind == ROAD_WRITE ? CHANGE_WRITE : kind == ROAD_ZERO ? CHANGE_ZERO : CHANGE_DISCARD;
}

/* Does it change bytes of blocks that it covers in part?  The last block counts even where the request
 * reaches the node's end: what follows there is padding, until somebody makes the node grow. */
static bool is_exclusive(const struct stop *s)
{
    uint64_t mask = node_alignment(s->node) - 1, end = s->at + s->len;
    switch (s->kind) {
    case ROAD_READ: return false;
    case ROAD_WRITE:
    case ROAD_ZERO: return (s->at | end) & mask;
    case ROAD_DISCARD: return end & mask && end >= node_size(s->node);
    }
    return false;
}

/* Register the range. */
static int co_fn take_range(struct level *l, const struct stop *s)
{
    uint64_t at = s->at, len = s->len;
    l->range = malloc(sizeof *l->range);
    if (!l->range)
        return -ENOMEM;
    align_widen(s->node, &at, &len);
    track_begin(s->node->tracking, l->range, at, len, is_exclusive(s) || s->flags & IO_SERIALISING);
    return 0;
}

/* The node's guard, made by whoever comes first; NULL when out of memory. */
static struct tracked_requests *guard_of(struct node *n)
{
    struct tracked_requests *g = atomic_load(&n->guard), *made;
    if (g)
        return g;
    made = tracked_requests_new();
    if (made && !atomic_compare_exchange_strong(&n->guard, &g, made)) {
        tracked_requests_free(made);
        return g;
    }
    return made;
}

/* A node that was guessed raw: see to it that no bytes get there that look like another format.  Those
 * who write there go one by one, from looking to the end of the write. */
static int co_fn take_guard(struct road *w, struct level *l, const struct stop *s)
{
    struct node *n = s->node;
    struct tracked_requests *g = guard_of(n);
    l->guard = g ? malloc(sizeof *l->guard) : NULL;
    if (!l->guard)
        return -ENOMEM;
    track_begin(g, l->guard, 0, NODE_GUARD_BYTES, true);

    uint8_t present[NODE_GUARD_BYTES] = { 0 };
    uint64_t size = node_size(n), part = NODE_GUARD_BYTES - s->at;
    struct span now = { .p = present, .len = size < sizeof present ? size : sizeof present };
    struct road look = { .operation = w->operation, .v = &now, .count = 1 };
    const struct stop first = { .node = n, .kind = ROAD_READ, .len = now.len };
    int r = now.len ? road_run(&look, &first) : 0;
    if (r < 0)
        return r;

    struct span v[SPAN_MAX];
    unsigned count = SPAN_MAX;
    if (part > s->len)
        part = s->len;
    if (s->kind == ROAD_WRITE)
        count = span_cut(w->v, w->count, w->done, part, v);
    else
        zero_spans(part, v, &count);
    for (unsigned i = 0; i < count; i++) {
        if (!v[i].p)
            return -EOPNOTSUPP;
    }
    return probe_write_allowed(present, s->at, v, count) ? 0 : -EPERM;
}

static int co_fn tell_observers(struct road *w, struct level *l, const struct stop *s)
{
    int r = 0;
    l->observed = true;
    for (struct observer *ob = s->node->observers; ob && r == 0; ob = ob->next) {
        if (ob->before)
            r = ob->before(ob, w->operation, change_of(s->kind), s->at, s->len);
    }
    return r;
}

static void detect_zeroes(const struct road *w, struct stop *s)
{
    struct span cut[SPAN_MAX];
    unsigned count = span_cut(w->v, w->count, w->done, s->len, cut);
    if (!span_is_zero(cut, count))
        return;
    s->kind = ROAD_ZERO;
    if (s->node->options.detect_zeroes == DETECT_ZEROES_UNMAP &&
        s->node->options.discard == DISCARD_UNMAP)
        s->flags |= IO_MAY_UNMAP;
}

static int co_fn arrive_watched(struct road *w, struct stop *s, unsigned watch, bool grows)
{
    struct node *n = s->node;
    if (is_change(s)) {
        if ((watch & WATCH_DETECT_ZEROES) && s->kind == ROAD_WRITE)
            detect_zeroes(w, s);
        if ((watch & WATCH_THRESHOLD) && s->kind != ROAD_DISCARD)
            threshold_check(n, s->at + s->len);
    } else {
        watch &= WATCH_TRACKING;
        if (!(s->flags & IO_SERIALISING))
            return 0;
    }
    if ((s->flags & IO_SERIALISING) && !(watch & WATCH_TRACKING))
        return -EINVAL; /* whoever asks for it has called track_require() */
    bool guarded = (watch & WATCH_GUARD) && s->at < NODE_GUARD_BYTES;
    if (!grows && !guarded && !(watch & (WATCH_TRACKING | WATCH_OBSERVERS)))
        return 0;

    struct level *l = road_level(w, s);
    if (!l)
        return -ENOMEM;
    l->has_end = true;
    l->grows = grows;
    int r = 0;
    if (watch & WATCH_TRACKING)
        r = take_range(l, s);
    if (r == 0 && guarded)
        r = take_guard(w, l, s);
    if (r == 0 && (watch & WATCH_OBSERVERS))
        r = tell_observers(w, l, s);
    s->flags &= ~IO_SERIALISING;
    return r;
}

int co_fn arrive(struct road *w, struct stop *s)
{
    struct node *n = s->node;
    struct node_ring *here = node_here(n);
    if (!here)
        return -ENOMEM;
    if (s->kind == ROAD_READ) {
        io_counters_add(&here->counters, IO_READ, s->len);
        return s->flags & IO_SERIALISING ? arrive_watched(w, s, watch_flags(n), false) : 0;
    }
    io_counters_add(&here->counters, s->kind == ROAD_DISCARD ? IO_UNMAP : IO_WRITE, s->len);
    uint64_t end = s->at + s->len;
    if (s->kind != ROAD_DISCARD)
        raise_to(&n->stats.highest_write_end, end);
    if (n->options.discard != DISCARD_UNMAP)
        s->flags &= ~IO_MAY_UNMAP;
    unsigned watch = atomic_load_explicit(&n->watch, memory_order_relaxed);
    bool grows = end > node_size(n);
    if (watch == WATCH_SETTLED && !grows && !(s->flags & IO_SERIALISING))
        return 0;
    return arrive_watched(w, s, watch_flags(n), grows);
}

void depart(struct level *l, int result)
{
    struct node *n = l->whole.node;
    uint64_t end = l->whole.at + l->whole.len;
    if (l->observed) {
        for (struct observer *ob = n->observers; ob; ob = ob->next) {
            if (ob->after)
                ob->after(ob, change_of(l->whole.kind), l->whole.at, l->whole.len, result);
        }
    }
    if (l->grows && result == 0)
        raise_to(&n->size, end);
    if (l->guard)
        track_end(l->guard);
    if (l->range)
        track_end(l->range);
    free(l->guard);
    free(l->range);
}
