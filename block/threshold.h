/* SPDX-License-Identifier: MIT */
/* The write threshold: one event when a write ends past it (threshold_set() is in block/io.h). */
#ifndef BLOCK_THRESHOLD_H
#define BLOCK_THRESHOLD_H

#include "block/node.h"

/** threshold_check - a write is about to reach @n and ends at byte @end; any ring */
void threshold_check(struct node *n, uint64_t end);

#endif
