/* SPDX-License-Identifier: MIT */
/*
 * json-c values to text.  No recursion, for the sake of coroutines' stacks:
 * a stack of iterators on the heap leads back up.
 */
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json-private.h"

/* A container that is being written. */
struct level {
    struct json_object *value;
    struct json_object_iterator member; /* the next one, of an object */
    size_t index;                       /* of the next element or member */
};

struct writer {
    char *text;
    size_t len, room;
    struct level *levels;
    size_t depth, levels_room;
    bool failed; /* out of memory; all else is then skipped */
};

static char *make_room(struct writer *w, size_t more)
{
    if (w->room - w->len < more && !w->failed) {
        size_t room = 2 * w->room + more + 64;
        char *text = realloc(w->text, room);

        if (text) {
            w->text = text;
            w->room = room;
        } else {
            w->failed = true;
        }
    }
    return w->failed ? NULL : w->text + w->len;
}

static void put(struct writer *w, const char *text, size_t len)
{
    char *to = make_room(w, len);

    if (to) {
        memcpy(to, text, len);
        w->len += len;
    }
}

static void put_text(struct writer *w, const char *text)
{
    put(w, text, strlen(text));
}

static void put_escape(struct writer *w, uint32_t c)
{
    static const char special[] = "\"\\\b\f\n\r\t", names[] = "\"\\bfnrt";
    const char *s = c && c < 0x80 ? strchr(special, (int)c) : NULL;
    char text[16];

    if (s)
        snprintf(text, sizeof text, "\\%c", names[s - special]);
    else if (c < 0x10000)
        snprintf(text, sizeof text, "\\u%04X", c);
    else
        snprintf(text, sizeof text, "\\u%04X\\u%04X", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
    put_text(w, text);
}

static void put_string(struct writer *w, const char *text, size_t len)
{
    const char *p = text, *end = text + len, *plain = p;

    put(w, "\"", 1);
    while (p < end) {
        unsigned char c = (unsigned char)*p;

        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            p++;
            continue;
        }
        put(w, plain, (size_t)(p - plain));
        int32_t character = json_take_utf8(&p, end);
        put_escape(w, character < 0 ? 0xfffd : (uint32_t)character);
        plain = p;
    }
    put(w, plain, (size_t)(p - plain));
    put(w, "\"", 1);
}

/* The shortest digits that read back as the same number. */
static void put_double(struct writer *w, double v)
{
    char text[40];

    if (!isfinite(v)) {
        put_text(w, "null");
        return;
    }
    if (v == 0 && signbit(v)) {
        put_text(w, "-0.0"); /* "-0" would be read back as an integer, which has no such zero */
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    put_text(w, text);
}

static void put_int(struct writer *w, struct json_object *value)
{
    int64_t v = json_object_get_int64(value);
    char text[24];

    if (v < 0)
        snprintf(text, sizeof text, "%lld", (long long)v);
    else
        snprintf(text, sizeof text, "%llu", (unsigned long long)json_object_get_uint64(value));
    put_text(w, text);
}

static void open_level(struct writer *w, struct json_object *value, bool object)
{
    if (w->depth == w->levels_room) {
        size_t room = w->levels_room ? 2 * w->levels_room : 16;
        struct level *levels = reallocarray(w->levels, room, sizeof *levels);

        if (!levels) {
            w->failed = true;
            return;
        }
        w->levels = levels;
        w->levels_room = room;
    }
    w->levels[w->depth] = (struct level){ .value = value };
    if (object)
        w->levels[w->depth].member = json_object_iter_begin(value);
    w->depth++;
    put(w, object ? "{" : "[", 1);
}

static void put_value(struct writer *w, struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null: put_text(w, "null"); break;
    case json_type_boolean: put_text(w, json_object_get_boolean(value) ? "true" : "false"); break;
    case json_type_int: put_int(w, value); break;
    case json_type_double: put_double(w, json_object_get_double(value)); break;
    case json_type_string:
        put_string(w, json_object_get_string(value), (size_t)json_object_get_string_len(value));
        break;
    case json_type_object: open_level(w, value, true); break;
    case json_type_array: open_level(w, value, false); break;
    }
}

/* The next member or element of the innermost container, or its end. */
static void put_next(struct writer *w)
{
    struct level *top = &w->levels[w->depth - 1];
    bool object = json_object_is_type(top->value, json_type_object);
    size_t count = object ? (size_t)json_object_object_length(top->value)
                          : json_object_array_length(top->value);

    if (top->index == count) {
        put(w, object ? "}" : "]", 1);
        w->depth--;
        return;
    }
    if (top->index++)
        put(w, ", ", 2);
    if (!object) {
        put_value(w, json_object_array_get_idx(top->value, top->index - 1));
        return;
    }
    const char *name = json_object_iter_peek_name(&top->member);
    struct json_object *value = json_object_iter_peek_value(&top->member);
    json_object_iter_next(&top->member);
    put_string(w, name, strlen(name));
    put(w, ": ", 2);
    put_value(w, value); /* may move *top */
}

char *json_text(struct json_object *value)
{
    struct writer w = { 0 };

    put_value(&w, value);
    while (w.depth && !w.failed)
        put_next(&w);
    put(&w, "", 1);
    free(w.levels);
    if (w.failed) {
        free(w.text);
        return NULL;
    }
    return w.text;
}
