/* SPDX-License-Identifier: MIT */
/* Small files that users name: passwords, lists, certificates. */
#ifndef CRYPTO_READ_FILE_H
#define CRYPTO_READ_FILE_H

#include <stddef.h>

#include "base/err.h"

/** read_file - all of a regular file; it blocks
 * @max: bytes; a larger file is refused, and so is all that is no regular file (a pipe could hang, a
 *       device might never end)
 * @out: malloc'd, max + 1 bytes large, a NUL after the last byte; free() it, secret_free() when it
 *       is nobody's business
 * Return: 0; -EINVAL, -EFBIG or what the kernel said, with err "cannot read 'FILE': REASON".
 */
int read_file(const char *filename, size_t max, char **out, size_t *len, struct err *err);

#endif
