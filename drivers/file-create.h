/* SPDX-License-Identifier: MIT */
/* Making files, and giving them space. */
#ifndef DRIVERS_FILE_CREATE_H
#define DRIVERS_FILE_CREATE_H

#include "block/create.h"

extern const struct row_type row_file_create_options;

/** file_create - driver call: make a file of a size, or make an old one that size with all it held gone */
int co_fn file_create(const void *options, const atomic_bool *stop, struct err *err);

#endif
