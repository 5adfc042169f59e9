/* SPDX-License-Identifier: MIT */
/* Pieces of memory: cutting vectors of spans, and copying and judging their bytes. */
#include <assert.h>
#include <string.h>

#include "base/span.h"

unsigned span_cut(const struct span *v, unsigned n, uint64_t skip, uint64_t len, struct span *out)
{
    unsigned used = 0;

    for (unsigned i = 0; i < n && len; i++) {
        if (skip >= v[i].len) {
            skip -= v[i].len;
            continue;
        }
        struct span s = v[i];
        if (s.p)
            s.p += skip;
        else
            s.offset += skip;
        s.len -= skip;
        skip = 0;
        if (s.len > len)
            s.len = len;
        len -= s.len;
        out[used++] = s;
    }
    assert(!len); /* the caller's arithmetic, never a client's */
    return used;
}

/* The compiler makes vector code of the inner loop. */
static bool block_is_zero(const uint8_t *p)
{
    uint64_t word[8], any = 0;

    memcpy(word, p, sizeof word);
    for (unsigned i = 0; i < 8; i++)
        any |= word[i];
    return !any;
}

bool bytes_are_zero(const void *p, size_t len)
{
    const uint8_t *b = p;

    if (!len)
        return true;
    /* Data that is not zero mostly shows at an end. */
    if (b[0] || b[len - 1])
        return false;
    for (; len >= 64; b += 64, len -= 64) {
        if (!block_is_zero(b))
            return false;
    }
    while (len--) {
        if (b[len])
            return false;
    }
    return true;
}

bool span_is_zero(const struct span *v, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        if (v[i].len && (!v[i].p || !bytes_are_zero(v[i].p, v[i].len)))
            return false;
    }
    return true;
}

void span_fill(const struct span *v, unsigned n, uint8_t byte)
{
    for (unsigned i = 0; i < n; i++) {
        if (v[i].len)
            memset(v[i].p, byte, v[i].len);
    }
}

void span_gather(const struct span *v, unsigned n, void *dst)
{
    uint8_t *to = dst;

    for (unsigned i = 0; i < n; to += v[i].len, i++) {
        if (v[i].len)
            memcpy(to, v[i].p, v[i].len);
    }
}

void span_scatter(const struct span *v, unsigned n, const void *src)
{
    const uint8_t *from = src;

    for (unsigned i = 0; i < n; from += v[i].len, i++) {
        if (v[i].len)
            memcpy(v[i].p, from, v[i].len);
    }
}
