/* SPDX-License-Identifier: MIT */
/*
 * Option rows: the one description of every option, argument, result, event
 * and enum.  A struct row_type describes a C type and how it looks in JSON; a
 * struct row is one member of a struct.  From the rows alone come parsing and
 * checking of JSON and of dotted key=value text, output, release,
 * query-qmp-schema, --help and the reference in doc/.
 *
 * How a row type looks in C, at row.offset in the struct that holds it:
 *
 *   kind           C
 *   ROW_BOOL       bool
 *   ROW_INT        int64_t            any other width: ROW_INT8 .. ROW_UINT64
 *   ROW_SIZE       uint64_t           text may carry a suffix: 64M
 *   ROW_NUMBER     double
 *   ROW_STR        char *             owned; NULL: absent
 *   ROW_ENUM       an enum (int)      the value is the index into type->values
 *   ROW_STRUCT     the struct itself when required, a pointer to it (owned) when optional
 *   ROW_UNION      the same; the struct has its base rows, one of which (type->tag, an enum)
 *                  tells the branch, and at type->branch_offset a void * (owned) to the
 *                  branch's struct, NULL for a branch without members
 *   ROW_LIST       struct row_list    elements of type->elem, one after the other;
 *                                     elements of struct type lie in line
 *   ROW_ALTERNATE  struct row_choice  which of type->choices it is, and an owned value
 *   ROW_ANY        struct json_object *  owned reference; NULL: absent
 *   ROW_NULL       nothing
 *
 * A scalar or enum that is optional either has a default (row.fallback, in the
 * text form) or a bool beside it that tells whether it was there (row.has).
 */
#ifndef BASE_ROW_H
#define BASE_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct json_object;

enum row_kind {
    ROW_BOOL = 1,
    ROW_INT,
    ROW_INT8,
    ROW_INT16,
    ROW_INT32,
    ROW_UINT8,
    ROW_UINT16,
    ROW_UINT32,
    ROW_UINT64,
    ROW_SIZE,
    ROW_NUMBER,
    ROW_STR,
    ROW_ENUM,
    ROW_STRUCT,
    ROW_UNION,
    ROW_LIST,
    ROW_ALTERNATE,
    ROW_ANY,
    ROW_NULL,
};

struct row_type;

/* One member of a struct; a table of rows ends with one whose type is NULL. */
struct row {
    const char *name;            /* as in JSON; NULL: the rows of .type stand here in line (a base
                                    struct, embedded at .offset) */
    const struct row_type *type; /* NULL ends the table */
    size_t offset;               /* bytes, in the struct that holds it */
    size_t has;                  /* optional: 1 + offset of a bool "it was there"; 0: none */
    bool required;
    bool deprecated;      /* shown as feature "deprecated" in the schema */
    bool secret;          /* a ROW_STR that row_release() wipes, and that nobody shows */
    const char *fallback; /* optional scalars: the default, in text form; NULL: zero */
    const char *since;    /* "0.1"; NULL: since the type itself */
    const char *help;     /* one sentence, without the final full stop */
};

/* One possibility of an alternate: told apart by the kind of the JSON value. */
struct row_type {
    enum row_kind kind;
    const char *name; /* the QAPI name: "int", "BlockdevOptionsFile" */
    size_t size;      /* bytes of the C value; for ROW_STRUCT and ROW_UNION sizeof the struct */
    const char *since;
    const char *help;            /* one sentence */
    const char *const *features; /* STRUCT, UNION: what programs may ask query-qmp-schema for, ended
                                    by NULL; NULL: none */

    const struct row *rows;        /* STRUCT: the members; UNION: the base members */
    const char *const *values;     /* ENUM: the names, ended by NULL; a NULL entry can't be, so
                                          gaps use "" (never accepted nor shown) */
    const char *const *value_help; /* ENUM: one sentence each, may be NULL */
    const struct row_type *elem;   /* LIST */
    const char *tag;               /* UNION: name of the base row that tells the branch */
    size_t branch_offset;          /* UNION: of the void * in the struct */
    const struct row_type *const *branches; /* UNION: by enum value, as many as the enum has names;
                                               NULL: no members.  ALTERNATE: the possibilities,
                                               ended by NULL */
};

struct row_list {
    void *v; /* owned; NULL when n is 0 */
    size_t n;
};

struct row_choice {
    const struct row_type *type; /* which of the alternate's possibilities; NULL: absent */
    void *value; /* owned; a C value of that type (a char * for ROW_STR lies in it) */
};

extern const struct row_type row_bool, row_int, row_int8, row_int16, row_int32, row_uint8,
    row_uint16, row_uint32, row_uint64, row_size, row_number, row_str, row_any, row_null;
extern const struct row_type row_str_list, row_int_list, row_uint64_list;

/* The usual rows.  More members may follow: ROW(struct s, "size", size, row_int, .help = "..."). */
#define ROW_REQ(S, name_, member_, type_, ...)                                                     \
    {                                                                                              \
        .name = name_, .type = &(type_), .offset = offsetof(S, member_), .required = true,         \
        __VA_ARGS__                                                                                \
    }
#define ROW_OPT(S, name_, member_, type_, ...)                                                     \
    {                                                                                              \
        .name = name_, .type = &(type_), .offset = offsetof(S, member_), __VA_ARGS__               \
    }
/* The struct has `bool has_member` beside `member`. */
#define ROW_HAS(S, name_, member_, type_, ...)                                                     \
    {                                                                                              \
        .name = name_, .type = &(type_), .offset = offsetof(S, member_),                           \
        .has = 1 + offsetof(S, has_##member_), __VA_ARGS__                                         \
    }
/* The rows of a base struct, embedded as `member`. */
#define ROW_BASE(S, member_, type_)                                                                \
    {                                                                                              \
        .type = &(type_), .offset = offsetof(S, member_)                                           \
    }
#define ROW_END                                                                                    \
    {                                                                                              \
        0                                                                                          \
    }

/* Types in a line each.  ROW_STRUCT_TYPE(row_x, "X", struct x, rows, .help = "...") */
#define ROW_STRUCT_TYPE(var_, name_, S, rows_, ...)                                                \
    const struct row_type var_ = {                                                                 \
        .kind = ROW_STRUCT, .name = name_, .size = sizeof(S), .rows = rows_, __VA_ARGS__           \
    }
#define ROW_ENUM_TYPE(var_, name_, values_, ...)                                                   \
    const struct row_type var_ = {                                                                 \
        .kind = ROW_ENUM, .name = name_, .size = sizeof(int), .values = values_, __VA_ARGS__       \
    }
#define ROW_LIST_TYPE(var_, elem_)                                                                 \
    const struct row_type var_ = { .kind = ROW_LIST,                                               \
                                   .size = sizeof(struct row_list),                                \
                                   .elem = &(elem_) }
#define ROW_UNION_TYPE(var_, name_, S, rows_, tag_, branch_member_, branches_, ...)                \
    const struct row_type var_ = { .kind = ROW_UNION,                                              \
                                   .name = name_,                                                  \
                                   .size = sizeof(S),                                              \
                                   .rows = rows_,                                                  \
                                   .tag = tag_,                                                    \
                                   .branch_offset = offsetof(S, branch_member_),                   \
                                   .branches = branches_,                                          \
                                   __VA_ARGS__ }
#define ROW_ALTERNATE_TYPE(var_, name_, choices_, ...)                                             \
    const struct row_type var_ = { .kind = ROW_ALTERNATE,                                          \
                                   .name = name_,                                                  \
                                   .size = sizeof(struct row_choice),                              \
                                   .branches = choices_,                                           \
                                   __VA_ARGS__ }

/** row_parse - fill the C value of @type from JSON, strictly
 * @in:  stays the caller's; NULL counts as an empty object
 * @out: type->size bytes; need not be initialised
 *
 * Missing, unknown and mistyped members are refused with QEMU's messages, naming the member by its
 * path ("file.filename", "children[0]"): "Parameter 'x' is missing", "Parameter 'x' is unexpected",
 * "Invalid parameter type for 'x', expected: boolean", "Parameter 'driver' does not accept value
 * 'nope'".  On failure nothing is left to release.
 * Return: 0; -EINVAL; -ENOMEM.
 */
int row_parse(const struct row_type *type, struct json_object *in, void *out, struct err *err);

/** row_parse_text - the same from a command line's text: JSON when it begins with '{', else dotted
 * key=value (a.b=1,list.0=x; ",," is a comma; on/off/yes/no for bool; size suffixes for size)
 * @implied: the key of a first item that has no '=', or NULL
 */
int row_parse_text(const struct row_type *type, const char *text, const char *implied, void *out,
                   struct err *err);

/** row_text_tree - dotted key=value text as JSON whose leaves are all strings; no rows are asked
 * @out: an object, the caller's reference; NULL on failure
 * Return: 0; -EINVAL; -ENOMEM.
 */
int row_text_tree(const char *text, const char *implied, struct json_object **out, struct err *err);

/** row_print - the JSON of a C value; members that are absent are left out
 * Return: a new reference, or NULL when out of memory.
 */
struct json_object *row_print(const struct row_type *type, const void *in);

/** row_text - the same as compact text on one line; malloc'd, or NULL when out of memory */
char *row_text(const struct row_type *type, const void *in);

/** row_release - free all that the C value owns and zero it; fine on a zeroed value */
void row_release(const struct row_type *type, void *value);

/** row_copy - deep copy; 0 or -ENOMEM (then @out is zeroed) */
int row_copy(const struct row_type *type, const void *in, void *out);

/** row_equal - do both print the same JSON? */
bool row_equal(const struct row_type *type, const void *a, const void *b);

/** row_enum_value - index of @name in an enum type, or -1 */
int row_enum_value(const struct row_type *type, const char *name);

/** row_enum_name - the name of an enum value, or NULL when out of range */
const char *row_enum_name(const struct row_type *type, int value);

/** row_list_append - make room for one more element of @type->elem, zeroed
 * Return: the new element, or NULL when out of memory.
 */
void *row_list_append(const struct row_type *type, struct row_list *list);

/** row_help - print the members of a struct or union, one line each, for --help */
void row_help(const struct row_type *type, FILE *out);

/** row_visit_types - call @fn once for every type that @type leads to, itself first (for schema and
 * reference)
 */
void row_visit_types(const struct row_type *type, void (*fn)(const struct row_type *t, void *arg),
                     void *arg);

#endif
