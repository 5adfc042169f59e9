/* SPDX-License-Identifier: MIT */
/*
 * JSON text to json-c values.  json-c's own parser takes more than JSON has
 * (NaN, comments, numbers out of range) and says less about errors, so only
 * its values are used.  No recursion, for the sake of coroutines' stacks: a
 * container hangs in its parent from the moment it is opened, and a stack
 * of borrowed pointers leads back up.
 */
#include <errno.h>
#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json-private.h"

struct parser {
    struct json_lexer lex;
    struct json_object *root;
    struct json_object **open; /* the containers that are open, outermost first */
    unsigned depth, room;
    char *key;     /* of the next value, when it goes into an object; owned */
    size_t tokens; /* so far */
};

static int fail(struct parser *p, const char *what)
{
    return err_set(p->lex.err, -EINVAL, "JSON parse error, %s", what);
}

static int no_memory(struct parser *p)
{
    return err_set(p->lex.err, -ENOMEM, "out of memory");
}

static enum json_token next(struct parser *p)
{
    if (++p->tokens > JSON_TOKENS_MAX) {
        err_set(p->lex.err, -E2BIG, "JSON token count limit exceeded");
        return JSON_BAD;
    }
    return json_next(&p->lex);
}

/* The next token is not what the grammar wants: @what names that, unless there is a better reason. */
static int refuse(struct parser *p, enum json_token token, const char *what)
{
    if (token == JSON_BAD)
        return p->lex.err->code;
    return fail(p, token == JSON_END ? "premature EOI" : what);
}

/* Put @value (taken over; NULL is null) where it belongs. */
static int attach(struct parser *p, struct json_object *value)
{
    struct json_object *parent = p->depth ? p->open[p->depth - 1] : NULL;
    int r = 0;

    if (!parent) {
        p->root = value;
    } else if (p->key) {
        r = json_object_object_add_ex(parent, p->key, value, JSON_C_OBJECT_ADD_KEY_IS_NEW);
        free(p->key);
        p->key = NULL;
    } else {
        r = json_object_array_add(parent, value);
    }
    if (r < 0) {
        json_object_put(value);
        return no_memory(p);
    }
    return 0;
}

static int open_container(struct parser *p, bool object)
{
    struct json_object *value;
    int r;

    if (p->depth == JSON_DEPTH_MAX)
        return err_set(p->lex.err, -E2BIG, "JSON nesting depth limit exceeded");
    if (p->depth == p->room) {
        unsigned room = p->room ? 2 * p->room : 16;
        struct json_object **open = reallocarray(p->open, room, sizeof(struct json_object *));

        if (!open)
            return no_memory(p);
        p->open = open;
        p->room = room;
    }
    value = object ? json_object_new_object() : json_object_new_array();
    if (!value)
        return no_memory(p);
    r = attach(p, value);
    if (!r)
        p->open[p->depth++] = value;
    return r;
}

/* The decimal digits at @text as a number; false when they are none or 64 bits don't hold it. */
static bool take_integer(const char *text, uint64_t *v)
{
    *v = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (__builtin_mul_overflow(*v, (uint64_t)10, v) ||
            __builtin_add_overflow(*v, (uint64_t)(*text - '0'), v))
            return false;
    }
    return !*text;
}

static int attach_number(struct parser *p)
{
    autofree char *text = strndup(p->lex.start, (size_t)(p->lex.p - p->lex.start));
    struct json_object *value;
    uint64_t v;

    if (!text)
        return no_memory(p);
    bool negative = *text == '-';
    if (take_integer(text + negative, &v) && (!negative || v <= (uint64_t)1 << 63)) {
        value = negative ? json_object_new_int64((int64_t)-v) : json_object_new_uint64(v);
    } else {
        double d = strtod(text, NULL);

        if (!isfinite(d))
            return fail(p, "number out of range");
        value = json_object_new_double(d);
    }
    return value ? attach(p, value) : no_memory(p);
}

static int attach_string(struct parser *p)
{
    autofree char *text = NULL;
    size_t len;
    int r = json_decode_string(&p->lex, &text, &len);

    if (r < 0)
        return r;
    struct json_object *value = json_object_new_string_len(text, (int)len);
    return value ? attach(p, value) : no_memory(p);
}

static int attach_word(struct parser *p)
{
    int len = (int)(p->lex.p - p->lex.start);
    const char *word = p->lex.start;
    struct json_object *value;

    if (len == 4 && !memcmp(word, "null", 4))
        return attach(p, NULL);
    if (len == 4 && !memcmp(word, "true", 4))
        value = json_object_new_boolean(true);
    else if (len == 5 && !memcmp(word, "false", 5))
        value = json_object_new_boolean(false);
    else
        return err_set(p->lex.err, -EINVAL, "JSON parse error, invalid keyword '%.*s'", len, word);
    return value ? attach(p, value) : no_memory(p);
}

/* The value that begins with @token; an object or array is opened only. */
static int begin_value(struct parser *p, enum json_token token)
{
    switch (token) {
    case JSON_OPEN_OBJECT: return open_container(p, true);
    case JSON_OPEN_ARRAY: return open_container(p, false);
    case JSON_STRING: return attach_string(p);
    case JSON_NUMBER: return attach_number(p);
    case JSON_WORD: return attach_word(p);
    default: return refuse(p, token, "expecting value");
    }
}

/* The name of a member, which begins with @token, and its colon. */
static int take_key(struct parser *p, enum json_token token)
{
    struct json_object *old;
    size_t len;
    int r;

    if (token == JSON_NUMBER || token == JSON_WORD || token == JSON_OPEN_OBJECT ||
        token == JSON_OPEN_ARRAY)
        return fail(p, "key is not a string in object");
    if (token != JSON_STRING)
        return refuse(p, token, "expecting value");
    r = json_decode_string(&p->lex, &p->key, &len);
    if (r < 0)
        return r;
    if (strlen(p->key) != len)
        return fail(p, "null character in a key");
    if (json_object_object_get_ex(p->open[p->depth - 1], p->key, &old))
        return fail(p, "duplicate key");
    token = next(p);
    return token == JSON_COLON ? 0 : refuse(p, token, "missing : in object pair");
}

/* One step: what may stand after @fresh, a container just opened, or after a value.
 * Return: 1 when a value is to follow, 0 when a container was closed, or an error.
 */
static int step(struct parser *p, bool fresh)
{
    bool object = json_object_is_type(p->open[p->depth - 1], json_type_object);
    enum json_token token = next(p);

    if (token == (object ? JSON_CLOSE_OBJECT : JSON_CLOSE_ARRAY)) {
        p->depth--;
        return 0;
    }
    if (!fresh) {
        if (token != JSON_COMMA)
            return refuse(p, token,
                          object ? "expected separator in dict" : "expected separator in list");
        token = next(p);
    }
    if (object) {
        int r = take_key(p, token);

        if (r < 0)
            return r;
        token = next(p);
    }
    int r = begin_value(p, token);
    return r < 0 ? r : 1;
}

static int parse_whole(struct parser *p)
{
    enum json_token token = next(p);

    if (token == JSON_END)
        return err_set(p->lex.err, -EINVAL, "Expecting a JSON value");
    int r = begin_value(p, token);
    unsigned before = 0;
    while (!r || r == 1) {
        /* Deeper than before the step: a container was opened by it. */
        bool fresh = p->depth > before;

        before = p->depth;
        if (!p->depth)
            return 0;
        r = step(p, fresh);
    }
    return r;
}

int json_parse(const char *text, size_t len, struct json_object **out, struct err *err)
{
    struct parser p = { .lex = { .p = text, .end = text + len, .err = err } };

    *out = NULL;
    if (len > JSON_BYTES_MAX)
        return err_set(err, -E2BIG, "JSON token size limit exceeded");
    int r = parse_whole(&p);
    if (!r && json_next(&p.lex) != JSON_END)
        r = err_set(err, -EINVAL, "Expecting at most one JSON value");
    free(p.open);
    free(p.key);
    if (r < 0)
        json_object_put(p.root);
    else
        *out = p.root;
    return r;
}
