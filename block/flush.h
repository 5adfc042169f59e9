/* SPDX-License-Identifier: MIT */
/*
 * Flushing: what completed before, on any ring, is stable afterwards.
 *
 * Each ring counts the changes that it completed on a node (node_ring's
 * write_generation); the sum over the rings tells whether anything was written
 * since the last flush began.  Only where a driver is called does the count
 * matter: a node passed by map() keeps nothing of its own back.
 */
#ifndef BLOCK_FLUSH_H
#define BLOCK_FLUSH_H

#include "block/node.h"

/** flush_note_change - a change of this node has completed, or failed half-way, on this ring; before
 * anybody is told
 */
static inline void flush_note_change(struct node_ring *here)
{
    __atomic_store_n(&here->write_generation, here->write_generation + 1, __ATOMIC_RELEASE);
}

/** flush_tree - flush @n and all below it
 * @count: as a flush that reached them, in their statistics
 */
int co_fn flush_tree(struct operation *o, struct node *n, bool count);

/** flush_at_close - make stable what was written to a protocol's node and not flushed; the last use of it
 * A failure is only logged: nobody is left who could be told.
 */
void co_fn flush_at_close(struct node *n);

struct flush_state;
void flush_state_free(struct flush_state *s);

#endif
