/* SPDX-License-Identifier: MIT */
/*
 * The one road of every request: bounds, alignment with read-modify-write at
 * the edges, splitting to the driver's limits, serialising of overlapping
 * requests, zero detection, hooks (copy-before-write, bitmaps, throttling),
 * threshold, accounting.  Chains are walked in a loop by map(), so a chain of
 * 200 needs one stack.
 *
 * All run on the calling ring, in a coroutine, inside a gate; offsets and
 * lengths in bytes, of any alignment; 0 or a negative errno, never a short
 * count.  Memory stays the caller's.  @e is the edge by which the caller uses
 * the node.  Opaque spans that a driver cannot take, or that would have to be
 * padded or looked at, get -EOPNOTSUPP with nothing done: their owner copies
 * the bytes and asks again.
 */
#ifndef BLOCK_IO_H
#define BLOCK_IO_H

#include "block/node.h"
#include "block/root.h"

/* Beyond the end of the node: -EINVAL (read, discard), -ENOSPC (write, zero; unless the edge has
 * PERM_RESIZE: then the node grows).  Without permission: -EPERM.  A write or zero at an edge that is
 * not aligned to the node that stores the bytes needs track_require(): without it -EINVAL.  A discard
 * is rounded inwards. */
int co_fn io_read(struct operation *o, struct edge *e, uint64_t offset, const struct span *v,
                  unsigned count, unsigned flags);
int co_fn io_write(struct operation *o, struct edge *e, uint64_t offset, const struct span *v,
                   unsigned count, unsigned flags);
int co_fn io_zero(struct operation *o, struct edge *e, uint64_t offset, uint64_t len,
                  unsigned flags);
int co_fn io_discard(struct operation *o, struct edge *e, uint64_t offset, uint64_t len);

/** io_flush - all writes that completed before the call, on any ring, are stable when it returns */
int co_fn io_flush(struct operation *o, struct edge *e);

/** io_status - what [offset, offset+len) is, through the whole chain, and at which depth
 * @want_zero: false when only allocation matters (cheaper).
 * out->len <= len; answers for neighbouring ranges are joined as far as that costs little.
 */
int co_fn io_status(struct operation *o, struct edge *e, uint64_t offset, uint64_t len,
                    bool want_zero, struct extent *out);

/** io_resize - grow or shrink @n; control ring, takes its own edit
 * Parents are told; bitmaps follow.  New bytes read zero.
 */
int co_fn io_resize(struct node *n, uint64_t size, struct err *err);

/** io_resize_child - for driver->resize: the same for a child, inside the edit that is under way */
int co_fn io_resize_child(struct operation *o, struct edge *e, uint64_t size, bool exact,
                          enum io_flags flags, struct err *err);

/** io_release - a node is being closed: free what io.c and its helpers keep about it */
void io_release(struct node *n);

/** io_read_control / io_write_control - one-off I/O of control code (probing, headers) on a node that may
 * not have a root yet; control ring
 */
int co_fn io_read_control(struct node *n, uint64_t offset, void *p, size_t len);
int co_fn io_write_control(struct node *n, uint64_t offset, const void *p, size_t len);

/* ---- the short cut ---- */

enum { SHORTCUT_PATH_MAX = 4 };

/* Where the bytes of a request lie in a file, with nothing on the way that needs to see it. */
struct shortcut {
    struct file_place file;
    uint64_t offset; /* bytes, in the file */
    bool zero;       /* read: there is nothing, it reads zero; .file is not set */
    unsigned path_length;
    struct node *path[SHORTCUT_PATH_MAX]; /* nodes passed, top first */
    uint64_t at[SHORTCUT_PATH_MAX];       /* where the request began in each, bytes */
};

/** shortcut_find - inside the gate: may [offset, offset+len) go straight to a file?
 * Never yields.  True: all of it, at one place; the owner then does the I/O, calls shortcut_done() and
 * only then leaves the gate.  Any odd result restarts on the long road (shortcut_done with a negative
 * result counts nothing).  So FUA is never let in: the kernel tells only once that earlier bytes were
 * lost, and a synced write that failed for their sake would succeed when it is repeated.  Bounds must
 * have been checked.
 */
bool shortcut_find(struct root *r, bool write, uint64_t offset, uint64_t len, unsigned flags,
                   struct shortcut *out);

/** shortcut_done - count the request in every node passed; a write also raises the write generations */
void shortcut_done(const struct shortcut *s, bool write, uint64_t len, int result);

/** shortcut_read_inline / shortcut_write_inline - the I/O itself as one plain call, where .file says that this
 * does not block
 * Return: false: not all of it, for whatever reason; the long road finds out.
 */
bool shortcut_read_inline(const struct shortcut *s, void *p, size_t len);
bool shortcut_write_inline(const struct shortcut *s, const void *p, size_t len);

/** shortcut_recompute - set root->shortcut_*; called by edits with the gates shut */
void shortcut_recompute(struct root *r);

/* ---- overlap tracking ---- */

/** track_require - from now on keep account of requests on @n and on all that lies below it, so that blocks
 * smaller than its alignment may be written (read-modify-write) and serialising requests work; counted,
 * undone by track_release()
 * Control ring, takes its own edit.  Without it the owner of a root refuses requests that are not
 * aligned to node->limits.alignment.  Nodes that later edits put below @n are tracked, too.  Writes
 * (zeroes, discards) through a tracked node don't take the short cut.  A serialising request waits
 * for earlier overlapping ones and makes later overlapping ones wait; plain reads neither wait
 * nor are waited for, since nothing that serialises changes what they may see.
 */
int co_fn track_require(struct node *n, struct err *err);
void co_fn track_release(struct node *n);

/** track_needed - would a client of @n that writes blocks of @block bytes (a power of two) need it?
 * Also where @n passes on in other blocks than it takes: raw with an odd offset.  Control ring.
 */
bool track_needed(struct node *n, uint32_t block);

/* ---- write threshold, raw guard ---- */

/** threshold_set - send BLOCK_WRITE_THRESHOLD once when a write ends past @bytes; 0: off.  An edit. */
int co_fn threshold_set(struct node *n, uint64_t bytes, struct err *err);

#endif
