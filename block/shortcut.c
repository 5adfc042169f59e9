/* SPDX-License-Identifier: MIT */
/*
 * The short cut: where map() leads from a root down to a file and nothing on
 * the way needs to see the request, the owner of the root does the file I/O
 * itself.
 *
 * Whatever needs to see requests is attached by an edit, and every edit
 * recomputes the root's two bits while its gates are shut; so one look at a bit
 * inside the gate is enough.
 */
#include "block/flush.h"
#include "block/io.h"
#include "block/observe.h"

static bool aligned(const struct node *n, uint64_t offset, uint64_t len)
{
    uint64_t mask = n->limits.alignment ? n->limits.alignment - 1 : 0;

    return !((offset | len) & mask) && !(n->limits.transfer_max && len > n->limits.transfer_max);
}

bool shortcut_find(struct root *r, bool write, uint64_t offset, uint64_t len, unsigned flags,
                   struct shortcut *out)
{
    struct node *n = root_node(r);

    if (write ? !r->shortcut_write : !r->shortcut_read)
        return false;
    out->path_length = 0;
    out->zero = false;
    while (out->path_length < SHORTCUT_PATH_MAX) {
        struct map m;

        if ((write && n->guarded_raw && offset < NODE_GUARD_BYTES) || !n->driver->map ||
            n->driver->map(n, offset, len, write, false, &m) < 0 || m.len < len ||
            ((flags & IO_FUA) && !m.stable))
            return false;
        out->path[out->path_length] = n;
        out->at[out->path_length++] = offset;
        switch (m.kind) {
        case MAP_CHILD:
            n = m.edge->child;
            offset = m.offset;
            break;
        case MAP_ZERO: out->zero = true; return !write;
        case MAP_HERE:
            out->file = m.file;
            out->offset = m.offset;
            return aligned(n, offset, len);
        case MAP_LONG_ROAD: return false;
        }
    }
    return false;
}

static void raise_to(_Atomic uint64_t *what, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(what, memory_order_relaxed);

    while (seen < value && !atomic_compare_exchange_weak(what, &seen, value))
        ;
}

void shortcut_done(const struct shortcut *s, bool write, uint64_t len, int result)
{
    for (unsigned i = 0; i < s->path_length; i++) {
        struct node *n = s->path[i];
        struct node_ring *here = node_here(n);

        if (!here) {
            if (write)
                atomic_store(&n->broken, true); /* a change that no flush knows of */
            continue;
        }
        if (write && i == s->path_length - 1)
            flush_note_change(here); /* a failed one may have changed something, too */
        if (result < 0)
            continue;
        io_counters_add(&here->counters, write ? IO_WRITE : IO_READ, len);
        if (write)
            raise_to(&n->stats.highest_write_end, s->at[i] + len);
    }
}

/* Look at @n and all below; clears what is not possible. */
static void look_below(struct node *n, bool *read, bool *write)
{
    for (struct node *next; n; n = next) {
        struct edge *e;

        watch_refresh(n);
        if (n->driver->flags & DRIVER_SEES_ALL)
            *read = *write = false;
        if (n->read_only || (watch_flags(n) & ~(unsigned)WATCH_GUARD))
            *write = false;
        next = NULL;
        list_for_each (e, &n->children, in_parent) {
            if (next)
                look_below(next, read, write);
            next = e->child; /* the last child in this loop: a long chain needs one frame */
        }
    }
}

void shortcut_recompute(struct root *r)
{
    bool read = false, write = false;
    struct edge *e;
    unsigned edges = 0;

    list_for_each (e, &r->edges, in_parent) {
        bool r_ok = true, w_ok = true;
        look_below(e->child, &r_ok, &w_ok);
        if (edges++ == 0) {
            read = r_ok && (e->perm & PERM_READ);
            write = w_ok && (e->perm & PERM_WRITE);
        }
    }
    r->shortcut_read = edges == 1 && read;
    r->shortcut_write = edges == 1 && write;
}
