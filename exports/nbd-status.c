/* SPDX-License-Identifier: MIT */
/*
 * NBD_CMD_BLOCK_STATUS: one chunk per chosen meta context, made of extents that
 * describe the asked range from its beginning.  How many extents one answer has,
 * and how long it may take to find them, is bounded; the client asks again.
 */
#include <errno.h>

#include "exports/nbd-connection.h"

enum {
    EXTENTS_MAX = 1024,      /* per context and answer; they fit one reply chunk */
    NARROW_MAX = 0xfffffe00, /* longest extent of a 32-bit answer, a multiple of 512 */
};

/* The flags of one meta context for what io_status() said. */
static uint64_t context_flags(uint32_t context, const struct extent *e)
{
    if (context == NBD_CONTEXT_DEPTH)
        return e->flags & EXTENT_ALLOCATED ? e->depth + 1 : 0;
    return (e->flags & EXTENT_DATA ? 0 : NBD_STATE_HOLE) |
           (e->flags & EXTENT_ZERO ? NBD_STATE_ZERO : 0);
}

/* Append, joined with the extent before when it says the same.  False: the answer is full. */
static bool add(struct nbd_extent *list, unsigned *count, unsigned max, uint64_t length,
                uint64_t flags, uint64_t length_max)
{
    if (*count && list[*count - 1].flags == flags &&
        length <= length_max - list[*count - 1].length) {
        list[*count - 1].length += length;
        return true;
    }
    if (*count == max)
        return false;
    list[(*count)++] = (struct nbd_extent){ length, flags };
    return true;
}

/* Fill @list for one context; 0 or a negative errno. */
static int co_fn describe(struct nbd_request *r, uint32_t context, struct nbd_extent *list,
                          unsigned *count)
{
    struct nbd_connection *c = r->connection;
    bool wide = c->style == NBD_EXTENDED;
    uint64_t length_max = wide ? UINT64_MAX : NARROW_MAX;
    unsigned max = r->flags & NBD_CMD_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;

    *count = 0;
    for (uint64_t done = 0; done < r->length;) {
        uint64_t left = r->length - done;
        struct extent e;
        int result =
            io_status(&r->operation, root_edge(c->root), r->offset + done,
                      left < length_max ? left : length_max, context == NBD_CONTEXT_ALLOCATION, &e);

        if (result < 0)
            return *count ? 0 : result;
        if (!add(list, count, max, e.len, context_flags(context, &e), length_max))
            return 0;
        done += e.len;
        co_pause();
    }
    return 0;
}

void co_fn nbd_block_status(struct nbd_request *r)
{
    struct nbd_connection *c = r->connection;
    bool allocation = c->contexts.allocation, depth = c->contexts.depth;
    struct nbd_extent *lists = calloc(2 * EXTENTS_MAX, sizeof(*lists));
    unsigned counts[2] = { 0, 0 };

    r->result = lists ? 0 : -ENOMEM;
    if (r->result == 0 && allocation)
        r->result = describe(r, NBD_CONTEXT_ALLOCATION, lists, &counts[0]);
    if (r->result == 0 && depth)
        r->result = describe(r, NBD_CONTEXT_DEPTH, lists + EXTENTS_MAX, &counts[1]);
    /* Both are known before the first byte is queued: no answer is half an error. */
    if (r->result == 0 && allocation &&
        !nbd_reply_context(c, r, NBD_CONTEXT_ALLOCATION, lists, counts[0], !depth))
        c->dead = true;
    if (r->result == 0 && depth &&
        !nbd_reply_context(c, r, NBD_CONTEXT_DEPTH, lists + EXTENTS_MAX, counts[1], true))
        c->dead = true;
    free(lists);
}
