/* SPDX-License-Identifier: MIT */
/*
 * Requests of any alignment, made ones that the node can do: blocks at the
 * edges are read and cut, or read, changed and written back.
 *
 * A write that covers a block only in part is exclusive on its blocks
 * (block/track.h): io.c has registered it as serialising, over whole blocks.
 * The last block of a node counts as covered when the write reaches the end.
 */
#ifndef BLOCK_ALIGN_H
#define BLOCK_ALIGN_H

#include "block/node.h"

/** align_is_partial - must a change of this range read what is around it? */
bool align_is_partial(const struct node *n, uint64_t offset, uint64_t len);

/** align_widen - the whole blocks that hold a range */
void align_widen(const struct node *n, uint64_t *offset, uint64_t *len);

/* As the calls of io.h, but for one node that does them itself.  -EINVAL: partial, and not tracked. */
int co_fn align_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                     unsigned count, unsigned flags);
int co_fn align_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags);
int co_fn align_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                     unsigned flags);
int co_fn align_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len);

#endif
