/* SPDX-License-Identifier: MIT */
/*
 * The short cut: straight from an export to a file, where maps lead there and
 * nobody on the way needs to see the request.  All is asked inside the gate, so
 * an edit that attaches a watcher or moves an edge waits for the request.
 */
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/flush.h"
#include "block/graph.h"
#include "block/io.h"
#include "block/observe.h"
#include "block/submit.h"
#include "block/track.h"

/* Watchers that need every write, whatever its range. */
enum {
    WATCH_ALL_WRITES = WATCH_TRACKING | WATCH_THRESHOLD | WATCH_DETECT_ZEROES | WATCH_OBSERVERS
};

static bool may_pass(struct node *n, bool write)
{
    if (!n->driver->map || (n->driver->flags & DRIVER_SEES_ALL))
        return false;
    return !write || !(watch_flags(n) & WATCH_ALL_WRITES);
}

/* May a request pass this node as it is?  What only depends on the range. */
static bool fits(struct node *n, bool write, uint64_t offset, uint64_t len)
{
    if ((offset | len) & (node_alignment(n) - 1))
        return false;
    if (n->limits.transfer_max && len > n->limits.transfer_max)
        return false;
    if (write && offset < NODE_GUARD_BYTES && n->guarded_raw)
        return false;
    uint64_t size = node_size(n);
    return offset <= size && len <= size - offset && node_here(n);
}

static bool ends_here(const struct node *n, unsigned flags)
{
    return !(flags & IO_REGISTERED) || n->driver->flags & DRIVER_OPAQUE;
}

bool shortcut_find(struct root *r, bool write, uint64_t offset, uint64_t len, unsigned flags,
                   struct shortcut *out)
{
    struct node *n = root_node(r);
    if (!n || !(write ? r->shortcut_write : r->shortcut_read) || !len ||
        (flags & ~(IO_REGISTERED | IO_WRITE_UNCHANGED)))
        return false;
    out->zero = false;
    for (unsigned i = 0; i < SHORTCUT_PATH_MAX; i++) {
        struct map m;
        if (!may_pass(n, write) || !fits(n, write, offset, len) ||
            n->driver->map(n, offset, len, write, false, &m) < 0 || m.len < len)
            return false;
        out->path[i] = n;
        out->at[i] = offset;
        out->path_length = i + 1;
        switch (m.kind) {
        case MAP_LONG_ROAD: return false;
        case MAP_ZERO: out->zero = true; return !write && !(flags & IO_REGISTERED);
        case MAP_HERE:
            out->file = m.file;
            out->offset = m.offset;
            return ends_here(n, flags);
        case MAP_CHILD: n = m.edge->child; offset = m.offset;
        }
    }
    return false;
}

void shortcut_done(const struct shortcut *s, bool write, uint64_t len, int result)
{
    for (unsigned i = 0; i < s->path_length; i++) {
        struct node_ring *here = node_here(s->path[i]); /* there since shortcut_find() */
        /* A failed write may have changed something: it is repeated on the long road, which counts. */
        if (result < 0 || !here)
            continue;
        io_counters_add(&here->counters, write ? IO_WRITE : IO_READ, len);
        if (!write)
            continue;
        raise_to(&s->path[i]->stats.highest_write_end, s->at[i] + len);
        flush_note_change(here);
    }
}

bool shortcut_read_inline(const struct shortcut *s, void *p, size_t len)
{
    struct iovec v = { p, len };
    ssize_t n = s->file.nowait ? preadv2(s->file.fd, &v, 1, (off_t)s->offset, RWF_NOWAIT)
                               : pread(s->file.fd, p, len, (off_t)s->offset);

    return n == (ssize_t)len;
}

bool shortcut_write_inline(const struct shortcut *s, const void *p, size_t len)
{
    struct iovec v = { (void *)p, len };
    ssize_t n = s->file.nowait ? pwritev2(s->file.fd, &v, 1, (off_t)s->offset, RWF_NOWAIT)
                               : pwrite(s->file.fd, p, len, (off_t)s->offset);

    return n == (ssize_t)len;
}

/* Below a node that requires it all is tracked, also what an edit has just put there. */
static void refresh_below(struct node *top)
{
    struct descent d;
    struct node *n;
    descent_begin(&d, top);
    while ((n = descent_next(&d))) {
        if (!n->tracking && track_required(n))
            n->tracking =
                tracked_requests_new(); /* without: partial writes fail, nothing is lost */
        watch_refresh(n);
    }
}

void shortcut_recompute(struct root *r)
{
    struct edge *e;
    list_for_each (e, &r->edges, in_parent)
        refresh_below(e->child);
    struct node *n = root_node(r);
    r->shortcut_read = n && may_pass(n, false);
    r->shortcut_write =
        n && (root_edge(r)->perm & PERM_WRITE) && !n->read_only && may_pass(n, true);
}
