/* SPDX-License-Identifier: MIT */
/*
 * From JSON, or from a tree of strings that a command line made, to C values.
 *
 * 1. What is filled in is zeroed first and always in a state that
 *    row_release() can take, so an error anywhere just releases the whole.
 * 2. A member's place is a chain of struct place on the stack; its text is
 *    made only for an error.  As in QEMU, messages about a type or a missing
 *    or unknown member name the whole path, those about an enum's value or a
 *    number past its C type only the last name.
 */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/row-private.h"

struct parser {
    struct err *err;
    bool text; /* leaves are strings */
    unsigned depth;
};

struct place {
    const struct place *up; /* NULL: the top, which has no name */
    const char *name;       /* NULL: an element of a list */
    size_t index;
};

static int parse_value(struct parser *p, const struct place *at, const struct row_type *type,
                       struct json_object *in, void *out);

/* --- errors; kept out of line, so that they cost the recursion no stack ------- */

/* "file.server[0].host", malloc'd; NULL when out of memory. */
static char *place_text(const struct parser *p, const struct place *at)
{
    if (!at || !at->up)
        return strdup("");
    autofree char *head = place_text(p, at->up);
    char *text;
    int n;

    if (!head)
        return NULL;
    if (at->name)
        n = asprintf(&text, "%s%s%s", head, *head ? "." : "", at->name);
    else
        n = asprintf(&text, p->text ? "%s.%zu" : "%s[%zu]", head, at->index);
    return n < 0 ? NULL : text;
}

static __attribute__((noinline)) int no_memory(const struct parser *p)
{
    return err_set(p->err, -ENOMEM, "out of memory");
}

/* @fmt has two %s: the member, and @what.  @whole: its whole path. */
static __attribute__((noinline)) int refuse(const struct parser *p, const struct place *at,
                                            bool whole, const char *fmt, const char *what)
{
    autofree char *path = NULL;
    const char *name;

    if (!whole && at->name) {
        name = at->name;
    } else {
        name = path = place_text(p, at);
        if (!path)
            return no_memory(p);
        if (!*path)
            name = "<anonymous>";
    }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return err_set(p->err, -EINVAL, fmt, name, what);
#pragma GCC diagnostic pop
}

static int wrong_type(const struct parser *p, const struct place *at, const char *expected)
{
    return refuse(p, at, true, "Invalid parameter type for '%s', expected: %s", expected);
}

static int wrong_value(const struct parser *p, const struct place *at, bool whole,
                       const char *expected)
{
    return refuse(p, at, whole, "Parameter '%s' expects %s", expected);
}

static __attribute__((noinline)) int member_error(const struct parser *p, const struct place *at,
                                                  const char *name, const char *fmt)
{
    struct place member = { .up = at, .name = name };

    return refuse(p, &member, true, fmt, "");
}

/* --- scalars ------------------------------------------------------------------ */

/* The C type's name, for numbers that it can't hold. */
static const char *int_range(const struct row_type *type)
{
    switch (type->kind) {
    case ROW_INT8: return "int8_t";
    case ROW_INT16: return "int16_t";
    case ROW_INT32: return "int32_t";
    case ROW_UINT8: return "uint8_t";
    case ROW_UINT16: return "uint16_t";
    case ROW_UINT32: return "uint32_t";
    default: return NULL;
    }
}

static int int_error(const struct parser *p, const struct place *at, const struct row_type *type)
{
    bool is_signed = type->kind >= ROW_INT && type->kind <= ROW_INT32;

    if (p->text)
        return wrong_value(p, at, true, type->kind == ROW_SIZE ? "size" : "integer");
    return is_signed ? wrong_type(p, at, "integer") : wrong_value(p, at, true, "uint64");
}

static int parse_int(const struct parser *p, const struct place *at, const struct row_type *type,
                     struct json_object *in, void *out)
{
    if (!json_object_is_type(in, json_type_int))
        return int_error(p, at, type);
    int64_t number = json_object_get_int64(in); /* INT64_MAX when it is more */
    uint64_t v = number < 0 ? (uint64_t)number : json_object_get_uint64(in);
    if (!row_set_int(type, number < 0, v, out))
        return 0;
    return int_range(type) ? wrong_value(p, at, false, int_range(type)) : int_error(p, at, type);
}

static int text_error(const struct parser *p, const struct place *at, const struct row_type *type,
                      const char *text, int code)
{
    int64_t any;

    switch (type->kind) {
    case ROW_BOOL: return wrong_value(p, at, true, "'on' or 'off'");
    case ROW_NUMBER: return wrong_value(p, at, true, "number");
    case ROW_ENUM: return refuse(p, at, false, "Parameter '%s' does not accept value '%s'", text);
    default: break;
    }
    /* Within 64 bits but past the C type. */
    if (code == -ERANGE && int_range(type) &&
        (!row_set_text(&row_int, text, &any) || !row_set_text(&row_uint64, text, &any)))
        return wrong_value(p, at, false, int_range(type));
    return int_error(p, at, type);
}

static int parse_text(const struct parser *p, const struct place *at, const struct row_type *type,
                      struct json_object *in, void *out)
{
    if (!json_object_is_type(in, json_type_string))
        return refuse(p, at, true, "Parameters '%s.*' are unexpected%s", "");
    const char *text = json_object_get_string(in);
    int r = row_set_text(type, text, out);
    if (r == -ENOMEM)
        return no_memory(p);
    return r < 0 ? text_error(p, at, type, text, r) : 0;
}

/* Strings and enums out of JSON. */
static int parse_string(const struct parser *p, const struct place *at, const struct row_type *type,
                        struct json_object *in, void *out)
{
    if (!json_object_is_type(in, json_type_string))
        return wrong_type(p, at, "string");
    const char *text = json_object_get_string(in);
    /* A C string would silently end there. */
    if (strlen(text) != (size_t)json_object_get_string_len(in))
        return wrong_value(p, at, true, "a string without null characters");
    return parse_text(p, at, type, in, out);
}

static __attribute__((noinline)) int parse_scalar(const struct parser *p, const struct place *at,
                                                  const struct row_type *type,
                                                  struct json_object *in, void *out)
{
    if (p->text)
        return parse_text(p, at, type, in, out);
    switch (type->kind) {
    case ROW_BOOL:
        if (!json_object_is_type(in, json_type_boolean))
            return wrong_type(p, at, "boolean");
        *(bool *)out = json_object_get_boolean(in);
        return 0;
    case ROW_NUMBER:
        if (!json_object_is_type(in, json_type_int) && !json_object_is_type(in, json_type_double))
            return wrong_type(p, at, "number");
        *(double *)out = json_object_get_double(in);
        return 0;
    case ROW_STR:
    case ROW_ENUM: return parse_string(p, at, type, in, out);
    default: return parse_int(p, at, type, in, out);
    }
}

/* --- structs ------------------------------------------------------------------ */

static __attribute__((noinline)) int set_fallback(const struct parser *p, const struct place *at,
                                                  const struct row *row, void *slot)
{
    if (!row->fallback)
        return 0;
    int r = row_set_text(row->type, row->fallback, slot);
    if (r == -ENOMEM)
        return no_memory(p);
    /* The table is wrong, not the user; row tests find it. */
    return r < 0 ? member_error(p, at, row->name, "Parameter '%s' has a bad default%s") : 0;
}

/* One member of the object @in; *@found counts those that are there. */
static __attribute__((noinline)) int parse_member(struct parser *p, const struct place *up,
                                                  const struct row *row, struct json_object *in,
                                                  char *s, int *found)
{
    struct place at = { .up = up, .name = row->name };
    void *slot = s + row->offset;
    struct json_object *value;

    if (!json_object_object_get_ex(in, row->name, &value))
        return row->required ? member_error(p, up, row->name, "Parameter '%s' is missing%s")
                             : set_fallback(p, up, row, slot);
    ++*found;
    if (row_is_pointer(row)) {
        *(void **)slot = calloc(1, row->type->size);
        slot = *(void **)slot;
        if (!slot)
            return no_memory(p);
    }
    if (row->has)
        *row_has(row, s) = true;
    return parse_value(p, &at, row->type, value, slot);
}

/* All members that @type has, of the object @in, which may have others as well. */
static int parse_members(struct parser *p, const struct place *at, const struct row_type *type,
                         struct json_object *in, char *s, int *found)
{
    for (const struct row *row = type->rows; row && row->type; row++) {
        int r = row->name ? parse_member(p, at, row, in, s, found)
                          : parse_members(p, at, row->type, in, s + row->offset, found);
        if (r < 0)
            return r;
    }
    const struct row_type *branch = type->kind == ROW_UNION ? row_branch(type, s) : NULL;
    if (!branch || !branch->size)
        return 0;
    char *b = *row_branch_slot(type, s) = calloc(1, branch->size);
    return b ? parse_members(p, at, branch, in, b, found) : no_memory(p);
}

static bool is_member(const struct row_type *type, const char *s, const char *name)
{
    for (const struct row *row = type->rows; row && row->type; row++) {
        if (row->name ? !strcmp(row->name, name) : is_member(row->type, s + row->offset, name))
            return true;
    }
    const struct row_type *branch = type->kind == ROW_UNION ? row_branch(type, s) : NULL;
    return branch && is_member(branch, *row_branch_slot(type, s), name);
}

/* There is at least one member that no row knows: name the first. */
static __attribute__((noinline)) int refuse_unknown(const struct parser *p, const struct place *at,
                                                    const struct row_type *type,
                                                    struct json_object *in, const char *s)
{
    struct json_object_iterator i = json_object_iter_begin(in), end = json_object_iter_end(in);

    for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i)) {
        const char *name = json_object_iter_peek_name(&i);

        if (!is_member(type, s, name))
            return member_error(p, at, name, "Parameter '%s' is unexpected%s");
    }
    return 0;
}

static int parse_struct(struct parser *p, const struct place *at, const struct row_type *type,
                        struct json_object *in, void *out)
{
    int found = 0;

    if (!json_object_is_type(in, json_type_object))
        return wrong_type(p, at, "object");
    int r = parse_members(p, at, type, in, out, &found);
    if (r < 0)
        return r;
    if (found == json_object_object_length(in))
        return 0;
    return refuse_unknown(p, at, type, in, out);
}

/* --- lists and alternates ----------------------------------------------------- */

static int parse_list(struct parser *p, const struct place *up, const struct row_type *type,
                      struct json_object *in, struct row_list *out)
{
    struct place at = { .up = up };

    if (!json_object_is_type(in, json_type_array))
        return wrong_type(p, up, "array");
    size_t n = json_object_array_length(in), size = type->elem->size;
    if (!n)
        return 0;
    out->v = calloc(n, size ? size : 1);
    if (!out->v)
        return no_memory(p);
    for (at.index = 0; at.index < n; at.index++) {
        void *slot = (char *)out->v + at.index * size;

        out->n++;
        int r = parse_value(p, &at, type->elem, json_object_array_get_idx(in, at.index), slot);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Does JSON of type @json fit @kind?  Integers fit a number as well. */
static bool fits(enum json_type json, enum row_kind kind)
{
    switch (kind) {
    case ROW_NULL: return json == json_type_null;
    case ROW_BOOL: return json == json_type_boolean;
    case ROW_NUMBER: return json == json_type_double || json == json_type_int;
    case ROW_STR:
    case ROW_ENUM: return json == json_type_string;
    case ROW_STRUCT:
    case ROW_UNION: return json == json_type_object;
    case ROW_LIST: return json == json_type_array;
    case ROW_ANY: return true;
    default: return json == json_type_int;
    }
}

/* The possibility that a plain text means: the narrowest that takes it. */
static const struct row_type *choose_by_text(const struct row_type *type, const char *text)
{
    const struct row_type *best = NULL, *last = NULL;
    uint64_t scratch;

    for (const struct row_type *const *c = type->branches; *c; c++) {
        switch ((*c)->kind) {
        case ROW_NULL:
            if (!*text)
                return *c;
            break;
        case ROW_STR: last = *c; break;
        case ROW_ENUM:
            /* Chosen in any case, unless something else fits: its message is the best one. */
            last = last ? last : *c;
            if (row_enum_value(*c, text) >= 0)
                best = *c;
            break;
        case ROW_STRUCT:
        case ROW_UNION:
        case ROW_LIST:
        case ROW_ANY:
        case ROW_ALTERNATE: break;
        default:
            if (!best && !row_set_text(*c, text, &scratch))
                best = *c;
            break;
        }
    }
    /* A string takes anything, so where there is one, that is what a text is. */
    return last && last->kind == ROW_STR ? last : best ? best : last;
}

static const struct row_type *choose(const struct parser *p, const struct row_type *type,
                                     struct json_object *in)
{
    enum json_type json = json_object_get_type(in);
    const struct row_type *number = NULL;

    if (p->text && json == json_type_string)
        return choose_by_text(type, json_object_get_string(in));
    for (const struct row_type *const *c = type->branches; *c; c++) {
        if (!fits(json, (*c)->kind))
            continue;
        if (json != json_type_int || (*c)->kind != ROW_NUMBER)
            return *c;
        number = *c;
    }
    return number;
}

static int parse_alternate(struct parser *p, const struct place *at, const struct row_type *type,
                           struct json_object *in, struct row_choice *out)
{
    const struct row_type *choice = choose(p, type, in);

    if (!choice)
        return refuse(p, at, false, "Invalid parameter type for '%s', expected: %s", type->name);
    out->type = choice;
    if (choice->kind == ROW_NULL)
        return 0;
    out->value = calloc(1, choice->size);
    return out->value ? parse_value(p, at, choice, in, out->value) : no_memory(p);
}

/* --- any value ---------------------------------------------------------------- */

/* What holds others. */
static int parse_nested(struct parser *p, const struct place *at, const struct row_type *type,
                        struct json_object *in, void *out)
{
    int r;

    if (++p->depth > ROW_DEPTH_MAX)
        return err_set(p->err, -EINVAL, "JSON nesting depth limit exceeded");
    r = type->kind == ROW_LIST ? parse_list(p, at, type, in, out)
                               : parse_struct(p, at, type, in, out);
    p->depth--;
    return r;
}

static int parse_value(struct parser *p, const struct place *at, const struct row_type *type,
                       struct json_object *in, void *out)
{
    switch (type->kind) {
    case ROW_STRUCT:
    case ROW_UNION:
    case ROW_LIST: return parse_nested(p, at, type, in, out);
    case ROW_ALTERNATE: return parse_alternate(p, at, type, in, out);
    case ROW_ANY: *(struct json_object **)out = json_object_get(in); return 0;
    case ROW_NULL:
        if (p->text ? !json_object_is_type(in, json_type_string) || json_object_get_string_len(in)
                    : !!in)
            return wrong_type(p, at, "null");
        return 0;
    default: return parse_scalar(p, at, type, in, out);
    }
}

int row_parse_tree(const struct row_type *type, struct json_object *in, bool text, void *out,
                   struct err *err)
{
    struct parser p = { .err = err, .text = text };
    struct place top = { 0 };

    memset(out, 0, type->size);
    int r = parse_value(&p, &top, type, in, out);
    if (r < 0)
        row_release(type, out);
    return r;
}

int row_parse(const struct row_type *type, struct json_object *in, void *out, struct err *err)
{
    if (in || !row_is_struct(type))
        return row_parse_tree(type, in, false, out, err);
    struct json_object *empty = json_object_new_object();
    if (!empty) {
        memset(out, 0, type->size);
        return err_set(err, -ENOMEM, "out of memory");
    }
    int r = row_parse_tree(type, empty, false, out, err);
    json_object_put(empty);
    return r;
}
