/* SPDX-License-Identifier: MIT */
/* What query-blockstats returned as a table. */
#include "tools/ctl-figures.h"

#include <string.h>

#include "tools/ctl-json.h"
#include "tools/ctl-table.h"

/* How the change of a figure is shown; all but AVERAGE are divided by the seconds when rates are asked for. */
enum show {
    COUNT,     /* a number */
    BYTES,     /* a size */
    AVERAGE,   /* ns for each of the operations counted by @by */
    IN_FLIGHT, /* ns of all requests together: how many there were at a time; rates only */
};

#define ALL_KINDS(before, after)                                                                   \
    {                                                                                              \
        before "rd" after, before "wr" after, before "flush" after, before "unmap" after           \
    }

static const struct column {
    const char *head, *rate_head; /* head NULL: rates only */
    enum show show;
    bool exports_only;      /* nodes do not count it */
    const char *members[5]; /* whose sum it is; ended by NULL */
    const char *by;
} columns[] = {
    { "READS", "READS/s", COUNT, false, { "rd_operations" }, NULL },
    { "READ", "READ", BYTES, false, { "rd_bytes" }, NULL },
    { "WRITES", "WRITES/s", COUNT, false, { "wr_operations" }, NULL },
    { "WRITTEN", "WRITTEN", BYTES, false, { "wr_bytes" }, NULL },
    { "FLUSHES", "FLUSHES/s", COUNT, false, { "flush_operations" }, NULL },
    { "DISCARDS", "DISCARDS/s", COUNT, false, { "unmap_operations" }, NULL },
    { "FAILED", "FAILED/s", COUNT, true, ALL_KINDS("failed_", "_operations"), NULL },
    { "REFUSED", "REFUSED/s", COUNT, true, ALL_KINDS("invalid_", "_operations"), NULL },
    { NULL, "IN-FLIGHT", IN_FLIGHT, true, ALL_KINDS("", "_total_time_ns"), NULL },
    { "READ-TIME", "READ-TIME", AVERAGE, true, { "rd_total_time_ns" }, "rd_operations" },
    { "WRITE-TIME", "WRITE-TIME", AVERAGE, true, { "wr_total_time_ns" }, "wr_operations" },
    { "FLUSH-TIME", "FLUSH-TIME", AVERAGE, true, { "flush_total_time_ns" }, "flush_operations" },
};
enum { COLUMNS = sizeof(columns) / sizeof(*columns) };

struct change {
    struct json_object *before, *after; /* BlockDeviceStats; before: NULL for nothing */
    double seconds;                     /* 0: totals */
};

static double figure(struct json_object *stats, const char *const *members)
{
    double sum = 0;

    for (; *members; members++)
        sum += json_object_get_double(ctl_get(stats, (const char *const[]){ *members, NULL }));
    return sum;
}

static double changed(const struct change *c, const char *const *members)
{
    return figure(c->after, members) - figure(c->before, members);
}

/* Counters never go back: when one did, another device has taken the name. */
static bool began_anew(const struct change *c)
{
    for (unsigned i = 0; i < COLUMNS; i++)
        if (changed(c, columns[i].members) < 0)
            return true;
    return false;
}

static void add_average(struct ctl_table *t, const struct change *c, const struct column *column)
{
    double by = changed(c, (const char *const[]){ column->by, NULL });
    double ns = changed(c, column->members);
    char text[CTL_NUMBER_MAX];

    if (by > 0)
        ctl_table_add(t, ns > 0 ? ctl_time_text(ns / by, text) : "0 ns");
    else
        ctl_table_add(t, "");
}

static void add_cell(struct ctl_table *t, const struct change *c, const struct column *column)
{
    double v = changed(c, column->members) / (c->seconds > 0 ? c->seconds : 1);
    char text[CTL_NUMBER_MAX];

    switch (column->show) {
    case COUNT: ctl_table_addf(t, "%.*f", v > 0 && v < 9.95 && c->seconds > 0, v); return;
    case BYTES:
        ctl_table_addf(t, "%s%s", ctl_size_text(v, text), c->seconds > 0 ? "/s" : "");
        return;
    case IN_FLIGHT: ctl_table_addf(t, "%.1f", v / 1e9); return;
    case AVERAGE: add_average(t, c, column); return;
    }
}

static bool is_shown(const struct column *column, bool rates, bool exports)
{
    return (rates || column->head) && (exports || !column->exports_only);
}

int ctl_figures_print(struct json_object *before, struct json_object *after, double seconds,
                      const char *key, FILE *out)
{
    static const bool right[COLUMNS + 1] = { false, true, true, true, true, true, true,
                                             true,  true, true, true, true, true };
    struct ctl_table t = { .columns = 1, .right = right, .drop_empty = true };
    bool exports = strcmp(key, "device") == 0;
    int r;

    ctl_table_add(&t, exports ? "EXPORT" : "NODE");
    for (unsigned k = 0; k < COLUMNS; k++)
        if (is_shown(&columns[k], before, exports)) {
            ctl_table_add(&t, before ? columns[k].rate_head : columns[k].head);
            t.columns++;
        }
    for (size_t i = 0; i < ctl_length(after); i++) {
        struct json_object *info = ctl_at(after, i);
        const char *name = ctl_string(ctl_get(info, (const char *const[]){ key, NULL }));
        struct json_object *old = ctl_find_near(before, i, key, name);
        struct change c = { CTL_GET(old, "stats"), CTL_GET(info, "stats"), before ? seconds : 0 };

        if (!name)
            continue;
        if (began_anew(&c))
            c.before = NULL;
        ctl_table_add(&t, name);
        for (unsigned k = 0; k < COLUMNS; k++)
            if (is_shown(&columns[k], before, exports))
                add_cell(&t, &c, &columns[k]);
    }
    r = ctl_table_print(&t, out);
    ctl_table_clear(&t);
    return r;
}
