/* SPDX-License-Identifier: MIT */
/*
 * Option rows: the types that every table uses, looking rows up, and the life
 * of C values: release, copy, growth of lists.  Tables of values and branches
 * may still be filled in at run time, so nothing about them is remembered.
 */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/row-private.h"

const struct row_type row_bool = { .kind = ROW_BOOL, .name = "bool", .size = sizeof(bool) };
const struct row_type row_int = { .kind = ROW_INT, .name = "int", .size = sizeof(int64_t) };
const struct row_type row_int8 = { .kind = ROW_INT8, .name = "int8", .size = sizeof(int8_t) };
const struct row_type row_int16 = { .kind = ROW_INT16, .name = "int16", .size = sizeof(int16_t) };
const struct row_type row_int32 = { .kind = ROW_INT32, .name = "int32", .size = sizeof(int32_t) };
const struct row_type row_uint8 = { .kind = ROW_UINT8, .name = "uint8", .size = sizeof(uint8_t) };
const struct row_type row_uint16 = { .kind = ROW_UINT16, .name = "uint16", .size = 2 };
const struct row_type row_uint32 = { .kind = ROW_UINT32, .name = "uint32", .size = 4 };
const struct row_type row_uint64 = { .kind = ROW_UINT64, .name = "uint64", .size = 8 };
const struct row_type row_size = { .kind = ROW_SIZE, .name = "size", .size = sizeof(uint64_t) };
const struct row_type row_number = { .kind = ROW_NUMBER, .name = "number", .size = sizeof(double) };
const struct row_type row_str = { .kind = ROW_STR, .name = "str", .size = sizeof(char *) };
const struct row_type row_any = { .kind = ROW_ANY, .name = "any", .size = sizeof(void *) };
const struct row_type row_null = { .kind = ROW_NULL, .name = "null", .size = 0 };
ROW_LIST_TYPE(row_str_list, row_str);
ROW_LIST_TYPE(row_int_list, row_int);
ROW_LIST_TYPE(row_uint64_list, row_uint64);

const struct row *row_find(const struct row_type *type, const char *name, size_t *offset)
{
    for (const struct row *row = type->rows; row && row->type; row++) {
        if (!row->name) {
            const struct row *inner = row_find(row->type, name, offset);

            if (inner) {
                if (offset)
                    *offset += row->offset;
                return inner;
            }
        } else if (!strcmp(row->name, name)) {
            if (offset)
                *offset = row->offset;
            return row;
        }
    }
    return NULL;
}

const struct row_type *row_branch(const struct row_type *type, const void *value)
{
    size_t offset;
    const struct row *tag = row_find(type, type->tag, &offset);
    int v;

    if (!tag)
        return NULL;
    memcpy(&v, (const char *)value + offset, sizeof v);
    return row_enum_name(tag->type, v) ? type->branches[v] : NULL;
}

size_t row_branch_count(const struct row_type *type)
{
    const struct row *tag = row_find(type, type->tag, NULL);
    size_t n = 0;

    while (tag && tag->type->values[n])
        n++;
    return n;
}

bool row_absent(const struct row *row, const void *s)
{
    const char *slot = (const char *)s + row->offset;
    const bool *has = row_has(row, s);

    if (row->required)
        return false;
    if (has)
        return !*has;
    switch (row->type->kind) {
    case ROW_STRUCT:
    case ROW_UNION:
    case ROW_STR:
    case ROW_ANY: return !*(void *const *)slot;
    case ROW_LIST: return !((const struct row_list *)slot)->n;
    case ROW_ALTERNATE: return !((const struct row_choice *)slot)->type;
    default: return false;
    }
}

int row_enum_value(const struct row_type *type, const char *name)
{
    for (int i = 0; *name && type->values[i]; i++) {
        if (!strcmp(type->values[i], name))
            return i;
    }
    return -1;
}

const char *row_enum_name(const struct row_type *type, int value)
{
    int i = 0;

    while (i < value && type->values[i])
        i++;
    return value >= 0 && type->values[i] && *type->values[i] ? type->values[i] : NULL;
}

void *row_list_append(const struct row_type *type, struct row_list *list)
{
    size_t size = type->elem->size;
    char *v = reallocarray(list->v, list->n + 1, size);

    if (!v)
        return NULL;
    list->v = v;
    return memset(v + list->n++ * size, 0, size);
}

/* --- release ---------------------------------------------------------------- */

static void release_value(const struct row_type *type, void *p);

/* A password's bytes shall not stay behind in memory that somebody else gets. */
static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
}

static void release_members(const struct row_type *type, char *s)
{
    if (type->kind == ROW_UNION) {
        /* First, because the tag, which is among the rows, says what the branch is. */
        void **slot = row_branch_slot(type, s);
        const struct row_type *branch = *slot ? row_branch(type, s) : NULL;

        if (branch)
            release_members(branch, *slot);
        free(*slot);
    }
    for (const struct row *row = type->rows; row && row->type; row++) {
        char *slot = s + row->offset;

        if (!row->name) {
            release_members(row->type, slot);
        } else if (!row_is_pointer(row)) {
            if (row->secret)
                wipe(*(char **)slot);
            release_value(row->type, slot);
        } else if (*(void **)slot) {
            release_value(row->type, *(void **)slot);
            free(*(void **)slot);
        }
    }
}

static void release_value(const struct row_type *type, void *p)
{
    struct row_choice *choice = p;
    struct row_list *list = p;

    switch (type->kind) {
    case ROW_STR: free(*(char **)p); break;
    case ROW_ANY: json_object_put(*(struct json_object **)p); break;
    case ROW_STRUCT:
    case ROW_UNION: release_members(type, p); break;
    case ROW_LIST:
        for (size_t i = 0; i < list->n; i++)
            release_value(type->elem, (char *)list->v + i * type->elem->size);
        free(list->v);
        break;
    case ROW_ALTERNATE:
        if (choice->type && choice->value)
            release_value(choice->type, choice->value);
        free(choice->value);
        break;
    default: break;
    }
}

void row_release(const struct row_type *type, void *value)
{
    release_value(type, value);
    memset(value, 0, type->size);
}

/* --- copy ------------------------------------------------------------------- */

static int copy_value(const struct row_type *type, const void *in, void *out);

/* What is copied to is zeroed first, so that row_release() of a part is fine. */
static int copy_allocated(const struct row_type *type, const void *in, void **out)
{
    if (!in)
        return 0;
    *out = calloc(1, type->size ? type->size : 1);
    return *out ? copy_value(type, in, *out) : -ENOMEM;
}

static int copy_members(const struct row_type *type, const char *in, char *out)
{
    for (const struct row *row = type->rows; row && row->type; row++) {
        const char *from = in + row->offset;
        char *to = out + row->offset;
        int r;

        if (!row->name)
            r = copy_members(row->type, from, to);
        else if (row_is_pointer(row))
            r = copy_allocated(row->type, *(void *const *)from, (void **)to);
        else
            r = copy_value(row->type, from, to);
        if (r < 0)
            return r;
        if (row->has)
            *row_has(row, out) = *row_has(row, in);
    }
    if (type->kind == ROW_UNION) {
        const struct row_type *branch = row_branch(type, in);

        if (branch)
            return copy_allocated(branch, *row_branch_slot(type, in), row_branch_slot(type, out));
    }
    return 0;
}

static int copy_list(const struct row_type *type, const struct row_list *in, struct row_list *out)
{
    size_t size = type->elem->size;

    if (!in->n)
        return 0;
    out->v = calloc(in->n, size);
    if (!out->v)
        return -ENOMEM;
    while (out->n < in->n) {
        size_t at = out->n++ * size;
        int r = copy_value(type->elem, (const char *)in->v + at, (char *)out->v + at);

        if (r < 0)
            return r;
    }
    return 0;
}

static int copy_value(const struct row_type *type, const void *in, void *out)
{
    const struct row_choice *choice = in;
    const char *text;

    switch (type->kind) {
    case ROW_STR:
        text = *(char *const *)in;
        *(char **)out = text ? strdup(text) : NULL;
        return text && !*(char **)out ? -ENOMEM : 0;
    case ROW_ANY:
        *(struct json_object **)out = json_object_get(*(struct json_object *const *)in);
        return 0;
    case ROW_STRUCT:
    case ROW_UNION: return copy_members(type, in, out);
    case ROW_LIST: return copy_list(type, in, out);
    case ROW_ALTERNATE:
        ((struct row_choice *)out)->type = choice->type;
        return choice->type
                   ? copy_allocated(choice->type, choice->value, &((struct row_choice *)out)->value)
                   : 0;
    default: memcpy(out, in, type->size); return 0;
    }
}

int row_copy(const struct row_type *type, const void *in, void *out)
{
    memset(out, 0, type->size);
    int r = copy_value(type, in, out);
    if (r < 0)
        row_release(type, out);
    return r;
}
