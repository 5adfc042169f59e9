/* SPDX-License-Identifier: MIT */
/* The walk of one request down the graph: see the header. */
#include "block/road.h"

#include <errno.h>
#include <stdlib.h>

#include "block/align.h"
#include "block/flush.h"
#include "block/submit.h"

struct level *road_level(struct road *w, const struct stop *s)
{
    struct level *l = w->depth < ROAD_LEVELS ? &w->levels[w->depth] : malloc(sizeof *l);
    if (!l)
        return NULL;
    *l = (struct level){ .up = w->top, .whole = *s };
    w->top = l;
    w->depth++;
    return l;
}

static void pop(struct road *w, int result)
{
    struct level *l = w->top;
    if (l->has_end)
        depart(l, result);
    w->top = l->up;
    if (w->depth-- > ROAD_LEVELS)
        free(l);
}

/* The one child whose bytes are a filter's own; NULL when @n is no filter. */
static struct edge *filtered_child(const struct node *n)
{
    struct edge *e;
    list_for_each (e, &n->children, in_parent) {
        if (e->role == ROLE_FILTERED)
            return e;
    }
    return NULL;
}

/* Does the driver itself carry out this kind of request, where map() does not lead on? */
static bool has_call(const struct driver *d, enum road_kind kind)
{
    switch (kind) {
    case ROAD_READ: return d->read != NULL;
    case ROAD_WRITE: return d->write != NULL;
    case ROAD_ZERO: return d->zero || d->write;
    case ROAD_DISCARD: return d->discard != NULL;
    }
    return false;
}

/* Must the request stop here without asking map()? */
static bool is_own(const struct stop *s)
{
    const struct driver *d = s->node->driver;
    if (!d->map)
        return has_call(d, s->kind);
    if (s->kind == ROAD_ZERO && d->zero)
        return true;
    if (s->kind == ROAD_DISCARD && (d->discard || s->node->options.discard == DISCARD_IGNORE))
        return true;
    return (d->flags & DRIVER_SEES_ALL) && has_call(d, s->kind);
}

/* Where does the request go on?  MAP_CHILD, MAP_ZERO (reads), or MAP_LONG_ROAD: to this driver. */
static int co_fn route(const struct stop *s, struct map *m)
{
    const struct driver *d = s->node->driver;
    *m = (struct map){ .kind = MAP_LONG_ROAD, .len = s->len };
    if (is_own(s))
        return 0;
    if (d->map) {
        int r = d->map(s->node, s->at, s->len, s->kind != ROAD_READ, true, m);
        if (r < 0)
            return r;
        if (!m->len)
            return -EIO;
        if (m->len > s->len)
            m->len = s->len;
        if (m->kind == MAP_CHILD || (m->kind == MAP_ZERO && s->kind == ROAD_READ))
            return 0;
        m->kind = MAP_LONG_ROAD;
    }
    if (has_call(d, s->kind))
        return 0;
    struct edge *e = filtered_child(s->node);
    if (e) {
        *m = (struct map){
            .kind = MAP_CHILD, .edge = e, .offset = s->at, .len = m->len, .stable = true
        };
        return 0;
    }
    return s->kind == ROAD_DISCARD ? 0 : -ENOTSUP;
}

/* Go on in a child. */
static int co_fn descend(struct road *w, struct stop *s, const struct map *m)
{
    struct node *child = m->edge->child;
    uint64_t size = node_size(child);
    if (m->len < s->len) {
        struct level *l = road_level(w, s);
        if (!l)
            return -ENOMEM;
        l->rest = *s;
        l->rest.at += m->len;
        l->rest.len -= m->len;
    }
    if (w->fua && !m->stable && s->kind != ROAD_READ)
        w->flush = true;
    s->node = child;
    s->at = m->offset;
    s->len = m->len;
    if (s->at > size || s->len > size - s->at) {
        if (s->kind == ROAD_READ)
            return -EIO; /* what the parent's tables say of it is not so */
        if (!(m->edge->perm & PERM_RESIZE))
            return -ENOSPC;
    }
    return arrive(w, s);
}

static int co_fn read_here(struct road *w, const struct stop *s, const struct map *m,
                           const struct span *v, unsigned count)
{
    if (m->kind != MAP_ZERO)
        return align_read(s->node, w->operation, s->at, v, count, s->flags);
    for (unsigned i = 0; i < count; i++) {
        if (!v[i].p && v[i].len)
            return s->node->driver->read
                       ? align_read(s->node, w->operation, s->at, v, count, s->flags)
                       : -EOPNOTSUPP;
    }
    span_fill(v, count, 0);
    return 0;
}

/* Flags for the driver; FUA only where it can do that itself and it will be enough. */
static unsigned write_flags(struct road *w, const struct stop *s)
{
    const struct node *n = s->node;
    bool drops_it = n->driver->kind == DRIVER_PROTOCOL && n->options.no_flush;
    if (!w->fua || drops_it)
        return s->flags;
    if (!n->limits.fua || s->kind == ROAD_ZERO)
        w->flush = true;
    return w->flush ? s->flags : s->flags | IO_FUA;
}

/* Carry out the first @m->len bytes of @s at its node. */
static int co_fn carry_out(struct road *w, const struct stop *s, const struct map *m)
{
    struct node *n = s->node;
    struct span cut[SPAN_MAX];
    unsigned count = 0;
    if (s->kind == ROAD_READ || s->kind == ROAD_WRITE)
        count = span_cut(w->v, w->count, w->done, m->len, cut);
    switch (s->kind) {
    case ROAD_READ: return read_here(w, s, m, cut, count);
    case ROAD_WRITE: return align_write(n, w->operation, s->at, cut, count, write_flags(w, s));
    case ROAD_ZERO: return align_zero(n, w->operation, s->at, m->len, write_flags(w, s));
    case ROAD_DISCARD:
        if (n->options.discard == DISCARD_IGNORE || !n->driver->discard)
            return 0;
        return align_discard(n, w->operation, s->at, m->len);
    }
    return 0;
}

/* @len bytes of @s are done: what comes next?  False: all is done. */
static bool advance(struct road *w, struct stop *s, uint64_t len)
{
    w->done += len;
    s->at += len;
    s->len -= len;
    while (!s->len) {
        if (!w->top)
            return false;
        *s = w->top->rest;
        w->top->rest.len = 0;
        if (!s->len || !w->top->has_end)
            pop(w, 0);
    }
    return true;
}

int co_fn road_run(struct road *w, const struct stop *first)
{
    struct stop s = *first;
    int r = arrive(w, &s);
    while (r == 0) {
        struct map m;
        r = route(&s, &m);
        if (r == 0 && m.kind == MAP_CHILD) {
            r = descend(w, &s, &m);
        } else if (r == 0) {
            r = carry_out(w, &s, &m);
            if (r == 0 && !advance(w, &s, m.len))
                return w->flush ? flush_tree(w->operation, first->node, false) : 0;
        }
    }
    while (w->top)
        pop(w, r);
    return r;
}
