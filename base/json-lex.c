/* SPDX-License-Identifier: MIT */
/*
 * JSON tokens.  Strings may be in single quotes, and may hold no raw control
 * characters; characters are those of Unicode without surrogates and
 * noncharacters.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json-private.h"

int json_stray(const char *start, const char *end, struct err *err)
{
    return err_set(err, -EINVAL, "JSON parse error, stray '%.*s'", (int)(end - start), start);
}

static bool is_digit(const struct json_lexer *l)
{
    return l->p < l->end && *l->p >= '0' && *l->p <= '9';
}

/* The byte at p, or the end of the text, spoils the token. */
static enum json_token bad(struct json_lexer *l)
{
    if (l->p < l->end)
        l->p++;
    json_stray(l->start, l->p, l->err);
    return JSON_BAD;
}

static enum json_token lex_string(struct json_lexer *l)
{
    char quote = *l->p++;

    for (; l->p < l->end; l->p++) {
        unsigned char c = (unsigned char)*l->p;

        if (c < 0x20 || c >= 0xfe)
            break;
        if (c == (unsigned char)quote) {
            l->p++;
            return JSON_STRING;
        }
        if (c == '\\' && ++l->p < l->end && ((unsigned char)*l->p < 0x20))
            break;
        if (l->p == l->end)
            break;
    }
    return bad(l);
}

static void skip_digits(struct json_lexer *l)
{
    while (is_digit(l))
        l->p++;
}

static enum json_token lex_number(struct json_lexer *l)
{
    if (*l->p == '-')
        l->p++;
    if (!is_digit(l))
        return bad(l);
    if (*l->p++ == '0') {
        if (is_digit(l))
            return bad(l);
    } else {
        skip_digits(l);
    }
    if (l->p < l->end && *l->p == '.') {
        l->p++;
        if (!is_digit(l))
            return bad(l);
        skip_digits(l);
    }
    if (l->p < l->end && (*l->p == 'e' || *l->p == 'E')) {
        l->p++;
        if (l->p < l->end && (*l->p == '+' || *l->p == '-'))
            l->p++;
        if (!is_digit(l))
            return bad(l);
        skip_digits(l);
    }
    return JSON_NUMBER;
}

enum json_token json_next(struct json_lexer *l)
{
    while (l->p < l->end && *l->p && strchr(" \t\r\n", *l->p))
        l->p++;
    l->start = l->p;
    if (l->p == l->end)
        return JSON_END;
    char c = *l->p;
    if (c && strchr("{}[]:,", c)) {
        l->p++;
        return (enum json_token)c;
    }
    if (c == '"' || c == '\'')
        return lex_string(l);
    if (c == '-' || is_digit(l))
        return lex_number(l);
    while (l->p < l->end && *l->p >= 'a' && *l->p <= 'z')
        l->p++;
    return l->p > l->start ? JSON_WORD : bad(l);
}

/* --- what strings stand for ---------------------------------------------------- */

static bool is_character(uint32_t c)
{
    return c <= 0x10ffff && (c & 0xfffff800) != 0xd800 && (c & 0xfffe) != 0xfffe &&
           !(c >= 0xfdd0 && c <= 0xfdef);
}

int32_t json_take_utf8(const char **p, const char *end)
{
    static const uint32_t smallest[] = { 0, 0x80, 0x800, 0x10000 };
    unsigned char first = (unsigned char)*(*p)++;

    if (first < 0x80)
        return first;
    int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    uint32_t c = first & (0x3fu >> more);
    if (first < 0xc2 || first > 0xf4 || end - *p < more)
        return -1;
    for (int i = 0; i < more; i++) {
        unsigned char next = (unsigned char)(*p)[i];

        if ((next & 0xc0) != 0x80)
            return -1;
        c = c << 6 | (next & 0x3f);
    }
    if (c < smallest[more] || !is_character(c))
        return -1;
    *p += more;
    return (int32_t)c;
}

static char *put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xc0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        *to++ = (char)(0xe0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    } else {
        *to++ = (char)(0xf0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3f));
        *to++ = (char)(0x80 | (c >> 6 & 0x3f));
        *to++ = (char)(0x80 | (c & 0x3f));
    }
    return to;
}

/* The four digits after "\u" at @p; -1 when they are not there. */
static int32_t hex4(const char *p, const char *end)
{
    int32_t v = 0;

    if (end - p < 6 || p[0] != '\\' || p[1] != 'u')
        return -1;
    for (int i = 2; i < 6; i++) {
        const char *digits = "0123456789abcdef", *d;

        d = p[i] ? strchr(digits, p[i] >= 'A' && p[i] <= 'F' ? p[i] + 32 : p[i]) : NULL;
        if (!d)
            return -1;
        v = v << 4 | (int32_t)(d - digits);
    }
    return v;
}

/* The \uXXXX, or the pair of them, at *@p. */
static int take_unicode(const char **p, const char *end, char **to, struct err *err)
{
    int32_t c = hex4(*p, end), low;
    const char *first = *p;

    if (c >= 0)
        *p += 6;
    if (c >= 0xd800 && c < 0xdc00) {
        low = hex4(*p, end);
        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c & 0x3ff) << 10 | (low & 0x3ff));
            *p += 6;
        }
    }
    if (c < 0 || !is_character((uint32_t)c))
        return err_set(err, -EINVAL, "JSON parse error, %.*s is not a valid Unicode character",
                       (int)(end - first < 6 ? end - first : 6), first);
    *to = put_utf8(*to, (uint32_t)c);
    return 0;
}

static int take_escape(const char **p, const char *end, char **to, struct err *err)
{
    static const char names[] = "\"'\\/bfnrt", values[] = "\"'\\/\b\f\n\r\t";
    const char *name;

    if ((*p)[1] == 'u')
        return take_unicode(p, end, to, err);
    name = (*p)[1] ? strchr(names, (*p)[1]) : NULL;
    if (!name)
        return err_set(err, -EINVAL, "JSON parse error, invalid escape sequence in string");
    *(*to)++ = values[name - names];
    *p += 2;
    return 0;
}

int json_decode_string(const struct json_lexer *l, char **text, size_t *len)
{
    const char *p = l->start + 1, *end = l->p - 1;
    autofree char *buf =
        malloc((size_t)(end - p) + 1); /* no escape is shorter than its character */
    char *to = buf;

    if (!buf)
        return err_set(l->err, -ENOMEM, "out of memory");
    while (p < end) {
        if (*p == '\\') {
            int r = take_escape(&p, end, &to, l->err);

            if (r < 0)
                return r;
            continue;
        }
        int32_t c = json_take_utf8(&p, end);
        if (c < 0)
            return err_set(l->err, -EINVAL, "JSON parse error, invalid UTF-8 sequence in string");
        to = put_utf8(to, (uint32_t)c);
    }
    *to = 0;
    *len = (size_t)(to - buf);
    *text = take_ptr(&buf);
    return 0;
}
