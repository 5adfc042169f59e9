/* SPDX-License-Identifier: MIT */
/*
 * query-blockstats and block-latency-histogram-set.  A device is an export and
 * counts what its clients asked for; a node counts what reached it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "exports/export.h"
#include "qmp/commands.h"

/* Clients' JSON parsers have their limits, and so have we: levels of parent and backing under one entry
 * of the list, and in all of a reply (a chain of n nodes would have n * n / 2 of them). */
enum { CHAIN_MAX = 200, LEVELS_MAX = 20000 };

/* ---- types ---- */

struct timed_stats {
    int64_t interval_length;
    int64_t min[IO_KINDS], max[IO_KINDS], average[IO_KINDS];
    double queue_depth[IO_KINDS];
};

#define TIMED_ROW(name_, member_, kind_, help_)                                                    \
    {                                                                                              \
        .name = name_, .type = &row_int, .required = true, .help = help_,                          \
        .offset = offsetof(struct timed_stats, member_[kind_])                                     \
    }
#define DEPTH_ROW(name_, kind_, help_)                                                             \
    {                                                                                              \
        .name = name_, .type = &row_number, .required = true, .help = help_,                       \
        .offset = offsetof(struct timed_stats, queue_depth[kind_])                                 \
    }

static const struct row timed_rows[] = {
    ROW_REQ(struct timed_stats, "interval_length", interval_length, row_int,
            .help = "The interval in s"),
    TIMED_ROW("min_rd_latency_ns", min, IO_READ, "The shortest read"),
    TIMED_ROW("max_rd_latency_ns", max, IO_READ, "The longest read"),
    TIMED_ROW("avg_rd_latency_ns", average, IO_READ, "A read on average"),
    TIMED_ROW("min_wr_latency_ns", min, IO_WRITE, "The shortest write"),
    TIMED_ROW("max_wr_latency_ns", max, IO_WRITE, "The longest write"),
    TIMED_ROW("avg_wr_latency_ns", average, IO_WRITE, "A write on average"),
    TIMED_ROW("min_zone_append_latency_ns", min, IO_ZONE_APPEND, "The shortest zone append"),
    TIMED_ROW("max_zone_append_latency_ns", max, IO_ZONE_APPEND, "The longest zone append"),
    TIMED_ROW("avg_zone_append_latency_ns", average, IO_ZONE_APPEND, "A zone append on average"),
    TIMED_ROW("min_flush_latency_ns", min, IO_FLUSH, "The shortest flush"),
    TIMED_ROW("max_flush_latency_ns", max, IO_FLUSH, "The longest flush"),
    TIMED_ROW("avg_flush_latency_ns", average, IO_FLUSH, "A flush on average"),
    DEPTH_ROW("avg_rd_queue_depth", IO_READ, "Reads under way on average"),
    DEPTH_ROW("avg_wr_queue_depth", IO_WRITE, "Writes under way on average"),
    DEPTH_ROW("avg_zone_append_queue_depth", IO_ZONE_APPEND, "Zone appends under way on average"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_timed_stats, "BlockDeviceTimedStats", struct timed_stats, timed_rows,
                       .help = "What happened in an interval of time");
static ROW_LIST_TYPE(row_timed_list, row_timed_stats);

struct latency_histogram {
    struct row_list boundaries, bins;
};

static const struct row histogram_rows[] = {
    ROW_REQ(struct latency_histogram, "boundaries", boundaries, row_uint64_list,
            .help = "Where one bin ends and the next begins, in ns"),
    ROW_REQ(struct latency_histogram, "bins", bins, row_uint64_list,
            .help = "Requests in each bin: one bin more than boundaries"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_histogram, "BlockLatencyHistogramInfo", struct latency_histogram,
                       histogram_rows, .help = "How many requests took how long");

struct device_figures {
    int64_t bytes[IO_KINDS], operations[IO_KINDS], time[IO_KINDS], merged[IO_KINDS];
    int64_t failed[IO_KINDS], invalid[IO_KINDS];
    int64_t highest_write_end, idle;
    bool has_idle, account_invalid, account_failed;
    struct row_list timed;
    struct latency_histogram *histograms[IO_KINDS];
};

#define FIGURE(name_, member_, kind_, help_)                                                       \
    {                                                                                              \
        .name = name_, .type = &row_int, .required = true, .help = help_,                          \
        .offset = offsetof(struct device_figures, member_[kind_])                                  \
    }
#define HISTOGRAM_ROW(name_, kind_, help_)                                                         \
    {                                                                                              \
        .name = name_, .type = &row_histogram, .help = help_,                                      \
        .offset = offsetof(struct device_figures, histograms[kind_])                               \
    }

static const struct row figure_rows[] = {
    FIGURE("rd_bytes", bytes, IO_READ, "Bytes read"),
    FIGURE("wr_bytes", bytes, IO_WRITE, "Bytes written"),
    FIGURE("zone_append_bytes", bytes, IO_ZONE_APPEND, "Bytes appended to zones"),
    FIGURE("unmap_bytes", bytes, IO_UNMAP, "Bytes discarded"),
    FIGURE("rd_operations", operations, IO_READ, "Reads"),
    FIGURE("wr_operations", operations, IO_WRITE, "Writes"),
    FIGURE("zone_append_operations", operations, IO_ZONE_APPEND, "Zone appends"),
    FIGURE("flush_operations", operations, IO_FLUSH, "Flushes"),
    FIGURE("unmap_operations", operations, IO_UNMAP, "Discards"),
    FIGURE("rd_total_time_ns", time, IO_READ, "Time of all reads"),
    FIGURE("wr_total_time_ns", time, IO_WRITE, "Time of all writes"),
    FIGURE("zone_append_total_time_ns", time, IO_ZONE_APPEND, "Time of all zone appends"),
    FIGURE("flush_total_time_ns", time, IO_FLUSH, "Time of all flushes"),
    FIGURE("unmap_total_time_ns", time, IO_UNMAP, "Time of all discards"),
    ROW_REQ(struct device_figures, "wr_highest_offset", highest_write_end, row_int,
            .help = "The byte after the last one ever written"),
    FIGURE("rd_merged", merged, IO_READ, "Reads that became part of another one"),
    FIGURE("wr_merged", merged, IO_WRITE, "Writes that became part of another one"),
    FIGURE("zone_append_merged", merged, IO_ZONE_APPEND, "Zone appends of that kind"),
    FIGURE("unmap_merged", merged, IO_UNMAP, "Discards of that kind"),
    { .name = "idle_time_ns",
      .type = &row_int,
      .offset = offsetof(struct device_figures, idle),
      .has = 1 + offsetof(struct device_figures, has_idle),
      .help = "Since the last request; absent before the first" },
    FIGURE("failed_rd_operations", failed, IO_READ, "Reads that failed"),
    FIGURE("failed_wr_operations", failed, IO_WRITE, "Writes that failed"),
    FIGURE("failed_zone_append_operations", failed, IO_ZONE_APPEND, "Zone appends that failed"),
    FIGURE("failed_flush_operations", failed, IO_FLUSH, "Flushes that failed"),
    FIGURE("failed_unmap_operations", failed, IO_UNMAP, "Discards that failed"),
    FIGURE("invalid_rd_operations", invalid, IO_READ, "Reads that could not be asked for"),
    FIGURE("invalid_wr_operations", invalid, IO_WRITE, "Writes that could not be asked for"),
    FIGURE("invalid_zone_append_operations", invalid, IO_ZONE_APPEND, "Zone appends of that kind"),
    FIGURE("invalid_flush_operations", invalid, IO_FLUSH, "Flushes of that kind"),
    FIGURE("invalid_unmap_operations", invalid, IO_UNMAP, "Discards of that kind"),
    ROW_REQ(struct device_figures, "account_invalid", account_invalid, row_bool,
            .help = "Invalid requests count as accesses"),
    ROW_REQ(struct device_figures, "account_failed", account_failed, row_bool,
            .help = "Failed requests count in times and as accesses"),
    ROW_REQ(struct device_figures, "timed_stats", timed, row_timed_list,
            .help = "The intervals that were asked for"),
    HISTOGRAM_ROW("rd_latency_histogram", IO_READ, "How long reads took"),
    HISTOGRAM_ROW("wr_latency_histogram", IO_WRITE, "How long writes took"),
    HISTOGRAM_ROW("zone_append_latency_histogram", IO_ZONE_APPEND, "How long zone appends took"),
    HISTOGRAM_ROW("flush_latency_histogram", IO_FLUSH, "How long flushes took"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_figures, "BlockDeviceStats", struct device_figures, figure_rows,
                       .help = "What a device or node did");

struct block_stats {
    char *device, *node_name;
    struct device_figures stats;
    struct block_stats *parent, *backing;
};

static const struct row_type row_block_stats;
static const struct row block_stats_rows[] = {
    ROW_OPT(struct block_stats, "device", device, row_str, .help = "The export's id"),
    ROW_OPT(struct block_stats, "node-name", node_name, row_str, .help = "The node's name"),
    ROW_REQ(struct block_stats, "stats", stats, row_figures, .help = "What it did"),
    ROW_OPT(struct block_stats, "parent", parent, row_block_stats,
            .help = "The same about the node that its bytes are stored in"),
    ROW_OPT(struct block_stats, "backing", backing, row_block_stats,
            .help = "The same about its backing node"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_block_stats, "BlockStats", struct block_stats, block_stats_rows,
                       .help = "Statistics of a device or node");
static ROW_LIST_TYPE(row_block_stats_list, row_block_stats);

/* ---- nodes ---- */

static void fill_counters(const struct io_counters *c, struct device_figures *f)
{
    for (unsigned k = 0; k < IO_KINDS; k++) {
        f->bytes[k] = (int64_t)c->bytes[k];
        f->operations[k] = (int64_t)c->operations[k];
        f->merged[k] = (int64_t)c->merged[k];
    }
}

static uint64_t highest_write_end(struct node *n)
{
    return atomic_load_explicit(&n->stats.highest_write_end, memory_order_relaxed);
}

static int fill_node(struct node *n, struct block_stats *s)
{
    struct io_counters c;

    node_stats_sum(n, &c);
    fill_counters(&c, &s->stats);
    s->stats.highest_write_end = (int64_t)highest_write_end(n);
    s->node_name = strdup(n->name);
    return s->node_name ? 0 : -ENOMEM;
}

/* The node that a node's own bytes are stored in, or NULL. */
static struct node *storage_of(const struct node *n)
{
    const struct edge *e;
    list_for_each (e, &n->children, in_parent) {
        if (e->role == ROLE_FILE || e->role == ROLE_FILTERED || e->role == ROLE_DATA)
            return e->child;
    }
    return NULL;
}

/* What may still be added. */
struct room {
    unsigned depth, levels;
};

static int fill_below(struct node *n, bool backing, struct room *room, struct block_stats *s);

static int fill_one_below(struct node *n, bool backing, struct room *room, struct block_stats **out)
{
    if (!room->depth || !room->levels)
        return 0;
    *out = calloc(1, sizeof(**out));
    if (!*out || fill_node(n, *out) < 0)
        return -ENOMEM;
    room->depth--;
    room->levels--;
    int r = fill_below(n, backing, room, *out);
    room->depth++;
    return r;
}

static int fill_below(struct node *n, bool backing, struct room *room, struct block_stats *s)
{
    struct node *storage = storage_of(n);
    const struct edge *e = node_child(n, "backing");
    int r = 0;

    if (storage)
        r = fill_one_below(storage, backing, room, &s->parent);
    if (r == 0 && backing && e)
        r = fill_one_below(e->child, backing, room, &s->backing);
    return r;
}

static int list_nodes(struct row_list *list)
{
    struct room room = { CHAIN_MAX, LEVELS_MAX };
    int r = 0;
    for (struct node *n = node_first(); n && r >= 0; n = node_next(n)) {
        struct block_stats *s = row_list_append(&row_block_stats_list, list);
        r = s ? fill_node(n, s) : -ENOMEM;
        if (r >= 0)
            r = fill_below(n, false, &room, s);
    }
    return r;
}

/* ---- devices ---- */

static int fill_histogram(const struct device_stats *d, enum io_kind kind,
                          struct latency_histogram **out)
{
    struct histogram h;
    int r = device_stats_histogram(d, kind, &h);

    if (r < 0 || !h.bins)
        return r;
    *out = calloc(1, sizeof(**out));
    if (!*out) {
        histogram_free(&h);
        return -ENOMEM;
    }
    /* The lists take the arrays over. */
    (*out)->boundaries = (struct row_list){ h.boundaries, h.boundary_count };
    (*out)->bins = (struct row_list){ h.bins, h.boundary_count + 1 };
    return 0;
}

static int co_fn fill_interval(const struct device_stats *d, unsigned index, struct row_list *list)
{
    struct interval_sum sum;
    int r = device_stats_interval(d, index, &sum);
    struct timed_stats *t = r < 0 ? NULL : row_list_append(&row_timed_list, list);

    if (!t)
        return r < 0 ? r : -ENOMEM;
    t->interval_length = sum.seconds;
    for (unsigned k = 0; k < IO_KINDS; k++) {
        t->min[k] = (int64_t)sum.min[k];
        t->max[k] = (int64_t)sum.max[k];
        t->average[k] = (int64_t)sum.average[k];
        t->queue_depth[k] = sum.queue_depth[k];
    }
    return 0;
}

static int co_fn fill_device(const struct device_stats *d, struct device_figures *f)
{
    struct device_sum sum;
    int r = 0;

    device_stats_sum(d, &sum);
    fill_counters(&sum.done, f);
    for (unsigned k = 0; k < IO_KINDS; k++) {
        f->failed[k] = (int64_t)sum.failed[k];
        f->invalid[k] = (int64_t)sum.invalid[k];
        f->time[k] = (int64_t)sum.time[k];
    }
    f->has_idle = sum.has_idle;
    f->idle = (int64_t)sum.idle;
    f->account_invalid = d->account_invalid;
    f->account_failed = d->account_failed;
    for (unsigned k = 0; k < IO_KINDS && r >= 0; k++)
        r = fill_histogram(d, k, &f->histograms[k]);
    for (unsigned i = 0; i < d->interval_count && r >= 0; i++)
        r = fill_interval(d, i, &f->timed);
    return r;
}

static int co_fn fill_export(struct export *x, struct room *room, struct block_stats *s)
{
    struct node *n = root_node(x->root);

    s->device = strdup(x->id);
    if (!s->device)
        return -ENOMEM;
    if (n) {
        s->stats.highest_write_end = (int64_t)highest_write_end(n);
        s->node_name = strdup(n->name);
        if (!s->node_name || fill_below(n, true, room, s) < 0)
            return -ENOMEM;
    }
    return x->root->stats ? fill_device(x->root->stats, &s->stats) : 0;
}

struct stats_args {
    bool query_nodes;
};

static const struct row stats_rows[] = {
    ROW_OPT(struct stats_args, "query-nodes", query_nodes, row_bool,
            .help = "All nodes, without what backs them, rather than all exports"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_stats_args, "query-blockstats-arg", struct stats_args, stats_rows);

/* The export that was made first after the one of that serial number, or NULL. */
static struct export *export_after(uint64_t serial)
{
    for (struct export *x = export_first(); x; x = export_next(x))
        if (x->serial > serial)
            return x;
    return NULL;
}

static int co_fn list_exports(struct row_list *list)
{
    struct room room = { CHAIN_MAX, LEVELS_MAX };
    uint64_t last = 0;
    struct export *x;
    int r = 0;

    /* They may come and go while one is asked: each is found anew, by its serial number. */
    while (r >= 0 && (x = export_after(last))) {
        struct block_stats *s = row_list_append(&row_block_stats_list, list);
        if (!s)
            return -ENOMEM;
        last = x->serial;
        export_hold(x);
        r = fill_export(x, &room, s);
        export_release(x);
    }
    return r;
}

static int co_fn query_stats(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct stats_args *a = args;
    int r = a->query_nodes ? list_nodes(result) : list_exports(result);

    (void)m;
    return r < 0 ? err_set(err, r, "Out of memory") : 0;
}

/* ---- block-latency-histogram-set ---- */

enum { HISTOGRAM_KINDS = 4 };

struct histogram_args {
    char *id;
    bool has_all, has_kind[HISTOGRAM_KINDS];
    struct row_list all, kind[HISTOGRAM_KINDS];
};

static const struct {
    enum io_kind kind;
    const char *name;
} histogram_kinds[HISTOGRAM_KINDS] = {
    { IO_READ, "read" },
    { IO_WRITE, "write" },
    { IO_ZONE_APPEND, "append write" },
    { IO_FLUSH, "flush" },
};

#define BOUNDARIES_ROW(name_, index_, help_)                                                       \
    {                                                                                              \
        .name = name_, .type = &row_uint64_list, .help = help_,                                    \
        .offset = offsetof(struct histogram_args, kind[index_]),                                   \
        .has = 1 + offsetof(struct histogram_args, has_kind[index_])                               \
    }

static const struct row histogram_args_rows[] = {
    ROW_REQ(struct histogram_args, "id", id, row_str, .help = "The export"),
    { .name = "boundaries",
      .type = &row_uint64_list,
      .offset = offsetof(struct histogram_args, all),
      .has = 1 + offsetof(struct histogram_args, has_all),
      .help = "Ends of the bins in ns, ascending, for every kind of request" },
    BOUNDARIES_ROW("boundaries-read", 0, "The same for reads alone"),
    BOUNDARIES_ROW("boundaries-write", 1, "The same for writes alone"),
    BOUNDARIES_ROW("boundaries-zap", 2, "The same for zone appends alone"),
    BOUNDARIES_ROW("boundaries-flush", 3, "The same for flushes alone"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_histogram_args, "block-latency-histogram-set-arg", struct histogram_args,
                       histogram_args_rows);

/* What is asked for one kind: @list NULL: leave it as it is. */
static const struct row_list *wanted(const struct histogram_args *a, unsigned i)
{
    return a->has_kind[i] ? &a->kind[i] : a->has_all ? &a->all : NULL;
}

/* All of it before any of it is done. */
static int check_boundaries(const struct histogram_args *a, struct err *err)
{
    for (unsigned i = 0; i < HISTOGRAM_KINDS; i++) {
        const struct row_list *list = wanted(a, i);
        const uint64_t *v = list ? list->v : NULL;
        bool good = !list || (list->n && v[0]);
        for (size_t k = 1; good && list && k < list->n; k++)
            good = v[k] > v[k - 1];
        if (!good)
            return err_set(err, -EINVAL, "Device '%s' set %s boundaries fail", a->id,
                           histogram_kinds[i].name);
    }
    return 0;
}

static int co_fn set_histograms(struct export *x, const struct histogram_args *a, struct err *err)
{
    static const struct row_list none;
    bool remove = !a->has_all;

    for (unsigned i = 0; i < HISTOGRAM_KINDS; i++)
        remove = remove && !a->has_kind[i];
    for (unsigned i = 0; i < HISTOGRAM_KINDS; i++) {
        const struct row_list *list = remove ? &none : wanted(a, i);
        if (list && device_set_histogram(x->root->stats, histogram_kinds[i].kind, list->v, list->n,
                                         err) < 0)
            return err->code;
    }
    return 0;
}

static int co_fn set_histogram(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct histogram_args *a = args;
    struct export *x = export_find(a->id);

    (void)m;
    (void)result;
    if (!x || !x->ready)
        return err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENODEV, "Device '%s' not found", a->id);
    if (check_boundaries(a, err) < 0)
        return err->code;
    export_hold(x);
    int r = set_histograms(x, a, err);
    export_release(x);
    return r;
}

const struct qmp_command qmp_stats_commands[] = {
    { .name = "query-blockstats",
      .args = &row_stats_args,
      .result = &row_block_stats_list,
      .run = query_stats,
      .help = "What exports or nodes did so far" },
    { .name = "block-latency-histogram-set",
      .args = &row_histogram_args,
      .run = set_histogram,
      .help = "Count an export's requests by how long they take; without boundaries: no longer" },
    { 0 },
};
