/* SPDX-License-Identifier: MIT */
/*
 * The table of commands, and how one is carried out: arguments are parsed and
 * checked whole before the command sees them, its result is printed from its
 * rows.  The table is sorted by name, so that lists come out the same always.
 */
#include "qmp/qmp.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qmp/commands.h"

static const struct qmp_command **sorted; /* owned */
static size_t count;

/* ---- the table ---- */

static int by_name(const void *a, const void *b)
{
    const struct qmp_command *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static size_t position(const char *name)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(sorted[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct qmp_command *qmp_find(const char *name)
{
    size_t i = position(name);
    return i < count && !strcmp(sorted[i]->name, name) ? sorted[i] : NULL;
}

const struct qmp_command *qmp_next(const struct qmp_command *c)
{
    size_t i = c ? position(c->name) + 1 : 0;
    return i < count ? sorted[i] : NULL;
}

int qmp_register(const struct qmp_command *table, struct err *err)
{
    size_t n = 0;
    while (table[n].name) {
        if (qmp_find(table[n].name))
            return err_set(err, -EEXIST, "The command %s is registered twice", table[n].name);
        n++;
    }
    const struct qmp_command **more = reallocarray(sorted, count + n, sizeof(*more));
    if (!more)
        return err_set(err, -ENOMEM, "Out of memory");
    sorted = more;
    for (size_t i = 0; i < n; i++)
        sorted[count++] = &table[i];
    qsort(sorted, count, sizeof(*sorted), by_name);
    return 0;
}

int qmp_register_all(struct err *err)
{
    for (size_t i = 0; qmp_families[i]; i++)
        if (qmp_register(qmp_families[i], err) < 0)
            return err->code;
    qmp_events_start();
    return 0;
}

void qmp_unregister_all(void)
{
    qmp_events_stop();
    free(sorted);
    sorted = NULL;
    count = 0;
}

/* ---- carrying out ---- */

static int print_result(const struct qmp_command *c, const void *result, struct json_object **out,
                        struct err *err)
{
    *out = c->flags & QMP_PRINTED ? json_object_get(*(struct json_object *const *)result)
           : c->result            ? row_print(c->result, result)
                                  : json_object_new_object();
    /* Any JSON may be null. */
    if (!*out && !(c->result && c->result->kind == ROW_ANY))
        return err_set(err, -ENOMEM, "Out of memory");
    return 0;
}

/* With the arguments parsed. */
static int co_fn run(const struct qmp_command *c, struct monitor *m, void *args,
                     struct json_object **out, struct err *err)
{
    const struct row_type *type = c->flags & QMP_PRINTED ? &row_any : c->result;
    autofree void *result = calloc(1, type ? type->size : 1);
    if (!result)
        return err_set(err, -ENOMEM, "Out of memory");
    int r = c->run(m, args, result, err);
    if (r >= 0)
        r = print_result(c, result, out, err);
    if (type)
        row_release(type, result);
    return r < 0 ? r : 0;
}

static const struct row_type no_arguments = { .kind = ROW_STRUCT,
                                              .name = "q_empty",
                                              .rows = (const struct row[]){ ROW_END } };

int co_fn qmp_execute(const struct qmp_command *c, struct monitor *m, struct json_object *args,
                      struct json_object **out, struct err *err)
{
    const struct row_type *type = c->args ? c->args : &no_arguments;
    struct json_object *given = args ? json_object_get(args) : json_object_new_object();
    autofree void *parsed = calloc(1, type->size ? type->size : 1);
    int r;

    if (!given || !parsed)
        r = err_set(err, -ENOMEM, "Out of memory");
    else if (c->adapt && (r = c->adapt(&given, err)) < 0)
        ;
    else
        r = row_parse(type, given, parsed, err);
    json_object_put(given);
    if (r < 0)
        return r;
    r = run(c, m, parsed, out, err);
    row_release(type, parsed);
    return r;
}
