/* SPDX-License-Identifier: MIT */
/* The reference of all commands, events and their types as markdown, from the rows. */
#include <ctype.h>
#include <string.h>

#include "base/log.h"
#include "qmp/qmp.h"

enum { TYPES_MAX = 512 };

/* The types that have a chapter of their own, each once. */
struct chapters {
    const struct row_type *types[TYPES_MAX];
    unsigned count;
};

static bool has_chapter(const struct row_type *t)
{
    return t->name && (t->kind == ROW_STRUCT || t->kind == ROW_UNION || t->kind == ROW_ENUM ||
                       t->kind == ROW_ALTERNATE);
}

/* ---- one type in a line ---- */

static void print_link(const struct row_type *t, FILE *out)
{
    fprintf(out, "[%s](#", t->name);
    for (const char *p = t->name; *p; p++)
        fputc(tolower((unsigned char)*p), out);
    fputc(')', out);
}

static void print_type_name(const struct row_type *t, FILE *out)
{
    if (t->kind == ROW_LIST) {
        fputs("list of ", out);
        print_type_name(t->elem, out);
    } else if (has_chapter(t)) {
        print_link(t, out);
    } else {
        fputs(t->name ? t->name : "any", out);
    }
}

static void print_rows(const struct row *row, FILE *out)
{
    for (; row && row->type; row++) {
        if (!row->name) {
            print_rows(row->type->rows, out);
            continue;
        }
        fprintf(out, "- `%s` (", row->name);
        print_type_name(row->type, out);
        fprintf(out, "%s%s): %s", row->required ? "" : ", optional",
                row->deprecated ? ", deprecated" : "", row->help ? row->help : "");
        if (row->fallback && *row->fallback && !(row->help && strstr(row->help, "efault")))
            fprintf(out, "; default: %s", row->fallback);
        fputc('\n', out);
    }
}

/* ---- chapters ---- */

/* The members of a union's base, then those of each branch that has any. */
static void print_union(const struct row_type *t, FILE *out)
{
    const struct row *tag;

    print_rows(t->rows, out);
    for (tag = t->rows; tag->type && !(tag->name && strcmp(tag->name, t->tag) == 0); tag++)
        ;
    for (unsigned i = 0; tag->type && tag->type->values[i]; i++) {
        const struct row_type *branch = t->branches[i];
        if (!branch || !*tag->type->values[i])
            continue;
        fprintf(out, "- with `%s` = `%s` also the members of ", t->tag, tag->type->values[i]);
        print_type_name(branch, out);
        fputc('\n', out);
    }
}

static void print_enum(const struct row_type *t, FILE *out)
{
    for (unsigned i = 0; t->values[i]; i++) {
        if (!*t->values[i])
            continue;
        fprintf(out, "- `%s`", t->values[i]);
        if (t->value_help && t->value_help[i])
            fprintf(out, ": %s", t->value_help[i]);
        fputc('\n', out);
    }
}

static void print_alternate(const struct row_type *t, FILE *out)
{
    for (unsigned i = 0; t->branches[i]; i++) {
        fputs("- or ", out);
        print_type_name(t->branches[i], out);
        fputc('\n', out);
    }
}

static void print_members(const struct row_type *t, FILE *out)
{
    switch (t->kind) {
    case ROW_STRUCT: print_rows(t->rows, out); break;
    case ROW_UNION: print_union(t, out); break;
    case ROW_ENUM: print_enum(t, out); break;
    case ROW_ALTERNATE: print_alternate(t, out); break;
    default: break;
    }
    fputc('\n', out);
}

/* What a command takes: in full, since only this command takes it, but for the large unions. */
static void print_arguments(const char *title, const struct row_type *t, FILE *out)
{
    if (!t)
        return;
    if (t->kind == ROW_STRUCT) {
        fprintf(out, "%s:\n\n", title);
        print_members(t, out);
    } else {
        fprintf(out, "%s: ", title);
        print_type_name(t, out);
        fputs("\n\n", out);
    }
}

/* ---- which types there are ---- */

static void collect(const struct row_type *t, void *arg)
{
    struct chapters *c = arg;

    if (!has_chapter(t))
        return;
    for (unsigned i = 0; i < c->count; i++)
        if (strcmp(c->types[i]->name, t->name) == 0)
            return;
    if (c->count == TYPES_MAX)
        log_error("the reference has no room for type %s", t->name);
    else
        c->types[c->count++] = t;
}

/* What @t leads to, but not @t itself when its members are printed where it is used. */
static void collect_below(const struct row_type *t, struct chapters *c)
{
    if (!t)
        return;
    if (t->kind != ROW_STRUCT) {
        row_visit_types(t, collect, c);
        return;
    }
    for (const struct row *row = t->rows; row && row->type; row++) {
        if (row->name)
            row_visit_types(row->type, collect, c);
        else
            collect_below(row->type, c);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct row_type *const *)a)->name,
                  (*(const struct row_type *const *)b)->name);
}

static void print_chapters(struct chapters *c, FILE *out)
{
    qsort(c->types, c->count, sizeof(*c->types), by_name);
    fprintf(out, "## Types\n\n");
    for (unsigned i = 0; i < c->count; i++) {
        const struct row_type *t = c->types[i];
        fprintf(out, "### %s\n\n", t->name);
        if (t->help)
            fprintf(out, "%s.\n\n", t->help);
        print_members(t, out);
    }
}

void qmp_reference(FILE *out)
{
    const struct event_type *e;
    struct chapters chapters = { .count = 0 };

    fprintf(out, "# QMP reference\n\n"
                 "All commands, events and types, as `ringblkd --qmp-reference` prints them.\n\n"
                 "## Commands\n\n");
    for (const struct qmp_command *c = qmp_next(NULL); c; c = qmp_next(c)) {
        fprintf(out, "### %s\n\n%s.%s%s\n\n", c->name, c->help,
                c->flags & QMP_ALLOW_OOB ? " May run out of band." : "",
                c->flags & QMP_DEPRECATED ? " Deprecated." : "");
        print_arguments("Arguments", c->args, out);
        print_arguments("Returns", c->result, out);
        collect_below(c->args, &chapters);
        collect_below(c->result, &chapters);
    }
    fprintf(out, "## Events\n\n");
    for (unsigned i = 0; (e = event_by_index(i)); i++) {
        fprintf(out, "### %s\n\n%s.\n\n", e->name, e->help ? e->help : "");
        print_arguments("Data", e->data, out);
        collect_below(e->data, &chapters);
    }
    print_chapters(&chapters, out);
}
