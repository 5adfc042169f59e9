/* SPDX-License-Identifier: MIT */
/*
 * Cutting a stream of bytes into JSON values.  The reader looks at brackets,
 * strings and characters that no token has; json_parse() judges the rest when
 * the brackets are balanced, or when there is one closing bracket too many.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/json-private.h"

enum { KEPT_BYTES = 64 << 10 }; /* a buffer larger than that is freed between values */

/* Forget the value that was being gathered. */
static void start_afresh(struct json_reader *r)
{
    r->len = r->tokens = 0;
    r->depth = 0;
    r->quote = 0;
    r->escaped = r->broken = r->too_big = false;
    if (r->room > KEPT_BYTES)
        json_reader_free(r);
}

void json_reader_free(struct json_reader *r)
{
    free(r->buf);
    *r = (struct json_reader){ 0 };
}

/* The rest of the value is to be skipped, if there can be a rest. */
static void skip_rest(struct json_reader *r, bool too_big)
{
    unsigned depth = r->depth;
    bool escaped = r->escaped;
    char quote = r->quote;

    start_afresh(r);
    r->depth = depth;
    r->quote = quote;
    r->escaped = escaped;
    r->broken = depth || r->quote;
    r->too_big = r->broken && too_big;
}

/* Bytes by which a peer says that a new value begins, whatever came before. */
static bool is_reset(unsigned char c)
{
    return (c < 0x20 && c != '\t' && c != '\r' && c != '\n') || c >= 0xfe;
}

static bool is_space(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '+' || c == '.';
}

static int append(struct json_reader *r, char c)
{
    if (r->len == r->room) {
        size_t room = r->room ? 2 * r->room : 256;
        char *buf = realloc(r->buf, room);

        if (!buf)
            return -ENOMEM;
        r->buf = buf;
        r->room = room;
    }
    r->buf[r->len++] = c;
    return 0;
}

/* One byte of a bad value. */
static void skip_byte(struct json_reader *r, unsigned char c)
{
    if (is_reset(c) || (c == '\n' && !r->too_big)) {
        start_afresh(r);
        return;
    }
    if (r->quote) {
        if (c == '\n' || (c == (unsigned char)r->quote && !r->escaped))
            r->quote = 0;
        r->escaped = c == '\\' && !r->escaped;
    } else if (c == '"' || c == '\'') {
        r->quote = (char)c;
        r->escaped = false;
    } else if (c == '{' || c == '[') {
        r->depth++;
    } else if ((c == '}' || c == ']') && r->depth) {
        r->depth--;
    }
    if (!r->depth && !r->quote)
        start_afresh(r);
}

/* @c can't be where it is; it was appended. */
static int refuse_byte(struct json_reader *r, unsigned char c, struct err *err)
{
    int code = json_stray(r->buf + (r->quote ? r->token : r->len - 1), r->buf + r->len, err);

    if (is_reset(c) || c == '\n')
        start_afresh(r);
    else
        skip_rest(r, false);
    return code;
}

static int past_limit(struct json_reader *r, const char *what, struct err *err)
{
    skip_rest(r, true);
    return err_set(err, -E2BIG, "JSON %s limit exceeded", what);
}

/* A byte inside a string; 1 when it ends a value. */
static int string_byte(struct json_reader *r, unsigned char c, struct err *err)
{
    if (c < 0x20 || c >= 0xfe)
        return refuse_byte(r, c, err);
    if (c == (unsigned char)r->quote && !r->escaped) {
        r->quote = 0;
        return !r->depth;
    }
    r->escaped = c == '\\' && !r->escaped;
    return 0;
}

/* A byte outside strings, which was appended; 1 when it ends a value. */
static int plain_byte(struct json_reader *r, unsigned char c, bool in_word, struct err *err)
{
    bool closes = c == '}' || c == ']';

    if (is_space(c))
        return 0;
    if (!(in_word && is_word(c)))
        r->tokens++;
    if (c == '{' || c == '[') {
        if (++r->depth > JSON_DEPTH_MAX)
            return past_limit(r, "nesting depth", err);
    } else if (c == '"' || c == '\'') {
        r->quote = (char)c;
        r->escaped = false;
        r->token = r->len - 1;
    } else if (closes || c == ',' || c == ':') {
        r->depth -= closes && r->depth;
        if (!r->depth)
            return 1;
    } else if (!is_word(c)) {
        return refuse_byte(r, c, err);
    }
    return r->tokens > JSON_TOKENS_MAX ? past_limit(r, "token count", err) : 0;
}

/* Take one byte; *@taken is false when it belongs to the next value.  1 when a value is whole. */
static int take_byte(struct json_reader *r, unsigned char c, bool *taken, struct err *err)
{
    bool in_word = !r->quote && r->len && is_word((unsigned char)r->buf[r->len - 1]);

    *taken = true;
    if (r->broken) {
        skip_byte(r, c);
        return 0;
    }
    if (!r->depth && in_word && !is_word(c)) {
        *taken = false;
        return 1;
    }
    if (!r->len && is_space(c))
        return 0;
    if (r->len == JSON_BYTES_MAX) {
        int code = past_limit(r, "token size", err);

        if (r->broken)
            skip_byte(r, c);
        return code;
    }
    if (append(r, (char)c) < 0) {
        skip_rest(r, true);
        return err_set(err, -ENOMEM, "out of memory");
    }
    return r->quote ? string_byte(r, c, err) : plain_byte(r, c, in_word, err);
}

int json_reader_feed(struct json_reader *r, const char *data, size_t len, size_t *used,
                     struct json_object **out, struct err *err)
{
    *out = NULL;
    for (*used = 0; *used < len;) {
        bool taken;
        int result = take_byte(r, (unsigned char)data[*used], &taken, err);

        *used += taken;
        if (result < 0)
            return result;
        if (result) {
            result = json_parse(r->buf, r->len, out, err);
            start_afresh(r);
            return result < 0 ? result : 1;
        }
    }
    return 0;
}
