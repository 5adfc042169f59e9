/* SPDX-License-Identifier: MIT */
/*
 * Files by their plain names: as a person types them, and as the header of an
 * image names its backing or data file.  Control ring, in a coroutine.
 */
#ifndef BLOCK_NAMED_H
#define BLOCK_NAMED_H

#include "base/row.h"
#include "block/types.h"

/** local_file_text - options of a protocol node for a local file or device, as key=value text
 * @prefix: in front of every key ("file." or "")
 * Return: malloc'd; NULL when out of memory.
 */
char *co_fn local_file_text(const char *prefix, const char *filename);

/** named_file - what the header of an image says of another file, as a definition
 * @name: a path, "file:PATH" or "json:{...}", which must say its driver itself
 * @format: the driver of the node over that file; NULL: the protocol node alone is wanted
 * @beside: the node of the file that holds the header: relative paths begin in its folder
 * @out: the caller's, for row_release(&row_blockdev_ref, ...)
 * Other protocols than local files can only be named in json:.
 */
int co_fn named_file(const char *name, const char *format, const struct node *beside,
                     struct row_choice *out, struct err *err);

#endif
