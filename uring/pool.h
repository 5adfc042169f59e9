/* SPDX-License-Identifier: MIT */
/*
 * Buffers for data: aligned to 4096 bytes, in power-of-two classes from 4 KiB
 * to 32 MiB, pooled per ring, returned on the ring that took them.  Every ring
 * has a budget; who is past it waits (coroutines) or stops reading from its
 * client (exports) until memory comes back.
 */
#ifndef URING_POOL_H
#define URING_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "uring/co.h"

enum { BUFFER_ALIGN = 4096, BUFFER_MAX = 32 << 20 };

/** buffer_get - at least @len bytes; NULL when out of memory or past the ring's budget.
 * Contents are undefined.
 */
void *buffer_get(size_t len);

/** buffer_wait - the same, but waits for the budget; NULL only when the system is out of memory.
 * @len above BUFFER_MAX: allocated for itself.
 */
void *co_fn buffer_wait(size_t len);

/** buffer_put - give it back; @len as it was asked for; fine with NULL */
void buffer_put(void *p, size_t len);

/** pool_set_budget - bytes per ring that may be out at once; 256 MiB by default */
void pool_set_budget(size_t bytes);

/** pool_tight - is this ring past its budget?  Exports then stop reading and are called back. */
bool pool_tight(void);

struct pool_waiter {
    struct list link;
    void (*fn)(struct pool_waiter *w); /* runs on this ring when memory came back, once */
};
void pool_notify(struct pool_waiter *w);
void pool_forget(struct pool_waiter *w); /* fine when it is not waiting */

/** pool_trim - free what has been idle since the last call (the ring calls it every few seconds) */
void pool_trim(void);

#endif
