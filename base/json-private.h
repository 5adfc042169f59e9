/* SPDX-License-Identifier: MIT */
/* What the files of the JSON code share; nobody else includes this. */
#ifndef BASE_JSON_PRIVATE_H
#define BASE_JSON_PRIVATE_H

#include <stdint.h>

#include "base/json.h"

enum json_token {
    JSON_END, /* no token is left */
    JSON_BAD, /* no token begins so; err is set */
    JSON_STRING,
    JSON_NUMBER,
    JSON_WORD, /* lower-case letters */
    JSON_OPEN_OBJECT = '{',
    JSON_CLOSE_OBJECT = '}',
    JSON_OPEN_ARRAY = '[',
    JSON_CLOSE_ARRAY = ']',
    JSON_COLON = ':',
    JSON_COMMA = ',',
};

/* Cuts text into tokens; the one that was cut last is [start, p). */
struct json_lexer {
    const char *p, *end, *start;
    struct err *err;
};

/** json_next - cut the next token */
enum json_token json_next(struct json_lexer *l);

/** json_stray - set err "JSON parse error, stray '...'" about the bytes [start, end) */
int json_stray(const char *start, const char *end, struct err *err);

/** json_decode_string - the text that a JSON_STRING token stands for, UTF-8, malloc'd
 * Return: 0; -EINVAL with err set; -ENOMEM.
 */
int json_decode_string(const struct json_lexer *l, char **text, size_t *len);

/** json_take_utf8 - the character at *@p, which goes past it
 * Return: its code point; -1 when the bytes are no character (then *@p goes on by one byte).
 */
int32_t json_take_utf8(const char **p, const char *end);

#endif
