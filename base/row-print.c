/* SPDX-License-Identifier: MIT */
/* From C values to JSON: members that are absent are left out. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/row-private.h"

static int print_value(const struct row_type *type, const void *p, struct json_object **out);

/* Row names live as long as the program, so json-c need not copy them. */
static int add(struct json_object *object, const char *name, struct json_object *value)
{
    if (json_object_object_add_ex(object, name, value, JSON_C_OBJECT_ADD_CONSTANT_KEY) == 0)
        return 0;
    json_object_put(value);
    return -ENOMEM;
}

static int print_members(const struct row_type *type, const char *s, struct json_object *object)
{
    for (const struct row *row = type->rows; row && row->type; row++) {
        const char *slot = s + row->offset;
        struct json_object *value = NULL;
        int r;

        if (!row->name) {
            r = print_members(row->type, slot, object);
        } else if (row_absent(row, s)) {
            continue;
        } else {
            r = print_value(row->type, row_is_pointer(row) ? *(void *const *)slot : slot, &value);
            if (!r)
                r = add(object, row->name, value);
        }
        if (r < 0)
            return r;
    }
    if (type->kind == ROW_UNION) {
        const void *b = *row_branch_slot(type, s);
        const struct row_type *branch = b ? row_branch(type, s) : NULL;

        if (branch)
            return print_members(branch, b, object);
    }
    return 0;
}

static int print_struct(const struct row_type *type, const void *p, struct json_object **out)
{
    *out = json_object_new_object();
    if (!*out)
        return -ENOMEM;
    int r = p ? print_members(type, p, *out) : 0;
    if (r < 0)
        json_object_put(*out);
    return r;
}

static int print_list(const struct row_type *type, const struct row_list *list,
                      struct json_object **out)
{
    struct json_object *array = json_object_new_array_ext((int)(list->n < 1 ? 1 : list->n));
    int r = array ? 0 : -ENOMEM;

    for (size_t i = 0; !r && i < list->n; i++) {
        struct json_object *value = NULL;

        r = print_value(type->elem, (const char *)list->v + i * type->elem->size, &value);
        if (!r && json_object_array_add(array, value) < 0) {
            json_object_put(value);
            r = -ENOMEM;
        }
    }
    if (r < 0)
        json_object_put(array);
    else
        *out = array;
    return r;
}

static struct json_object *print_scalar(const struct row_type *type, const void *p)
{
    const char *text;

    switch (type->kind) {
    case ROW_BOOL: return json_object_new_boolean(*(const bool *)p);
    case ROW_INT: return json_object_new_int64(*(const int64_t *)p);
    case ROW_INT8: return json_object_new_int64(*(const int8_t *)p);
    case ROW_INT16: return json_object_new_int64(*(const int16_t *)p);
    case ROW_INT32: return json_object_new_int64(*(const int32_t *)p);
    case ROW_UINT8: return json_object_new_int64(*(const uint8_t *)p);
    case ROW_UINT16: return json_object_new_int64(*(const uint16_t *)p);
    case ROW_UINT32: return json_object_new_int64(*(const uint32_t *)p);
    case ROW_UINT64:
    case ROW_SIZE: return json_object_new_uint64(*(const uint64_t *)p);
    case ROW_NUMBER: return json_object_new_double(*(const double *)p);
    case ROW_ENUM: text = row_enum_name(type, *(const int *)p); break;
    default: text = *(char *const *)p; break;
    }
    return json_object_new_string(text ? text : ""); /* a required string that nobody set */
}

static int print_value(const struct row_type *type, const void *p, struct json_object **out)
{
    const struct row_choice *choice = p;

    *out = NULL;
    switch (type->kind) {
    case ROW_STRUCT:
    case ROW_UNION: return print_struct(type, p, out);
    case ROW_LIST: return print_list(type, p, out);
    case ROW_ALTERNATE: return choice->type ? print_value(choice->type, choice->value, out) : 0;
    case ROW_ANY: *out = json_object_get(*(struct json_object *const *)p); return 0;
    case ROW_NULL: return 0;
    default: *out = print_scalar(type, p); return *out ? 0 : -ENOMEM;
    }
}

struct json_object *row_print(const struct row_type *type, const void *in)
{
    struct json_object *out;

    return print_value(type, in, &out) < 0 ? NULL : out;
}

char *row_text(const struct row_type *type, const void *in)
{
    struct json_object *value = NULL;

    if (print_value(type, in, &value) < 0)
        return NULL;
    char *text = json_text(value);
    json_object_put(value);
    return text;
}

bool row_equal(const struct row_type *type, const void *a, const void *b)
{
    /* The texts, not the values: 1.0 prints as 1, which is read back as an integer. */
    autofree char *text_a = row_text(type, a), *text_b = row_text(type, b);

    return text_a && text_b && strcmp(text_a, text_b) == 0;
}
