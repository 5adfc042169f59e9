/* SPDX-License-Identifier: MIT */
/*
 * Buffers for data: aligned to 4096 bytes, in power-of-two classes from 4 KiB
 * to 32 MiB, pooled per ring, returned on the ring that took them.  Every ring
 * has a budget; a coroutine that is past it waits until memory comes back.
 *
 * Whoever holds buffers for as long as somebody else likes (an export, until its
 * client has taken a reply) has an account: a little that is its own, whatever
 * others do, and of the budget never more than half of what it leaves to them.
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

/* What one user of a ring's buffers holds. */
struct pool_account {
    size_t own;  /* bytes beside the budget that it may always have */
    size_t held; /* bytes, those of its own first */
};

/** account_get - a buffer out of an account; NULL when it may not have that much more now
 * It has something in flight then, or wants more than its own: memory that others give back is not
 * waited for.
 */
void *account_get(struct pool_account *a, size_t len);

/** account_may - would account_get() allow it? */
bool account_may(const struct pool_account *a, size_t len);

/** account_get_anyway - the same, past all limits: for the few bytes without which nothing goes on, which
 * the caller bounds; NULL only when the system is out of memory
 */
void *account_get_anyway(struct pool_account *a, size_t len);

/** account_put - give it back; fine with NULL */
void account_put(struct pool_account *a, void *p, size_t len);

/** pool_trim - free what has been idle since the last call (the ring calls it every few seconds) */
void pool_trim(void);

#endif
