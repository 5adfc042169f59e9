/* SPDX-License-Identifier: MIT */
/* What the files of the row code share; nobody else includes this. */
#ifndef BASE_ROW_PRIVATE_H
#define BASE_ROW_PRIVATE_H

#include "base/row.h"

/* Structs and lists inside each other; keeps recursion within a coroutine's stack, at -O0 too. */
enum { ROW_DEPTH_MAX = 128 };

/** row_find - the row called @name among the type's own rows and those of its bases, not of branches
 * @offset: where its C value lies, in the struct of @type; may be NULL
 */
const struct row *row_find(const struct row_type *type, const char *name, size_t *offset);

/** row_branch - the branch that the tag of the union at @value tells; NULL: one without members */
const struct row_type *row_branch(const struct row_type *type, const void *value);

/** row_branch_count - how many names the tag of a union has (0 when its rows lack the tag) */
size_t row_branch_count(const struct row_type *type);

static inline bool row_is_struct(const struct row_type *type)
{
    return type->kind == ROW_STRUCT || type->kind == ROW_UNION;
}

/* Optional structs are held by pointer. */
static inline bool row_is_pointer(const struct row *row)
{
    return !row->required && row_is_struct(row->type);
}

static inline bool *row_has(const struct row *row, const void *s)
{
    return row->has ? (bool *)((char *)s + row->has - 1) : NULL;
}

static inline void **row_branch_slot(const struct row_type *type, const void *s)
{
    return (void **)((char *)s + type->branch_offset);
}

/** row_absent - is an optional member left out?  @s is the struct that holds it. */
bool row_absent(const struct row *row, const void *s);

/** row_set_text - a scalar or enum from text, as command lines and defaults write it
 * Return: 0; -EINVAL; -ERANGE (a number past the C type); -ENOMEM.
 */
int row_set_text(const struct row_type *type, const char *text, void *out);

/** row_set_int - an integer of the type's width
 * @negative: the value is @v as int64_t
 * Return: 0; -ERANGE.
 */
int row_set_int(const struct row_type *type, bool negative, uint64_t v, void *out);

/** row_parse_tree - row_parse(), or, when @text, the same from a tree whose leaves are strings */
int row_parse_tree(const struct row_type *type, struct json_object *in, bool text, void *out,
                   struct err *err);

#endif
