/* SPDX-License-Identifier: MIT */
/*
 * What to call a node so that the name would open the same bytes again: a plain
 * name where one says it all, else the options that matter, as "json:{...}".
 * Chains may be long, so plain names are looked for in a loop and descriptions
 * go only some levels deep; below that a child stands there by its node's name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/node.h"

/* A node with several children may stand there once for each way that leads to it: beyond TEXT_MAX bytes,
 * too, only names are written. */
enum { DEPTH_MAX = 16, TEXT_MAX = 64 << 10 };

static int describe(FILE *out, const struct node *n, unsigned depth);

static bool is_ref(const struct row *row)
{
    return row->type == &row_blockdev_ref || row->type == &row_blockdev_ref_or_null;
}

static bool is_telling(const struct driver *d, const char *name)
{
    if (!d->telling)
        return true;
    for (const char *const *p = d->telling; *p; p++)
        if (!strcmp(*p, name))
            return true;
    return false;
}

static bool is_pointer(const struct row *row)
{
    switch (row->type->kind) {
    case ROW_STRUCT:
    case ROW_UNION: return !row->required;
    case ROW_STR:
    case ROW_ANY: return true;
    default: return false;
    }
}

/* Was the option given?  One that keeps no note of that counts when it is not all zeroes. */
static bool is_given(const struct row *row, const void *options)
{
    const char *value = (const char *)options + row->offset;
    if (row->has)
        return *(const bool *)((const char *)options + row->has - 1);
    if (is_pointer(row))
        return *(void *const *)value != NULL;
    if (row->required)
        return true;
    return !bytes_are_zero(value, row->type->size);
}

static int print_value(FILE *out, const struct row *row, const void *options)
{
    const void *value = (const char *)options + row->offset;
    if (is_pointer(row) && row->type->kind != ROW_STR && row->type->kind != ROW_ANY)
        value = *(void *const *)value;
    autofree char *text = row_text(row->type, value);
    if (!text)
        return -1;
    return fprintf(out, ", \"%s\": %s", row->name, text);
}

static int print_child(FILE *out, const struct node *n, const char *name, unsigned depth)
{
    const struct edge *e = node_child(n, name);
    if (!e)
        return 0;
    fprintf(out, ", \"%s\": ", name);
    if (depth == DEPTH_MAX || ftell(out) > TEXT_MAX)
        return fprintf(out, "\"%s\"", e->child->name);
    return describe(out, e->child, depth + 1);
}

static int print_rows(FILE *out, const struct node *n, const struct row *rows, const void *options,
                      unsigned depth)
{
    int result = 0;
    for (const struct row *row = rows; row->type && result >= 0; row++) {
        if (!row->name)
            result =
                print_rows(out, n, row->type->rows, (const char *)options + row->offset, depth);
        else if (is_ref(row))
            result = print_child(out, n, row->name, depth);
        else if (is_telling(n->driver, row->name) && is_given(row, options))
            result = print_value(out, row, options);
    }
    return result;
}

static int describe(FILE *out, const struct node *n, unsigned depth)
{
    const struct row_type *type = n->driver->options;
    int result = 0;
    fprintf(out, "{\"driver\": \"%s\"", n->driver->name);
    if (type && n->said->driver_options)
        result = print_rows(out, n, type->rows, n->said->driver_options, depth);
    fputc('}', out);
    return result;
}

static char *describe_json(const struct node *n)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (!out)
        return NULL;
    fputs("json:", out);
    int result = describe(out, n, 0);
    if (fclose(out) != 0 || result < 0) {
        free(text);
        return NULL;
    }
    return text;
}

static bool says_something(const struct driver *d, const struct row *rows, const void *options)
{
    for (const struct row *row = rows; row->type; row++) {
        if (!row->name) {
            if (says_something(d, row->type->rows, (const char *)options + row->offset))
                return true;
        } else if (!is_ref(row) && is_telling(d, row->name) && is_given(row, options)) {
            return true;
        }
    }
    return false;
}

/* A format whose options add nothing to the name of its file: that file; else NULL. */
static const struct node *named_by(const struct node *n)
{
    const struct row_type *type = n->driver->options;
    if (n->driver->filename || n->driver->kind != DRIVER_FORMAT)
        return NULL;
    if (type && n->said->driver_options &&
        says_something(n->driver, type->rows, n->said->driver_options))
        return NULL;
    const struct edge *e = node_child(n, "file");
    return e ? e->child : NULL;
}

char *node_filename(const struct node *n)
{
    const struct node *below = n, *next;
    while ((next = named_by(below)))
        below = next;
    char *name = below->driver->filename ? below->driver->filename(below) : NULL;
    return name ? name : describe_json(n);
}
