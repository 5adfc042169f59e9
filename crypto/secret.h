/* SPDX-License-Identifier: MIT */
/*
 * Objects of type `secret`: a password or key that others name by its id.  The
 * bytes are kept in pages of their own, which are neither swapped out (where
 * the limits allow it) nor dumped, and wiped when the object goes.  They appear
 * in no message and in no answer.
 */
#ifndef CRYPTO_SECRET_H
#define CRYPTO_SECRET_H

#include <stdint.h>

#include "crypto/object.h"

enum { SECRET_BYTES_MAX = 1 << 20 };

extern const struct object_type object_secret;

/** secret_get - a copy of a secret's bytes; any thread, blocks no longer than a memcpy
 * @out: malloc'd; secret_free() it.  Never NULL, also when @len is 0.
 * Return: 0; -ENOENT or -EINVAL when @id is no secret; -ENOMEM.
 */
int secret_get(const char *id, uint8_t **out, size_t *len, struct err *err);

/** secret_get_text - the same as a string; -EINVAL when it is no UTF-8 or has a NUL inside
 * secret_free(out, strlen(out)) it.
 */
int secret_get_text(const char *id, char **out, struct err *err);

/** secret_free - wipe @len bytes and free; NULL is fine */
void secret_free(void *p, size_t len);

#endif
