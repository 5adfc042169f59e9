/* SPDX-License-Identifier: MIT */
/*
 * How long requests have been in flight, and what is done about those that
 * take too long.  A request cannot be taken away from the kernel; but a driver
 * that waits for somebody else (its table has yank()) can fail what it has in
 * flight, which a person asks for with the command `yank`, and a root's
 * deadline asks for by itself.
 */
#ifndef BLOCK_DEADLINE_H
#define BLOCK_DEADLINE_H

#include "block/root.h"

/** root_set_deadline - from now on, whenever an operation has been inside @r for more than @ns, all nodes
 * below @r fail what they have in flight, as far as they can, and the log says so
 * @ns: 0: however long it takes (as a new root has it).  Checked four times in that time, but at most every
 * 10 ms.  Control ring.
 */
void root_set_deadline(struct root *r, uint64_t ns);

/** roots_dump - write to the log which roots have operations inside, and how old the oldest are; control
 * ring
 */
void roots_dump(void);

#endif
