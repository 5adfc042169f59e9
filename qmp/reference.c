/* SPDX-License-Identifier: MIT */
/* The reference of all commands and events as markdown, from the rows. */
#include "qmp/qmp.h"

static void print_rows(const struct row *row, FILE *out)
{
    for (; row && row->type; row++) {
        if (!row->name) {
            print_rows(row->type->rows, out);
            continue;
        }
        fprintf(out, "- `%s` (%s%s): %s\n", row->name,
                row->type->kind == ROW_LIST ? "list"
                : row->type->name           ? row->type->name
                                            : "",
                row->required ? "" : ", optional", row->help ? row->help : "");
    }
}

static void print_type(const char *title, const struct row_type *t, FILE *out)
{
    if (!t)
        return;
    if (t->kind == ROW_LIST) {
        fprintf(out, "%s: a list of `%s`\n\n", title, t->elem->name);
        t = t->elem;
    } else {
        fprintf(out, "%s: `%s`\n\n", title, t->name);
    }
    if (t->kind == ROW_STRUCT || t->kind == ROW_UNION)
        print_rows(t->rows, out);
    if (t->kind == ROW_UNION)
        fprintf(out, "- and the members that belong to the value of `%s`\n", t->tag);
    fputc('\n', out);
}

void qmp_reference(FILE *out)
{
    const struct event_type *e;

    fprintf(
        out,
        "# QMP reference\n\nPrinted from the program's tables by `ringblkd --qmp-reference`.\n\n"
        "## Commands\n\n");
    for (const struct qmp_command *c = qmp_next(NULL); c; c = qmp_next(c)) {
        fprintf(out, "### %s\n\n%s.\n\n", c->name, c->help);
        print_type("Arguments", c->args, out);
        print_type("Returns", c->result, out);
    }
    fprintf(out, "## Events\n\n");
    for (unsigned i = 0; (e = event_by_index(i)); i++) {
        fprintf(out, "### %s\n\n%s.\n\n", e->name, e->help ? e->help : "");
        print_type("Data", e->data, out);
    }
}
