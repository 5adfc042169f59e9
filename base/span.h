/* SPDX-License-Identifier: MIT */
/*
 * A span is a piece of memory that its caller owns until the call returns.
 * Data calls take a vector of at most SPAN_MAX spans, bytes in order.  p is
 * NULL when the bytes lie in a buffer that is registered with the kernel and
 * that the daemon cannot see ("opaque"): then buffer and offset name them.
 */
#ifndef BASE_SPAN_H
#define BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SPAN_MAX = 8 };

struct span {
    uint8_t *p;      /* NULL: opaque */
    size_t len;      /* bytes */
    uint32_t buffer; /* opaque only: index in the ring's table of registered buffers */
    uint64_t offset; /* opaque only: first byte in that buffer */
};

/* Bytes in @n spans. */
static inline uint64_t span_bytes(const struct span *v, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += v[i].len;
    return sum;
}

/** span_cut - the spans that hold bytes [skip, skip+len) of @v
 * @out: room for SPAN_MAX spans.
 * Return: how many spans of @out are used.  The range must lie within @v.
 */
unsigned span_cut(const struct span *v, unsigned n, uint64_t skip, uint64_t len, struct span *out);

/** span_is_zero - do all bytes of @v read zero?  False when a span is opaque. */
bool span_is_zero(const struct span *v, unsigned n);

/** span_fill - set every byte; the spans must not be opaque */
void span_fill(const struct span *v, unsigned n, uint8_t byte);

/** span_gather - copy the bytes of @v to @dst; span_scatter - copy @src into @v */
void span_gather(const struct span *v, unsigned n, void *dst);
void span_scatter(const struct span *v, unsigned n, const void *src);

/** bytes_are_zero - is every byte of [p, p+len) zero? */
bool bytes_are_zero(const void *p, size_t len);

#endif
