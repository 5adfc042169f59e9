/* SPDX-License-Identifier: MIT */
/*
 * query-named-block-nodes and query-block.  What has to be asked of the file
 * system is asked first, for all nodes in one visit to a worker; the rest is
 * filled in without a yield, so a reply shows one state of the graph.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "exports/export.h"
#include "qmp/commands.h"

/* Clients' JSON parsers have their limits, and so have we: levels of backing-image under one entry of
 * the list, and in all of a reply (a chain of n images would have n * n / 2 of them). */
enum { CHAIN_MAX = 200, LEVELS_MAX = 20000 };

/* ---- types ---- */

struct snapshot_info {
    char *id, *name;
    int64_t vm_state_size, date_sec, date_nsec, vm_clock_sec, vm_clock_nsec;
};

static const struct row snapshot_rows[] = {
    ROW_REQ(struct snapshot_info, "id", id, row_str, .help = "Its number"),
    ROW_REQ(struct snapshot_info, "name", name, row_str, .help = "Its name"),
    ROW_REQ(struct snapshot_info, "vm-state-size", vm_state_size, row_int,
            .help = "Bytes of a machine's state that are kept in it"),
    ROW_REQ(struct snapshot_info, "date-sec", date_sec, row_int, .help = "When, in s since 1970"),
    ROW_REQ(struct snapshot_info, "date-nsec", date_nsec, row_int, .help = "and ns"),
    ROW_REQ(struct snapshot_info, "vm-clock-sec", vm_clock_sec, row_int,
            .help = "The machine's clock since its boot, in s"),
    ROW_REQ(struct snapshot_info, "vm-clock-nsec", vm_clock_nsec, row_int, .help = "and ns"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_snapshot_info, "SnapshotInfo", struct snapshot_info, snapshot_rows,
                       .help = "A snapshot inside of an image");
static ROW_LIST_TYPE(row_snapshots, row_snapshot_info);

struct image_info {
    char *filename, *format;
    bool dirty_flag;
    bool has_actual_size, has_cluster_size, has_encrypted, encrypted, has_compressed, compressed;
    int64_t actual_size, virtual_size, cluster_size;
    char *backing_filename, *full_backing_filename, *backing_filename_format;
    struct row_list snapshots;
    struct image_info *backing_image;
};

static const struct row_type row_image_info;
static const struct row image_rows[] = {
    ROW_REQ(struct image_info, "filename", filename, row_str, .help = "What would open it again"),
    ROW_REQ(struct image_info, "format", format, row_str, .help = "Its driver"),
    ROW_OPT(struct image_info, "dirty-flag", dirty_flag, row_bool,
            .help = "It was not closed cleanly"),
    ROW_HAS(struct image_info, "actual-size", actual_size, row_int,
            .help = "Bytes that it takes on disk"),
    ROW_REQ(struct image_info, "virtual-size", virtual_size, row_int, .help = "Its size in bytes"),
    ROW_HAS(struct image_info, "cluster-size", cluster_size, row_int, .help = "Bytes of a cluster"),
    ROW_HAS(struct image_info, "encrypted", encrypted, row_bool, .help = "Is it encrypted?"),
    ROW_HAS(struct image_info, "compressed", compressed, row_bool,
            .help = "Is all of it compressed?"),
    ROW_OPT(struct image_info, "backing-filename", backing_filename, row_str,
            .help = "Its backing file, as it names it"),
    ROW_OPT(struct image_info, "full-backing-filename", full_backing_filename, row_str,
            .help = "The same with its whole path"),
    ROW_OPT(struct image_info, "backing-filename-format", backing_filename_format, row_str,
            .help = "Format of the backing file"),
    ROW_OPT(struct image_info, "snapshots", snapshots, row_snapshots,
            .help = "Snapshots inside of it"),
    ROW_OPT(struct image_info, "backing-image", backing_image, row_image_info,
            .help = "The same about its backing file"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_image_info, "ImageInfo", struct image_info, image_rows,
                       .help = "About an image");

struct child_info {
    char *child, *node_name;
};

static const struct row child_rows[] = {
    ROW_REQ(struct child_info, "child", child, row_str,
            .help = "What it is to its parent: file, backing ..."),
    ROW_REQ(struct child_info, "node-name", node_name, row_str, .help = "The node"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_child_info, "BlockdevChild", struct child_info, child_rows,
                       .help = "A node that another one is made of");
static ROW_LIST_TYPE(row_child_infos, row_child_info);

struct cache_info {
    bool writeback, direct, no_flush;
};

static const struct row cache_rows[] = {
    ROW_REQ(struct cache_info, "writeback", writeback, row_bool,
            .help = "A write is done before it is stable"),
    ROW_REQ(struct cache_info, "direct", direct, row_bool,
            .help = "The host's page cache is gone past"),
    ROW_REQ(struct cache_info, "no-flush", no_flush, row_bool, .help = "Flushes are ignored"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_cache_info, "BlockdevCacheInfo", struct cache_info, cache_rows,
                       .help = "How a node caches");

static const char *const bitmap_status_names[] = { "active", "disabled", "frozen", NULL };
static ROW_ENUM_TYPE(row_bitmap_status, "DirtyBitmapStatus", bitmap_status_names,
                     .help = "What a dirty bitmap does");

struct dirty_info {
    char *name;
    int64_t count;
    uint32_t granularity;
    int status;
    bool recording, busy, persistent, inconsistent;
};

static const struct row dirty_rows[] = {
    ROW_OPT(struct dirty_info, "name", name, row_str, .help = "Its name"),
    ROW_REQ(struct dirty_info, "count", count, row_int, .help = "Dirty bytes"),
    ROW_REQ(struct dirty_info, "granularity", granularity, row_uint32, .help = "Bytes of one bit"),
    ROW_REQ(struct dirty_info, "status", status, row_bitmap_status, .help = "What it does"),
    ROW_REQ(struct dirty_info, "recording", recording, row_bool, .help = "It follows writes"),
    ROW_REQ(struct dirty_info, "busy", busy, row_bool, .help = "Something uses it"),
    ROW_REQ(struct dirty_info, "persistent", persistent, row_bool,
            .help = "It is kept in the image"),
    ROW_OPT(struct dirty_info, "inconsistent", inconsistent, row_bool,
            .help = "It was not kept as it should; it can only be removed"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_dirty_info, "BlockDirtyInfo", struct dirty_info, dirty_rows,
                       .help = "About a dirty bitmap");
static ROW_LIST_TYPE(row_dirty_infos, row_dirty_info);

/* Limits of throughput: all rows of one kind. */
enum limit {
    LIMIT_BPS,
    LIMIT_BPS_RD,
    LIMIT_BPS_WR,
    LIMIT_IOPS,
    LIMIT_IOPS_RD,
    LIMIT_IOPS_WR,
    LIMITS
};

struct device_info {
    char *file, *node_name, *drv, *backing_file, *group;
    struct row_list children;
    bool ro, active, encrypted, encryption_key_missing;
    int64_t backing_file_depth;
    int detect_zeroes;
    int64_t limit[LIMITS], limit_max[LIMITS], limit_length[LIMITS], iops_size;
    bool has_limit_max[LIMITS], has_limit_length[LIMITS], has_iops_size;
    struct image_info image;
    struct cache_info cache;
    uint64_t write_threshold;
    struct row_list dirty_bitmaps;
};

#define LIMIT_ROW(name_, index_, help_)                                                            \
    {                                                                                              \
        .name = name_, .type = &row_int, .offset = offsetof(struct device_info, limit[index_]),    \
        .required = true, .help = help_                                                            \
    }
#define BURST_ROW(name_, member_, index_, help_)                                                   \
    {                                                                                              \
        .name = name_, .type = &row_int, .offset = offsetof(struct device_info, member_[index_]),  \
        .has = 1 + offsetof(struct device_info, has_##member_[index_]), .help = help_              \
    }

static const struct row device_rows[] = {
    ROW_REQ(struct device_info, "file", file, row_str, .help = "What would open it again"),
    ROW_OPT(struct device_info, "node-name", node_name, row_str, .help = "The node's name"),
    ROW_REQ(struct device_info, "children", children, row_child_infos,
            .help = "The nodes that it is made of"),
    ROW_REQ(struct device_info, "ro", ro, row_bool, .help = "It is read-only"),
    ROW_REQ(struct device_info, "drv", drv, row_str, .help = "Its driver"),
    ROW_OPT(struct device_info, "backing_file", backing_file, row_str,
            .help = "Name of its backing file"),
    ROW_REQ(struct device_info, "backing_file_depth", backing_file_depth, row_int,
            .help = "Backing files below it"),
    ROW_REQ(struct device_info, "active", active, row_bool, .help = "It may be used"),
    ROW_REQ(struct device_info, "encrypted", encrypted, row_bool, .help = "It is encrypted"),
    ROW_REQ(struct device_info, "encryption_key_missing", encryption_key_missing, row_bool,
            .deprecated = true, .help = "Always false"),
    ROW_REQ(struct device_info, "detect_zeroes", detect_zeroes, row_detect_zeroes,
            .help = "What is done about zeroes that are written"),
    LIMIT_ROW("bps", LIMIT_BPS, "Limit of bytes per s"),
    LIMIT_ROW("bps_rd", LIMIT_BPS_RD, "Limit of bytes read per s"),
    LIMIT_ROW("bps_wr", LIMIT_BPS_WR, "Limit of bytes written per s"),
    LIMIT_ROW("iops", LIMIT_IOPS, "Limit of operations per s"),
    LIMIT_ROW("iops_rd", LIMIT_IOPS_RD, "Limit of reads per s"),
    LIMIT_ROW("iops_wr", LIMIT_IOPS_WR, "Limit of writes per s"),
    ROW_REQ(struct device_info, "image", image, row_image_info, .help = "About the image"),
    BURST_ROW("bps_max", limit_max, LIMIT_BPS, "The same in a burst"),
    BURST_ROW("bps_rd_max", limit_max, LIMIT_BPS_RD, "The same in a burst"),
    BURST_ROW("bps_wr_max", limit_max, LIMIT_BPS_WR, "The same in a burst"),
    BURST_ROW("iops_max", limit_max, LIMIT_IOPS, "The same in a burst"),
    BURST_ROW("iops_rd_max", limit_max, LIMIT_IOPS_RD, "The same in a burst"),
    BURST_ROW("iops_wr_max", limit_max, LIMIT_IOPS_WR, "The same in a burst"),
    BURST_ROW("bps_max_length", limit_length, LIMIT_BPS, "Length of the burst in s"),
    BURST_ROW("bps_rd_max_length", limit_length, LIMIT_BPS_RD, "Length of the burst in s"),
    BURST_ROW("bps_wr_max_length", limit_length, LIMIT_BPS_WR, "Length of the burst in s"),
    BURST_ROW("iops_max_length", limit_length, LIMIT_IOPS, "Length of the burst in s"),
    BURST_ROW("iops_rd_max_length", limit_length, LIMIT_IOPS_RD, "Length of the burst in s"),
    BURST_ROW("iops_wr_max_length", limit_length, LIMIT_IOPS_WR, "Length of the burst in s"),
    ROW_HAS(struct device_info, "iops_size", iops_size, row_int,
            .help = "Bytes that count as one operation"),
    ROW_OPT(struct device_info, "group", group, row_str, .help = "Its throttle group"),
    ROW_REQ(struct device_info, "cache", cache, row_cache_info, .help = "How it caches"),
    ROW_REQ(struct device_info, "write_threshold", write_threshold, row_uint64,
            .help = "Byte past which a write sends BLOCK_WRITE_THRESHOLD; 0: none"),
    ROW_OPT(struct device_info, "dirty-bitmaps", dirty_bitmaps, row_dirty_infos,
            .help = "Its dirty bitmaps"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_device_info, "BlockDeviceInfo", struct device_info, device_rows,
                       .help = "About a node");
static ROW_LIST_TYPE(row_device_infos, row_device_info);

struct block_info {
    char *device, *type;
    bool removable, locked, has_tray_open, tray_open, has_io_status;
    int io_status;
    struct device_info *inserted;
    struct row_list dirty_bitmaps;
};

static const struct row block_rows[] = {
    ROW_REQ(struct block_info, "device", device, row_str, .help = "The export's id"),
    ROW_REQ(struct block_info, "type", type, row_str, .help = "Always \"unknown\""),
    ROW_REQ(struct block_info, "removable", removable, row_bool,
            .help = "Its medium can be changed"),
    ROW_REQ(struct block_info, "locked", locked, row_bool, .help = "It has clients"),
    ROW_OPT(struct block_info, "inserted", inserted, row_device_info, .help = "Its node"),
    ROW_HAS(struct block_info, "tray_open", tray_open, row_bool, .help = "Its tray is open"),
    ROW_HAS(struct block_info, "io-status", io_status, row_io_status,
            .help = "Whether it has stopped after an error, where errors can stop it"),
    ROW_OPT(struct block_info, "dirty-bitmaps", dirty_bitmaps, row_dirty_infos, .deprecated = true,
            .help = "Dirty bitmaps of its node"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_block_info, "BlockInfo", struct block_info, block_rows,
                       .help = "About an export, seen as a device");
static ROW_LIST_TYPE(row_block_infos, row_block_info);

/* ---- a picture of the graph ---- */

struct seen {
    struct node *node; /* to be compared only: it may be gone */
    int64_t allocated; /* bytes on disk; negative: unknown */
};

struct picture {
    struct seen *nodes; /* sorted by address */
    size_t count;
    unsigned levels; /* that a reply may still have */
};

static int by_address(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    return (x->node > y->node) - (x->node < y->node);
}

static int ask_files(void *arg)
{
    struct picture *p = arg;
    for (size_t i = 0; i < p->count; i++) {
        struct node *n = p->nodes[i].node;
        p->nodes[i].allocated = n->driver->allocated_size ? n->driver->allocated_size(n) : -1;
    }
    return 0;
}

static int co_fn picture_take(struct picture *p, struct err *err)
{
    size_t count = 0;
    bool ask = false;

    for (struct node *n = node_first(); n; n = node_next(n))
        count++;
    *p = (struct picture){ .nodes = calloc(count ? count : 1, sizeof(*p->nodes)),
                           .levels = LEVELS_MAX };
    if (!p->nodes)
        return err_set(err, -ENOMEM, "Out of memory");
    for (struct node *n = node_first(); n; n = node_next(n)) {
        node_hold(n);
        p->nodes[p->count++].node = n;
        ask = ask || n->driver->allocated_size;
    }
    qsort(p->nodes, p->count, sizeof(*p->nodes), by_address);
    if (ask)
        ring_block(ask_files, p);
    for (size_t i = 0; i < p->count; i++)
        node_release(p->nodes[i].node);
    return 0;
}

static void picture_drop(struct picture *p)
{
    free(p->nodes);
}

/* Bytes on disk of a node and of what it stores its bytes in; negative: unknown. */
static int64_t allocated(const struct picture *p, struct node *n)
{
    for (;;) {
        const struct seen key = { .node = n };
        const struct seen *s = bsearch(&key, p->nodes, p->count, sizeof(*p->nodes), by_address);
        struct edge *e, *below = NULL;

        if (s && s->allocated >= 0)
            return s->allocated;
        if (n->driver->allocated_size)
            return -1;
        list_for_each (e, &n->children, in_parent)
            if (e->role == ROLE_FILE || e->role == ROLE_FILTERED)
                below = e;
        if (!below)
            return -1;
        n = below->child;
    }
}

/* ---- filling in ---- */

static struct node *backing_of(const struct node *n)
{
    const struct edge *e = node_child(n, "backing");
    return e ? e->child : NULL;
}

static int fill_image(const struct picture *p, struct node *n, struct image_info *info)
{
    struct node *backing = backing_of(n);

    info->filename = node_filename(n);
    info->format = strdup(n->driver->name);
    info->virtual_size = (int64_t)node_size(n);
    info->actual_size = allocated(p, n);
    info->has_actual_size = info->actual_size >= 0;
    if (backing) {
        info->backing_filename = node_filename(backing);
        info->full_backing_filename = node_filename(backing);
        info->backing_filename_format = strdup(backing->driver->name);
        if (!info->backing_filename || !info->full_backing_filename ||
            !info->backing_filename_format)
            return -ENOMEM;
    }
    return info->filename && info->format ? 0 : -ENOMEM;
}

/* The image and, unless @flat, those that back it. */
static int fill_images(struct picture *p, struct node *n, bool flat, struct image_info *info)
{
    for (unsigned depth = 1;; depth++) {
        int r = fill_image(p, n, info);
        n = backing_of(n);
        if (r < 0 || flat || !n || depth == CHAIN_MAX || !p->levels)
            return r;
        p->levels--;
        info = info->backing_image = calloc(1, sizeof(*info));
        if (!info)
            return -ENOMEM;
    }
}

static int fill_children(const struct node *n, struct row_list *list)
{
    const struct edge *e;

    list_for_each (e, &n->children, in_parent) {
        struct child_info *info = row_list_append(&row_child_infos, list);

        if (!info)
            return -ENOMEM;
        info->child = strdup(e->name);
        info->node_name = strdup(e->child->name);
        if (!info->child || !info->node_name)
            return -ENOMEM;
    }
    return 0;
}

static int fill_device(struct picture *p, struct node *n, bool flat, struct device_info *info)
{
    struct node *backing = backing_of(n);

    info->file = node_filename(n);
    info->node_name = strdup(n->name);
    info->drv = strdup(n->driver->name);
    if (backing)
        info->backing_file = node_filename(backing);
    if (!info->file || !info->node_name || !info->drv || (backing && !info->backing_file) ||
        fill_children(n, &info->children) < 0)
        return -ENOMEM;
    for (; backing; backing = backing_of(backing))
        info->backing_file_depth++;
    info->ro = n->read_only;
    info->active = true;
    info->detect_zeroes = n->options.detect_zeroes;
    info->cache = (struct cache_info){ true, n->options.direct, n->options.no_flush };
    info->write_threshold = atomic_load(&n->write_threshold);
    return fill_images(p, n, flat, &info->image);
}

/* ---- commands ---- */

struct nodes_args {
    bool flat;
};

static const struct row nodes_rows[] = {
    ROW_OPT(struct nodes_args, "flat", flat, row_bool,
            .help = "Leave out what is said of backing files in a node's image"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_nodes_args, "query-named-block-nodes-arg", struct nodes_args,
                       nodes_rows);

static int co_fn query_nodes(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct nodes_args *a = args;
    struct picture p;
    int r = picture_take(&p, err);

    (void)m;
    if (r < 0)
        return r;
    for (struct node *n = node_first(); n && r >= 0; n = node_next(n)) {
        struct device_info *info = row_list_append(&row_device_infos, result);
        r = info ? fill_device(&p, n, a->flat, info) : -ENOMEM;
    }
    picture_drop(&p);
    return r < 0 ? err_set(err, r, "Out of memory") : 0;
}

static int fill_block(struct picture *p, struct export *x, struct block_info *info)
{
    struct node *n = root_node(x->root);

    info->device = strdup(x->id);
    info->type = strdup("unknown");
    info->locked = x->driver->in_use(x);
    info->has_io_status = x->policy.stops;
    info->io_status = x->policy.status;
    if (!info->device || !info->type)
        return -ENOMEM;
    if (!n)
        return 0;
    info->inserted = calloc(1, sizeof(*info->inserted));
    return info->inserted ? fill_device(p, n, false, info->inserted) : -ENOMEM;
}

static int co_fn query_block(struct monitor *m, void *args, void *result, struct err *err)
{
    struct picture p;
    int r = picture_take(&p, err);

    (void)m;
    (void)args;
    if (r < 0)
        return r;
    for (struct export *x = export_first(); x && r >= 0; x = export_next(x)) {
        struct block_info *info = row_list_append(&row_block_infos, result);
        r = info ? fill_block(&p, x, info) : -ENOMEM;
    }
    picture_drop(&p);
    return r < 0 ? err_set(err, r, "Out of memory") : 0;
}

const struct qmp_command qmp_query_commands[] = {
    { .name = "query-named-block-nodes",
      .args = &row_nodes_args,
      .result = &row_device_infos,
      .run = query_nodes,
      .help = "All nodes, oldest first" },
    { .name = "query-block",
      .result = &row_block_infos,
      .run = query_block,
      .help = "All exports, seen as devices" },
    { 0 },
};
