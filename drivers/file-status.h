/* SPDX-License-Identifier: MIT */
/* Which parts of a file hold data and which are holes. */
#ifndef DRIVERS_FILE_STATUS_H
#define DRIVERS_FILE_STATUS_H

#include "drivers/file.h"

/** file_status - driver call: data or hole at @offset, for at most @len bytes */
int co_fn file_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                      bool want_zero, struct extent *out);

/** file_status_changed - call after whatever may have made a hole (zero, discard, resize), also when it
 * failed half-way; any ring, at once
 */
void file_status_changed(struct file *f);

#endif
