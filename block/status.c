/* SPDX-License-Identifier: MIT */
/*
 * Block status: what a range is, who decides it and how deep in the chain.
 *
 * One look goes down the chain in a loop, to the node that decides the first
 * byte, and shortens the range to what holds for all of it.  Looks at what
 * follows are joined while they say the same, up to a fixed amount of work:
 * callers ask on from where an answer ends.
 */
#include <errno.h>

#include "block/align.h"
#include "block/io.h"
#include "block/submit.h"

/* Joining stops after so many looks, or once so many nodes were asked. */
enum { JOIN_LOOKS_MAX = 16, JOIN_NODES_MAX = 64 };

struct look {
    struct operation *operation;
    bool want_zero;
    struct node *node; /* being asked */
    uint64_t at, len;
    unsigned depth;
    unsigned asked; /* nodes, in all looks */
};

static struct edge *child_of_role(const struct node *n, enum edge_role role)
{
    struct edge *e;
    list_for_each (e, &n->children, in_parent)
        if (e->role == role)
            return e;
    return NULL;
}

static void shorten(struct look *l, uint64_t len)
{
    if (len < l->len)
        l->len = len;
}

/* The range is decided: @flags. */
static int decided(const struct look *l, unsigned flags, struct extent *out)
{
    *out = (struct extent){ .flags = flags, .len = l->len, .node = l->node, .depth = l->depth };
    if (flags & EXTENT_OFFSET)
        out->offset = l->at;
    return 0;
}

/* Not allocated in this node: its backing file decides.  1: go on there; 0: @out is filled in. */
static int go_to_backing(struct look *l, struct extent *out)
{
    struct edge *e = child_of_role(l->node, ROLE_BACKING);
    if (!e)
        return decided(l, EXTENT_ZERO, out);
    uint64_t size = node_size(e->child);
    l->node = e->child;
    l->depth++;
    if (l->at >= size) /* by being short it decides that there are zeroes */
        return decided(l, EXTENT_ZERO | EXTENT_ALLOCATED, out);
    shorten(l, size - l->at);
    return 1;
}

/* The driver knows.  Its answer is about whole blocks, ours begins where we asked. */
static int co_fn ask_driver(struct look *l, struct extent *out)
{
    struct node *n = l->node;
    uint64_t start = l->at, whole = l->len;
    struct extent x = { 0 };
    align_widen(n, &start, &whole);
    int r = n->driver->status(n, l->operation, start, whole, l->want_zero, &x);
    if (r < 0)
        return r;
    uint64_t skipped = l->at - start;
    if (x.len <= skipped)
        return -EIO;
    shorten(l, x.len - skipped);
    if (!(n->driver->flags & DRIVER_HAS_BACKING))
        x.flags |= EXTENT_ALLOCATED;
    if (!(x.flags & EXTENT_ALLOCATED))
        return go_to_backing(l, out);
    decided(l, x.flags, out);
    if (x.flags & EXTENT_OFFSET) {
        out->offset = x.offset + skipped;
        out->node = x.node ? x.node : n;
    }
    return 0;
}

static int go_to_child(struct look *l, const struct edge *e, uint64_t at)
{
    uint64_t size = node_size(e->child);
    if (at >= size)
        return -EIO;
    shorten(l, size - at);
    if (e->role == ROLE_BACKING)
        l->depth++;
    l->node = e->child;
    l->at = at;
    return 1;
}

/* The driver has only map(): the bytes are decided where it leads. */
static int co_fn ask_map(struct look *l, struct extent *out)
{
    struct map m = { 0 };
    int r = l->node->driver->map(l->node, l->at, l->len, false, true, &m);
    if (r < 0)
        return r;
    if (!m.len)
        return -EIO;
    shorten(l, m.len);
    if (m.kind == MAP_CHILD)
        return go_to_child(l, m.edge, m.offset);
    if (m.kind == MAP_ZERO)
        return decided(l, EXTENT_ZERO | EXTENT_ALLOCATED, out);
    return decided(l, EXTENT_DATA | EXTENT_ALLOCATED | (m.kind == MAP_HERE ? EXTENT_OFFSET : 0),
                   out);
}

/* 1: ask the node that @l now stands at; 0: @out is filled in; else an error. */
static int co_fn ask(struct look *l, struct extent *out)
{
    const struct driver *d = l->node->driver;
    l->asked++;
    if (d->status)
        return ask_driver(l, out);
    if (d->map)
        return ask_map(l, out);
    struct edge *e = child_of_role(l->node, ROLE_FILTERED);
    if (e)
        return go_to_child(l, e, l->at);
    return decided(
        l, EXTENT_DATA | EXTENT_ALLOCATED | (d->kind == DRIVER_PROTOCOL ? EXTENT_OFFSET : 0), out);
}

static int co_fn look_at(struct look *l, struct node *n, uint64_t at, uint64_t len,
                         struct extent *out)
{
    int r;
    l->node = n;
    l->at = at;
    l->len = len;
    l->depth = 0;
    do
        r = ask(l, out);
    while (r > 0);
    return r;
}

static bool continues(const struct extent *a, const struct extent *b)
{
    if (a->flags != b->flags || a->depth != b->depth)
        return false;
    return !(a->flags & EXTENT_OFFSET) || (a->node == b->node && a->offset + a->len == b->offset);
}

int co_fn io_status(struct operation *o, struct edge *e, uint64_t offset, uint64_t len,
                    bool want_zero, struct extent *out)
{
    uint64_t size = node_size(e->child);
    if (offset >= size || len > size - offset || !len)
        return -EINVAL;
    struct look l = { .operation = o, .want_zero = want_zero };
    int r = look_at(&l, e->child, offset, len, out);
    for (unsigned looks = 1;
         r == 0 && out->len < len && looks < JOIN_LOOKS_MAX && l.asked < JOIN_NODES_MAX; looks++) {
        struct extent next;
        /* What follows may fail: then whoever asks for it is told. */
        if (look_at(&l, e->child, offset + out->len, len - out->len, &next) < 0 ||
            !continues(out, &next))
            break;
        out->len += next.len;
    }
    return r;
}
