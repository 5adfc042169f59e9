/* SPDX-License-Identifier: MIT */
/* Numbers, sizes and names out of text, whole or not at all. */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include <stdbool.h>
#include <stdint.h>

/** parse_u64 / parse_i64 - the whole of @text as a number (decimal, 0x hex); 0, -EINVAL, -ERANGE */
int parse_u64(const char *text, uint64_t *out);
int parse_i64(const char *text, int64_t *out);

/** parse_size - bytes, with an optional suffix B, K, M, G, T, P, E (powers of 1024), fractions allowed
 * ("1.5G").  Return: 0, -EINVAL, -ERANGE.
 */
int parse_size(const char *text, uint64_t *out);

/** parse_bool - "on", "yes", "true", "y" / "off", "no", "false", "n"; 0 or -EINVAL */
int parse_bool(const char *text, bool *out);

/** id_is_well_formed - is @id letters, digits, '-', '.' and '_', a letter first? */
bool id_is_well_formed(const char *id);

#endif
