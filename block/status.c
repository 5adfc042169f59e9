/* SPDX-License-Identifier: MIT */
/*
 * Block status: what a range is, through the whole chain.  The walk is a loop
 * like that of a request: down through map(), and to the backing file where a
 * layer decides nothing.
 */
#include <errno.h>

#include "block/align.h"
#include "block/io.h"

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The driver's answer for exactly [offset, offset+len), though it is asked in whole blocks. */
static int co_fn ask_driver(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                            bool want_zero, struct extent *out)
{
    uint64_t at = offset, wide = len, head;
    int result;

    align_widen(n, &at, &wide);
    head = offset - at;
    *out = (struct extent){ 0 };
    result = n->driver->status(n, o, at, wide, want_zero, out);
    if (result < 0)
        return result;
    if (out->len <= head)
        return -EIO; /* less than a block: against the contract */
    out->len = least(out->len - head, len);
    if (out->flags & EXTENT_OFFSET)
        out->offset += head;
    if (!out->node)
        out->node = n;
    return 0;
}

/* A node that lets map() say where things are. */
static int co_fn ask_map(struct node *n, uint64_t offset, uint64_t len, struct extent *out,
                         struct edge **below, uint64_t *below_at)
{
    struct map m = { 0 };
    int result = n->driver->map(n, offset, len, false, true, &m);

    if (result < 0)
        return result;
    *out = (struct extent){ .len = least(m.len, len), .node = n };
    switch (m.kind) {
    case MAP_CHILD:
        *below = m.edge;
        *below_at = m.offset;
        break;
    case MAP_ZERO: out->flags = EXTENT_ZERO | EXTENT_ALLOCATED; break;
    case MAP_HERE:
        out->flags = EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET;
        out->offset = m.offset;
        break;
    case MAP_LONG_ROAD: out->flags = EXTENT_DATA | EXTENT_ALLOCATED; break;
    }
    return 0;
}

static struct edge *child_of_role(const struct node *n, enum edge_role role)
{
    struct edge *e;

    list_for_each (e, &n->children, in_parent)
        if (e->role == role)
            return e;
    return NULL;
}

/* One node's say.  *below: whom to ask next instead (its child, at *below_at), or NULL. */
static int co_fn ask(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                     bool want_zero, struct extent *out, struct edge **below, uint64_t *below_at)
{
    struct edge *backing = child_of_role(n, ROLE_BACKING);
    int result;

    *below = NULL;
    if (!n->driver->status) {
        if (n->driver->map)
            return ask_map(n, offset, len, out, below, below_at);
        *below = child_of_role(n, ROLE_FILTERED);
        *below_at = offset;
        *out = (struct extent){ EXTENT_DATA | EXTENT_ALLOCATED, len, 0, n, 0 };
        return 0;
    }
    result = ask_driver(n, o, offset, len, want_zero, out);
    if (result < 0)
        return result;
    if (!(n->driver->flags & DRIVER_HAS_BACKING))
        out->flags |= EXTENT_ALLOCATED;
    if (!(out->flags & EXTENT_ALLOCATED) && backing) {
        *below = backing;
        *below_at = offset;
    } else if (!(out->flags & EXTENT_ALLOCATED)) {
        out->flags |= EXTENT_ZERO;
    }
    return 0;
}

int co_fn io_status(struct operation *o, struct edge *e, uint64_t offset, uint64_t len,
                    bool want_zero, struct extent *out)
{
    unsigned depth = 0;

    if (offset > node_size(e->child) || len > node_size(e->child) - offset || !len)
        return -EINVAL;
    for (;;) {
        struct node *n = e->child;
        uint64_t size = node_size(n), at;
        struct edge *below;
        int result;

        if (offset >= size) { /* past the end of a short backing file */
            *out = (struct extent){ EXTENT_ZERO, len, 0, n, depth };
            return 0;
        }
        len = least(len, size - offset);
        result = ask(n, o, offset, len, want_zero, out, &below, &at);
        if (result < 0)
            return result;
        out->depth = depth;
        if (!below)
            return 0;
        depth += below->role == ROLE_BACKING;
        len = out->len;
        offset = at;
        e = below;
    }
}
