/* SPDX-License-Identifier: MIT */
/*
 * Handing requests to a node's driver, as it can take them: split to its
 * limits, through a contiguous and aligned bounce buffer where it needs one,
 * zeroes written where it cannot zero, discards dropped where it cannot
 * discard.  Offsets and lengths are aligned to the node (block/align.h sees to
 * that).  Each raises the node's write generation when it changes something.
 */
#ifndef BLOCK_SUBMIT_H
#define BLOCK_SUBMIT_H

#include "block/node.h"

/* A buffer for the driver, aligned to its wishes. */
struct bounce {
    uint8_t *p;
    size_t len;
    bool pooled;
};

/* Longest bounce, bytes: longer requests go piece by piece. */
enum { BOUNCE_MAX = 1 << 20 };

/** bounce_get - of the ring's pool, and beside it when the pool's budget is used up: a request inside a gate
 * may not wait for others to end.  Exports keep to the budget at the door.
 * Return: 0 or -ENOMEM.
 */
int bounce_get(const struct node *n, size_t len, struct bounce *out);
void bounce_put(struct bounce *b);
#define autobounce __attribute__((cleanup(bounce_put))) struct bounce

static inline uint32_t node_alignment(const struct node *n)
{
    return n->limits.alignment ? n->limits.alignment : 1;
}

int co_fn submit_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags);
int co_fn submit_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                       unsigned count, unsigned flags);
int co_fn submit_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                      unsigned flags);
int co_fn submit_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len);

/** zero_spans - spans that hold @len zero bytes, or as many of them as fit
 * @count: in: how many spans there may be (1..SPAN_MAX); out: used
 * Return: bytes in them.
 */
uint64_t zero_spans(uint64_t len, struct span *v, unsigned *count);

#endif
