/* SPDX-License-Identifier: MIT */
/* Reading, writing, zeroing, discarding and flushing a file: driver calls of block/driver.h. */
#ifndef DRIVERS_FILE_IO_H
#define DRIVERS_FILE_IO_H

#include "drivers/file.h"

int co_fn file_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                    unsigned count, unsigned flags);
int co_fn file_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                     unsigned count, unsigned flags);
int co_fn file_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                    unsigned flags);
int co_fn file_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len);
int co_fn file_flush(struct node *n, struct operation *o);
int file_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
             struct map *out);

#endif
