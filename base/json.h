/* SPDX-License-Identifier: MIT */
/*
 * JSON text in and out, on json-c, with the limits that a hostile peer calls
 * for.  json_reader cuts a stream of bytes into whole values.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct json_object;

enum { JSON_DEPTH_MAX = 1024, JSON_BYTES_MAX = 64 << 20, JSON_TOKENS_MAX = 2 << 20 };

/** json_parse - one whole value out of @text (UTF-8; strings in '...' or "...")
 * Two members of one name are refused.  Numbers that no 64-bit integer holds become doubles; those
 * that no double holds are refused.
 * Return: 0 and a new reference (NULL for null); -EINVAL with err "JSON parse error, ..."; -E2BIG past
 * a limit; -ENOMEM.
 */
int json_parse(const char *text, size_t len, struct json_object **out, struct err *err);

/** json_text - ASCII-only text (\uXXXX escapes) of @value on one line, with QEMU's spaces
 * ({"a": 1, "b": []}); malloc'd, or NULL when out of memory
 * @value NULL prints null; so do doubles that are no number, which JSON can't say.  What is not UTF-8
 * in a string prints as \uFFFD.
 */
char *json_text(struct json_object *value);

/* A stream of values: bytes are fed as they come, values are taken out whole. */
struct json_reader {
    char *buf; /* the value being gathered; owned */
    size_t len, room;
    size_t token; /* where in buf the string that is being read began */
    size_t tokens;
    unsigned depth;
    char quote; /* inside a string: the quote it began with */
    bool escaped;
    bool broken;  /* skipping to the end of a bad value, or of its line */
    bool too_big; /* broken by a limit: the line's end is not enough */
};

/** json_reader_feed - consume bytes of @data until one value is whole or all are consumed
 * @used: how many bytes were consumed
 * A control character or a byte that cannot occur in UTF-8 (0xFF) makes the reader start afresh, with
 * an error.  A value past a limit is an error at once; the reader then skips what is left of it.
 * Return: 1 and a new reference in *@out (NULL for a JSON null); 0: more bytes are needed;
 * -EINVAL with an error for the client ("JSON parse error, ..."), after which feeding may go on;
 * -E2BIG past a limit; -ENOMEM.
 */
int json_reader_feed(struct json_reader *r, const char *data, size_t len, size_t *used,
                     struct json_object **out, struct err *err);

/** json_reader_free - release what is gathered; the reader may be used again */
void json_reader_free(struct json_reader *r);

#endif
