/* SPDX-License-Identifier: MIT */
/* What an open file can do: size, alignment of direct I/O, what works fast. */
#ifndef DRIVERS_FILE_PROBE_H
#define DRIVERS_FILE_PROBE_H

#include "drivers/file.h"

/** file_probe - look at f->fd, which is open (directly if f->direct), and fill in what @f knows of its file
 * system; blocks, so on a worker
 * @limits, @size: for the node; @size in bytes, a multiple of 512
 * Return: 0, or a negative errno with a sentence that names f->path.
 */
int file_probe(struct file *f, struct limits *limits, uint64_t *size, struct err *err);

/** file_size - the present size in bytes, rounded up to 512; blocks; negative errno */
int64_t file_size(const struct file *f);

/** file_round_up - @bytes rounded up to a multiple of 512, as far as an off_t goes */
uint64_t file_round_up(uint64_t bytes);

#endif
