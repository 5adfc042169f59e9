/* SPDX-License-Identifier: MIT */
/*
 * What rows tell people: --help's lines, and a walk over all types that one
 * leads to, for the schema and the reference.
 */
#include <stdlib.h>
#include <string.h>

#include "base/row-private.h"

enum { NAME_COLUMN = 34 };

static const char *kind_text(const struct row_type *type)
{
    switch (type->kind) {
    case ROW_BOOL: return "on|off";
    case ROW_SIZE: return "size";
    case ROW_NUMBER: return "number";
    case ROW_STR: return "text";
    case ROW_ENUM:
    case ROW_STRUCT:
    case ROW_UNION:
    case ROW_ALTERNATE: return type->name;
    case ROW_LIST: return "list";
    case ROW_ANY: return "any";
    case ROW_NULL: return "null";
    default: return "integer";
    }
}

static void help_values(const struct row_type *type, FILE *out)
{
    const char *between = " (";

    for (unsigned i = 0; type->values[i]; i++) {
        if (!*type->values[i])
            continue;
        fprintf(out, "%s%s", between, type->values[i]);
        between = ", ";
    }
    if (*between == ',')
        fputc(')', out);
}

static void help_rows(const struct row *row, FILE *out)
{
    for (; row && row->type; row++) {
        int column;

        if (!row->name) {
            help_rows(row->type->rows, out);
            continue;
        }
        column = fprintf(out, "  %s=<%s>", row->name, kind_text(row->type));
        fprintf(out, "%*s", column < NAME_COLUMN ? NAME_COLUMN - column : 1, "");
        fprintf(out, "- %s", row->help ? row->help : "");
        if (row->type->kind == ROW_ENUM)
            help_values(row->type, out);
        fprintf(out, "%s\n", row->required ? " [needed]" : "");
    }
}

void row_help(const struct row_type *type, FILE *out)
{
    help_rows(type->rows, out);
    if (type->kind != ROW_UNION)
        return;
    const struct row *tag = row_find(type, type->tag, NULL);
    for (size_t i = 0; i < row_branch_count(type); i++) {
        if (!type->branches[i] || !*tag->type->values[i])
            continue;
        fprintf(out, " with %s=%s:\n", type->tag, tag->type->values[i]);
        help_rows(type->branches[i]->rows, out);
    }
}

/* The types met so far, in order. */
struct seen {
    const struct row_type **types;
    size_t count, room;
};

/* False: it was met before, or there is no memory to remember it (then it is left out). */
static bool meet(struct seen *s, const struct row_type *type)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->types[i] == type)
            return false;
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        void *larger = realloc(s->types, room * sizeof(*s->types));

        if (!larger)
            return false;
        s->types = larger;
        s->room = room;
    }
    s->types[s->count++] = type;
    return true;
}

static void meet_rows(struct seen *s, const struct row *row)
{
    for (; row && row->type; row++) {
        if (row->name)
            meet(s, row->type);
        else
            meet_rows(s, row->type->rows);
    }
}

static void meet_inner(struct seen *s, const struct row_type *type)
{
    if (row_is_struct(type))
        meet_rows(s, type->rows);
    if (type->kind == ROW_LIST)
        meet(s, type->elem);
    if (type->kind == ROW_UNION)
        for (size_t i = 0; i < row_branch_count(type); i++)
            if (type->branches[i])
                meet(s, type->branches[i]);
    if (type->kind == ROW_ALTERNATE)
        for (size_t i = 0; type->branches[i]; i++)
            meet(s, type->branches[i]);
}

void row_visit_types(const struct row_type *type, void (*fn)(const struct row_type *t, void *arg),
                     void *arg)
{
    struct seen s = { 0 };

    meet(&s, type);
    for (size_t i = 0; i < s.count; i++) {
        fn(s.types[i], arg);
        meet_inner(&s, s.types[i]);
    }
    free(s.types);
}
