/* SPDX-License-Identifier: MIT */
/* Edges of requests that are not aligned to their node. */
#include "block/align.h"

#include <errno.h>
#include <string.h>

#include "block/submit.h"

/* Requests up to this many bytes are padded whole; of longer ones only the edges. */
enum { PAD_WHOLE_MAX = 64 << 10 };

static uint64_t round_down(uint64_t x, uint64_t a)
{
    return x - x % a;
}

static uint64_t round_up(uint64_t x, uint64_t a)
{
    return round_down(x + a - 1, a);
}

void align_widen(const struct node *n, uint64_t *offset, uint64_t *len)
{
    uint32_t a = node_alignment(n);
    uint64_t end = round_up(*offset + *len, a);
    *offset = round_down(*offset, a);
    *len = end - *offset;
}

bool align_is_partial(const struct node *n, uint64_t offset, uint64_t len)
{
    uint32_t a = node_alignment(n);
    return offset % a || ((offset + len) % a && offset + len < node_size(n));
}

static bool has_opaque(const struct span *v, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (!v[i].p && v[i].len)
            return true;
    }
    return false;
}

/* ---- reading ---- */

/* Read the blocks that hold [offset, offset+len), which are few, and take the bytes out. */
static int co_fn read_padded(struct node *n, struct operation *o, uint64_t offset,
                             const struct span *v, unsigned count, unsigned flags)
{
    uint64_t start = offset, len = span_bytes(v, count);
    align_widen(n, &start, &len);
    autobounce b;
    int r = bounce_get(n, len, &b);
    if (r < 0)
        return r;
    struct span one = { .p = b.p, .len = len };
    r = submit_read(n, o, start, &one, 1, flags);
    if (r == 0)
        span_scatter(v, count, b.p + (offset - start));
    return r;
}

/* A long request: where its middle, which is aligned, begins and ends. */
struct parts {
    uint64_t head, middle, tail; /* bytes in each */
};

static struct parts split(const struct node *n, uint64_t offset, uint64_t len)
{
    uint32_t a = node_alignment(n);
    uint64_t first = round_up(offset, a), last = round_down(offset + len, a);
    if (last <= first) { /* within one block, or across one boundary */
        uint64_t head = first < offset + len ? first - offset : len;
        return (struct parts){ .head = head, .tail = len - head };
    }
    return (struct parts){ first - offset, last - first, offset + len - last };
}

int co_fn align_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                     unsigned count, unsigned flags)
{
    uint64_t len = span_bytes(v, count);
    uint32_t a = node_alignment(n);
    if (offset % a == 0 && len % a == 0)
        return submit_read(n, o, offset, v, count, flags);
    if (has_opaque(v, count))
        return -EOPNOTSUPP;
    if (len <= PAD_WHOLE_MAX)
        return read_padded(n, o, offset, v, count, flags);

    struct span cut[SPAN_MAX];
    struct parts p = split(n, offset, len);
    int r = 0;
    if (p.head)
        r = read_padded(n, o, offset, cut, span_cut(v, count, 0, p.head, cut), flags);
    if (r == 0 && p.middle)
        r = submit_read(n, o, offset + p.head, cut, span_cut(v, count, p.head, p.middle, cut),
                        flags);
    if (r == 0 && p.tail)
        r = read_padded(n, o, offset + p.head + p.middle, cut,
                        span_cut(v, count, p.head + p.middle, p.tail, cut), flags);
    return r;
}

/* ---- writing ---- */

/* Read one block of a range that is about to be written; past the end it is zero. */
static int co_fn read_block(struct node *n, struct operation *o, uint64_t offset, uint8_t *p)
{
    uint32_t a = node_alignment(n);
    uint64_t size = node_size(n);
    if (offset >= size) {
        memset(p, 0, a);
        return 0;
    }
    struct span one = { .p = p, .len = a };
    int r = submit_read(n, o, offset, &one, 1, 0);
    if (r == 0 && offset + a > size)
        memset(p + (size - offset), 0, offset + a - size);
    return r;
}

/* Write the blocks that hold [offset, offset+len), which are few, with these bytes changed. */
static int co_fn write_padded(struct node *n, struct operation *o, uint64_t offset,
                              const struct span *v, unsigned count, unsigned flags)
{
    uint32_t a = node_alignment(n);
    uint64_t len = span_bytes(v, count), start = offset, whole = len, end = offset + len;
    align_widen(n, &start, &whole);
    autobounce b;
    int r = bounce_get(n, whole, &b);
    if (r < 0)
        return r;
    bool read_head = offset % a;
    bool read_tail = end % a && end < node_size(n);
    uint64_t last = whole - a; /* where the last block stands in the buffer */
    if (!read_tail && end % a)
        memset(b.p + last, 0, a);
    if (end <= node_size(n) && start + whole > node_size(n))
        flags |= IO_PADDED;
    if (read_head)
        r = read_block(n, o, start, b.p);
    if (r == 0 && read_tail && !(read_head && last == 0))
        r = read_block(n, o, start + last, b.p + last);
    if (r < 0)
        return r;
    span_gather(v, count, b.p + (offset - start));
    struct span one = { .p = b.p, .len = whole };
    return submit_write(n, o, start, &one, 1, flags & ~IO_REGISTERED);
}

/* 0: go on; a partial change of a node where others are not held off is refused. */
static int check_exclusive(const struct node *n, uint64_t offset, uint64_t len)
{
    return align_is_partial(n, offset, len) && !n->tracking ? -EINVAL : 0;
}

int co_fn align_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags)
{
    uint64_t len = span_bytes(v, count);
    uint32_t a = node_alignment(n);
    if (offset % a == 0 && len % a == 0)
        return submit_write(n, o, offset, v, count, flags);
    int r = check_exclusive(n, offset, len);
    if (r < 0)
        return r;
    if (has_opaque(v, count))
        return -EOPNOTSUPP;
    if (len <= PAD_WHOLE_MAX)
        return write_padded(n, o, offset, v, count, flags);

    struct span cut[SPAN_MAX];
    struct parts p = split(n, offset, len);
    if (p.head)
        r = write_padded(n, o, offset, cut, span_cut(v, count, 0, p.head, cut), flags);
    if (r == 0 && p.middle)
        r = submit_write(n, o, offset + p.head, cut, span_cut(v, count, p.head, p.middle, cut),
                         flags);
    if (r == 0 && p.tail)
        r = write_padded(n, o, offset + p.head + p.middle, cut,
                         span_cut(v, count, p.head + p.middle, p.tail, cut), flags);
    return r;
}

/* Write zeroes over less than a block on either side. */
static int co_fn zero_edge(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    struct span v[SPAN_MAX];
    unsigned count = SPAN_MAX;
    zero_spans(len, v, &count);
    return len ? write_padded(n, o, offset, v, count, 0) : 0;
}

int co_fn align_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                     unsigned flags)
{
    uint32_t a = node_alignment(n);
    if (offset % a == 0 && len % a && offset + len == node_size(n)) {
        len = round_up(len, a); /* the last block, whole */
        flags |= IO_PADDED;
    }
    if (offset % a == 0 && len % a == 0)
        return submit_zero(n, o, offset, len, flags);
    int r = check_exclusive(n, offset, len);
    struct parts p = split(n, offset, len);
    /* The middle first: it alone may refuse for want of a fast way, with nothing changed. */
    if (r == 0 && p.middle)
        r = submit_zero(n, o, offset + p.head, p.middle, flags);
    if (r == 0)
        r = zero_edge(n, o, offset, p.head);
    if (r == 0)
        r = zero_edge(n, o, offset + p.head + p.middle, p.tail);
    return r;
}

int co_fn align_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    uint64_t a = node_alignment(n);
    if (n->limits.discard_alignment > a)
        a = n->limits.discard_alignment;
    uint64_t end = offset + len, start = round_up(offset, a);
    end = end == node_size(n) ? round_up(end, node_alignment(n)) : round_down(end, a);
    return start < end ? submit_discard(n, o, start, end - start) : 0;
}
