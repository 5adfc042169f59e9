/* SPDX-License-Identifier: MIT */
/*
 * The doors of the road: bounds and permissions, then road_run().  Also I/O of
 * control code, and what is freed when a node goes.
 */
#include "block/io.h"

#include <errno.h>

#include "block/flush.h"
#include "block/road.h"
#include "block/track.h"

/* May this edge carry a change of [offset, offset+len)? */
static int check_change(const struct edge *e, uint64_t offset, uint64_t len, unsigned flags)
{
    unsigned enough = PERM_WRITE | (flags & IO_WRITE_UNCHANGED ? PERM_WRITE_UNCHANGED : 0);
    uint64_t size = node_size(e->child);
    if (!(e->perm & enough) || e->child->read_only)
        return -EPERM;
    if (offset > INT64_MAX || len > INT64_MAX - offset)
        return -ENOSPC;
    if (offset + len > size && !(e->perm & PERM_RESIZE))
        return -ENOSPC;
    return 0;
}

int co_fn io_read(struct operation *o, struct edge *e, uint64_t offset, const struct span *v,
                  unsigned count, unsigned flags)
{
    uint64_t len = span_bytes(v, count), size = node_size(e->child);
    if (!(e->perm & PERM_READ))
        return -EPERM;
    if (count > SPAN_MAX || offset > size || len > size - offset)
        return -EINVAL;
    if (!len)
        return 0;
    struct road w = { .operation = o, .v = v, .count = count };
    const struct stop first = { e->child, ROAD_READ, flags, offset, len };
    return road_run(&w, &first);
}

static int co_fn change(struct operation *o, struct edge *e, enum road_kind kind, uint64_t offset,
                        uint64_t len, const struct span *v, unsigned count, unsigned flags)
{
    int r = check_change(e, offset, len, flags);
    if (r < 0 || !len)
        return r;
    struct road w = { .operation = o, .v = v, .count = count, .fua = flags & IO_FUA };
    const struct stop first = { e->child, kind, flags & ~IO_FUA, offset, len };
    return road_run(&w, &first);
}

int co_fn io_write(struct operation *o, struct edge *e, uint64_t offset, const struct span *v,
                   unsigned count, unsigned flags)
{
    if (count > SPAN_MAX)
        return -EINVAL;
    return change(o, e, ROAD_WRITE, offset, span_bytes(v, count), v, count, flags);
}

int co_fn io_zero(struct operation *o, struct edge *e, uint64_t offset, uint64_t len,
                  unsigned flags)
{
    return change(o, e, ROAD_ZERO, offset, len, NULL, 0, flags);
}

int co_fn io_discard(struct operation *o, struct edge *e, uint64_t offset, uint64_t len)
{
    uint64_t size = node_size(e->child);
    if (offset > size || len > size - offset)
        return -EINVAL;
    return change(o, e, ROAD_DISCARD, offset, len, NULL, 0, 0);
}

/* ---- control code ---- */

/* An edge for a node that may have no parent yet. */
static struct edge loose_edge(struct node *n)
{
    return (struct edge){ .child = n, .perm = PERM_ALL, .shared = PERM_ALL };
}

int co_fn io_read_control(struct node *n, uint64_t offset, void *p, size_t len)
{
    struct edge e = loose_edge(n);
    const struct span v = { .p = p, .len = len };
    return io_read(NULL, &e, offset, &v, 1, 0);
}

int co_fn io_write_control(struct node *n, uint64_t offset, const void *p, size_t len)
{
    struct edge e = loose_edge(n);
    const struct span v = { .p = (uint8_t *)p, .len = len };
    return io_write(NULL, &e, offset, &v, 1, 0);
}

void io_release(struct node *n)
{
    tracked_requests_free(n->tracking);
    tracked_requests_free(atomic_load(&n->guard));
    flush_state_free(atomic_load(&n->flush));
    n->tracking = NULL;
    atomic_store(&n->guard, NULL);
    atomic_store(&n->flush, NULL);
}
