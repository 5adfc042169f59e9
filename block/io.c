/* SPDX-License-Identifier: MIT */
/*
 * The entry of every request, and its walk down the graph (block/road.h).
 *
 * At each node: arrive() counts and does what watchers ask for; then either
 * map() sends the request on to a child, or the node's own driver carries it
 * out, whole blocks at a time (block/align.h).  What map() left over is kept in
 * a level and taken up when the piece below is done.  A negative result ends
 * the walk; the levels that have work at their end are left in any case.
 */
#include "block/io.h"

#include <errno.h>
#include <stdlib.h>

#include "block/align.h"
#include "block/flush.h"
#include "block/observe.h"
#include "block/road.h"
#include "block/submit.h"
#include "block/track.h"

struct level *road_level(struct road *w, const struct stop *s)
{
    struct level *l = w->depth < ROAD_LEVELS ? &w->levels[w->depth] : malloc(sizeof(*l));

    if (!l)
        return NULL;
    *l = (struct level){ .up = w->top, .whole = *s, .rest = *s };
    l->rest.len = 0;
    w->top = l;
    w->depth++;
    return l;
}

static void pop_level(struct road *w, int result)
{
    struct level *l = w->top;

    if (l->has_end)
        depart(l, result);
    w->top = l->up;
    if (--w->depth >= ROAD_LEVELS)
        free(l);
}

static bool driver_can(const struct driver *d, enum road_kind kind)
{
    switch (kind) {
    case ROAD_READ: return d->read;
    case ROAD_WRITE: return d->write;
    case ROAD_ZERO: return d->zero || (d->write && !d->map);
    case ROAD_DISCARD: return d->discard;
    }
    return false;
}

/* The node's own driver does all of @s. */
static int co_fn carry_out(struct road *w, const struct stop *s)
{
    struct node *n = s->node;
    unsigned flags = s->flags, count;
    struct span v[SPAN_MAX];
    int result;

    if (flags & IO_FUA && (s->kind != ROAD_WRITE || !n->limits.fua)) {
        w->flush = true;
        flags &= ~(unsigned)IO_FUA;
    }
    if (!driver_can(n->driver, s->kind) && !(s->kind == ROAD_ZERO && n->driver->write))
        return s->kind == ROAD_DISCARD ? 0 : -ENOTSUP;
    switch (s->kind) {
    case ROAD_READ:
        count = span_cut(w->v, w->count, w->done, s->len, v);
        result = align_read(n, w->operation, s->at, v, count, flags);
        break;
    case ROAD_WRITE:
        count = span_cut(w->v, w->count, w->done, s->len, v);
        result = align_write(n, w->operation, s->at, v, count, flags);
        break;
    case ROAD_ZERO: result = align_zero(n, w->operation, s->at, s->len, flags); break;
    default: result = align_discard(n, w->operation, s->at, s->len); break;
    }
    w->done += s->len;
    return result;
}

static void read_zeroes(struct road *w, uint64_t len)
{
    struct span v[SPAN_MAX];
    unsigned count = span_cut(w->v, w->count, w->done, len, v);

    span_fill(v, count, 0);
    w->done += len;
}

/* Keep what map() did not answer for; the piece before it is done first. */
static int keep_rest(struct road *w, struct level *own, const struct stop *s, uint64_t piece)
{
    struct level *l = own;

    if (piece == s->len)
        return 0;
    if (!l)
        l = road_level(w, s);
    if (!l)
        return -ENOMEM;
    l->rest = *s;
    l->rest.at += piece;
    l->rest.len -= piece;
    return 0;
}

static struct edge *passed_on_to(const struct node *n)
{
    struct edge *e;

    list_for_each (e, &n->children, in_parent)
        if (e->role == ROLE_FILTERED)
            return e;
    return NULL;
}

/* Where the request goes from a node that it has arrived at.
 * Return: 1: on to *s, which is now at a child; 0: this stop is done; negative: failed. */
static int co_fn next_stop(struct road *w, struct level *own, struct stop *s)
{
    const struct driver *d = s->node->driver;
    bool write = s->kind != ROAD_READ;
    struct map m = { 0 };
    struct edge *e;
    uint64_t piece;
    int result;

    if ((s->kind == ROAD_ZERO || s->kind == ROAD_DISCARD) && driver_can(d, s->kind))
        return carry_out(w, s);
    if (!d->map) {
        e = driver_can(d, s->kind) ? NULL : passed_on_to(s->node);
        if (!e)
            return carry_out(w, s);
        s->node = e->child;
        return 1;
    }
    result = d->map(s->node, s->at, s->len, write, true, &m);
    if (result < 0)
        return result;
    if (m.kind == MAP_HERE || m.kind == MAP_LONG_ROAD || (m.kind == MAP_ZERO && write))
        return carry_out(w, s);
    piece = m.len < s->len ? m.len : s->len;
    result = keep_rest(w, own, s, piece);
    if (result < 0)
        return result;
    if (write && w->fua && !m.stable)
        w->flush = true;
    if (m.kind == MAP_ZERO) {
        read_zeroes(w, piece);
        return 0;
    }
    *s = (struct stop){ m.edge->child, s->kind, s->flags, m.offset, piece };
    return 1;
}

/* From @s to the end of it, leaving levels behind. */
static int co_fn walk(struct road *w, struct stop s, struct level *own)
{
    int result;

    for (;;) {
        if (!own) {
            struct level *before = w->top;
            result = arrive(w, &s);
            if (result < 0)
                return result;
            own = w->top != before ? w->top : NULL;
        }
        result = next_stop(w, own, &s);
        if (result <= 0)
            return result;
        own = NULL;
    }
}

int co_fn road_run(struct road *w, const struct stop *first)
{
    int result = walk(w, *first, NULL);

    while (w->top) {
        struct stop rest = w->top->rest;

        if (result == 0 && rest.len) {
            w->top->rest.len = 0;
            result = walk(w, rest, w->top);
        } else {
            pop_level(w, result);
        }
    }
    return result;
}

/* A request of @e's owner, with bounds and permission seen to. */
static int co_fn request(struct operation *o, struct edge *e, const struct span *v, unsigned count,
                         const struct stop *s)
{
    struct road w = { .operation = o, .v = v, .count = count, .fua = s->flags & IO_FUA };
    int result = s->len ? road_run(&w, s) : 0;

    if (result == 0 && w.fua && (w.flush || !s->len))
        result = flush_tree(o, e->child, false);
    return result;
}

static bool within(const struct node *n, uint64_t offset, uint64_t len)
{
    uint64_t size = node_size(n);

    return offset <= size && len <= size - offset;
}

static int check_change(const struct edge *e, uint64_t offset, uint64_t len, unsigned flags)
{
    unsigned needed = flags & IO_WRITE_UNCHANGED ? PERM_WRITE | PERM_WRITE_UNCHANGED : PERM_WRITE;

    if (!(e->perm & needed) || e->child->read_only)
        return -EPERM;
    if (!within(e->child, offset, len) &&
        (!(e->perm & PERM_RESIZE) || len > (uint64_t)INT64_MAX - offset))
        return -ENOSPC;
    return 0;
}

int co_fn io_read(struct operation *o, struct edge *e, uint64_t offset, const struct span *v,
                  unsigned count, unsigned flags)
{
    struct stop s = { e->child, ROAD_READ, flags, offset, span_bytes(v, count) };

    if (!(e->perm & PERM_READ))
        return -EPERM;
    if (count > SPAN_MAX || !within(e->child, offset, s.len))
        return -EINVAL;
    return request(o, e, v, count, &s);
}

int co_fn io_write(struct operation *o, struct edge *e, uint64_t offset, const struct span *v,
                   unsigned count, unsigned flags)
{
    struct stop s = { e->child, ROAD_WRITE, flags, offset, span_bytes(v, count) };
    int result = check_change(e, offset, s.len, flags);

    return result < 0 ? result : count > SPAN_MAX ? -EINVAL : request(o, e, v, count, &s);
}

int co_fn io_zero(struct operation *o, struct edge *e, uint64_t offset, uint64_t len,
                  unsigned flags)
{
    struct stop s = { e->child, ROAD_ZERO, flags, offset, len };
    int result = check_change(e, offset, len, flags);

    return result < 0 ? result : request(o, e, NULL, 0, &s);
}

int co_fn io_discard(struct operation *o, struct edge *e, uint64_t offset, uint64_t len)
{
    struct stop s = { e->child, ROAD_DISCARD, 0, offset, len };
    int result = check_change(e, offset, len, 0);

    if (result < 0)
        return within(e->child, offset, len) ? result : -EINVAL;
    return request(o, e, NULL, 0, &s);
}

int co_fn io_read_control(struct node *n, uint64_t offset, void *p, size_t len)
{
    struct span v = { .p = p, .len = len };
    struct road w = { .v = &v, .count = 1 };
    const struct stop s = { n, ROAD_READ, 0, offset, len };

    return !within(n, offset, len) ? -EINVAL : len ? road_run(&w, &s) : 0;
}

int co_fn io_write_control(struct node *n, uint64_t offset, const void *p, size_t len)
{
    struct span v = { .p = (uint8_t *)p, .len = len };
    struct road w = { .v = &v, .count = 1 };
    const struct stop s = { n, ROAD_WRITE, 0, offset, len };

    if (n->read_only)
        return -EPERM;
    return !within(n, offset, len) ? -ENOSPC : len ? road_run(&w, &s) : 0;
}

void io_release(struct node *n)
{
    flush_state_free(atomic_exchange(&n->flush, NULL));
    if (atomic_load(&n->guard))
        tracked_requests_free(atomic_exchange(&n->guard, NULL));
    if (n->tracking)
        tracked_requests_free(n->tracking);
    n->tracking = NULL;
}
