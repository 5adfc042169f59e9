/* SPDX-License-Identifier: MIT */
/* Requests as a driver can take them: see the header. */
#include "block/submit.h"

#include <errno.h>
#include <stdlib.h>

#include "block/flush.h"
#include "uring/pool.h"

/* Never written; the kernel backs what is only read with one page of its own. */
static uint8_t zeroes[BOUNCE_MAX] __attribute__((aligned(BUFFER_ALIGN)));

int bounce_get(const struct node *n, size_t len, struct bounce *out)
{
    size_t align = n->limits.memory_alignment;
    *out = (struct bounce){ .len = len };
    if (align <= BUFFER_ALIGN) {
        align = BUFFER_ALIGN;
        out->p = buffer_get(len);
        out->pooled = out->p != NULL;
    }
    if (!out->p)
        out->p = aligned_alloc(align, (len + align - 1) / align * align);
    return out->p ? 0 : -ENOMEM;
}

void bounce_put(struct bounce *b)
{
    if (b->pooled)
        buffer_put(b->p, b->len);
    else
        free(b->p);
    b->p = NULL;
}

uint64_t zero_spans(uint64_t len, struct span *v, unsigned *count)
{
    uint64_t done = 0;
    unsigned used = 0;
    while (used < *count && done < len) {
        uint64_t part = len - done < sizeof zeroes ? len - done : sizeof zeroes;
        v[used++] = (struct span){ .p = zeroes, .len = part };
        done += part;
    }
    *count = used;
    return done;
}

/* The longest piece for a limit (0: none) in steps of @step bytes. */
static uint64_t piece_max(uint64_t limit, uint64_t step)
{
    if (!limit)
        limit = INT64_MAX;
    return limit < step ? step : limit - limit % step;
}

/* May the driver have these spans?  1: it needs a bounce; -EOPNOTSUPP: they are opaque to it. */
static int wants_bounce(const struct node *n, const struct span *v, unsigned count)
{
    uint64_t mask = n->limits.memory_alignment ? n->limits.memory_alignment - 1 : 0;
    bool bounce = count > 1 && !(n->driver->flags & DRIVER_VECTORS);
    for (unsigned i = 0; i < count; i++) {
        if (!v[i].p && v[i].len) {
            if (!(n->driver->flags & DRIVER_OPAQUE) || bounce)
                return -EOPNOTSUPP;
            continue;
        }
        if (((uintptr_t)v[i].p & mask) || (count > 1 && (v[i].len & mask)))
            bounce = true;
    }
    if (!bounce)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        if (!v[i].p && v[i].len)
            return -EOPNOTSUPP;
    }
    return 1;
}

static int co_fn call_driver(struct node *n, struct node_ring *here, struct operation *o,
                             bool write, uint64_t offset, const struct span *v, unsigned count,
                             unsigned flags)
{
    int r;
    here->in_flight++;
    if (write) {
        r = n->driver->write(n, o, offset, v, count, flags);
        flush_note_change(here);
    } else {
        r = n->driver->read(n, o, offset, v, count, flags);
    }
    here->in_flight--;
    return r;
}

/* One piece by way of a bounce buffer. */
static int co_fn call_bounced(struct node *n, struct node_ring *here, struct operation *o,
                              bool write, uint64_t offset, const struct span *v, unsigned count,
                              unsigned flags)
{
    size_t len = span_bytes(v, count);
    autobounce b;
    int r = bounce_get(n, len, &b);
    if (r < 0)
        return r;
    if (write)
        span_gather(v, count, b.p);
    struct span one = { .p = b.p, .len = len };
    r = call_driver(n, here, o, write, offset, &one, 1, flags & ~IO_REGISTERED);
    if (r == 0 && !write)
        span_scatter(v, count, b.p);
    return r;
}

static int co_fn submit_data(struct node *n, struct operation *o, bool write, uint64_t offset,
                             const struct span *v, unsigned count, unsigned flags)
{
    if (write ? !n->driver->write : !n->driver->read)
        return -ENOTSUP;
    struct node_ring *here = node_here(n); /* first: a write that is not counted may be lost */
    if (!here)
        return -ENOMEM;
    uint64_t len = span_bytes(v, count), max = piece_max(n->limits.transfer_max, node_alignment(n));
    for (uint64_t done = 0, part; done < len; done += part) {
        struct span cut[SPAN_MAX];
        part = len - done < max ? len - done : max;
        unsigned pieces = span_cut(v, count, done, part, cut);
        int r = wants_bounce(n, cut, pieces);
        if (r > 0) {
            uint64_t bounce_max = piece_max(BOUNCE_MAX, node_alignment(n));
            part = part < bounce_max ? part : bounce_max;
            pieces = span_cut(v, count, done, part, cut);
            r = call_bounced(n, here, o, write, offset + done, cut, pieces, flags);
        } else if (r == 0) {
            r = call_driver(n, here, o, write, offset + done, cut, pieces, flags);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int co_fn submit_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags)
{
    return submit_data(n, o, false, offset, v, count, flags);
}

int co_fn submit_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                       unsigned count, unsigned flags)
{
    return submit_data(n, o, true, offset, v, count, flags);
}

static int co_fn write_zeroes(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                              unsigned flags)
{
    while (len) {
        struct span v[SPAN_MAX];
        unsigned count = n->driver->flags & DRIVER_VECTORS ? SPAN_MAX : 1;
        uint64_t part = zero_spans(len, v, &count);
        if (part < len && part % node_alignment(n))
            part -= part % node_alignment(n);
        struct span cut[SPAN_MAX];
        count = span_cut(v, count, 0, part, cut);
        int r = submit_write(n, o, offset, cut, count, flags);
        if (r < 0)
            return r;
        offset += part;
        len -= part;
    }
    return 0;
}

/* The next piece of [at, end): up to a boundary of @step, then whole steps, then the rest. */
static uint64_t next_piece(uint64_t at, uint64_t end, uint64_t step, uint64_t max)
{
    uint64_t len = end - at;
    if (at % step)
        len = len < step - at % step ? len : step - at % step;
    else if (len > step)
        len -= len % step;
    return len < max ? len : max;
}

int co_fn submit_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                      unsigned flags)
{
    struct node_ring *here = node_here(n);
    if (!here)
        return -ENOMEM;
    uint64_t step =
        n->limits.zero_alignment > node_alignment(n) ? n->limits.zero_alignment : node_alignment(n);
    uint64_t max = piece_max(n->limits.zero_max, step), end = offset + len;
    bool able = n->driver->zero != NULL;
    if (!able && (flags & IO_NO_FALLBACK))
        return -ENOTSUP;
    for (uint64_t part; offset < end; offset += part) {
        int r = -ENOTSUP;
        part = next_piece(offset, end, step, able ? max : INT64_MAX);
        if (able) {
            here->in_flight++;
            r = n->driver->zero(n, o, offset, part, flags);
            flush_note_change(here);
            here->in_flight--;
        }
        if (r == -ENOTSUP) {
            bool edge = part < step; /* less than it can zero at a time: writing is no slower */
            if ((flags & IO_NO_FALLBACK) && !edge)
                return r;
            able = able && edge;
            r = write_zeroes(n, o, offset, part, flags & ~(IO_MAY_UNMAP | IO_NO_FALLBACK));
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int co_fn submit_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    struct node_ring *here = node_here(n);
    if (!here)
        return -ENOMEM;
    uint64_t step = n->limits.discard_alignment > node_alignment(n) ? n->limits.discard_alignment
                                                                    : node_alignment(n);
    uint64_t max = piece_max(n->limits.discard_max, step), end = offset + len;
    for (uint64_t part; offset < end; offset += part) {
        part = next_piece(offset, end, step, max);
        here->in_flight++;
        int r = n->driver->discard(n, o, offset, part);
        flush_note_change(here);
        here->in_flight--;
        if (r < 0 && r != -ENOTSUP)
            return r;
    }
    return 0;
}
