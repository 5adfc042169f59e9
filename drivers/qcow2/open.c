/* SPDX-License-Identifier: MIT */
/*
 * The driver qcow2: options, opening and closing, the table.
 *
 * Children are opened before tables are read: a chain of images that name each
 * other in a circle then ends at the graph's limit with nothing read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/corruption.h"
#include "block/io.h"
#include "block/named.h"
#include "drivers/qcow2/qcow2.h"
#include "uring/ring.h"

enum {
    L2_CACHE_DEFAULT = 32 << 20, /* bytes, if the image has so many */
    SLICE_DEFAULT = 4096,        /* bytes; not more than a cluster */
    SLICE_MIN = 512,
    CLEAN_DEFAULT = 600, /* s */
};
#define CACHE_MAX (1ULL << 40) /* bytes */

/* ---- options ---- */

struct qcow2_options {
    struct generic_cow_format_options base;
    struct row_choice data_file;
    bool has_cache_size;
    int64_t cache_size;
    bool has_l2_cache_size;
    int64_t l2_cache_size;
    bool has_l2_cache_entry_size;
    int64_t l2_cache_entry_size;
    bool has_pass_discard_request, pass_discard_request;
    bool has_pass_discard_other, pass_discard_other;
    bool has_cache_clean_interval;
    int64_t cache_clean_interval;
};

static const struct row qcow2_rows[] = {
    ROW_BASE(struct qcow2_options, base, row_generic_cow_format_options),
    ROW_OPT(struct qcow2_options, "data-file", data_file, row_blockdev_ref,
            .help = "Where the data lie, of an image with an external data file; default: the file "
                    "that its header names"),
    ROW_HAS(struct qcow2_options, "cache-size", cache_size, row_int,
            .help = "Memory for all metadata caches together, in bytes"),
    ROW_HAS(struct qcow2_options, "l2-cache-size", l2_cache_size, row_int,
            .help = "Memory for the cache of L2 tables, in bytes; default: enough for the whole "
                    "disk, but at most 32 MiB"),
    ROW_HAS(struct qcow2_options, "l2-cache-entry-size", l2_cache_entry_size, row_int,
            .help =
                "How much of an L2 table is read and cached at a time, in bytes: a power of two "
                "between 512 and the cluster size; default 4096"),
    ROW_HAS(struct qcow2_options, "pass-discard-request", pass_discard_request, row_bool,
            .help =
                "Whether the file may forget what a client discards; default: if discard=unmap"),
    ROW_HAS(struct qcow2_options, "pass-discard-other", pass_discard_other, row_bool,
            .help = "Whether the file may forget clusters that come free in other ways; default "
                    "false"),
    ROW_HAS(struct qcow2_options, "cache-clean-interval", cache_clean_interval, row_int,
            .help = "After how many seconds without use memory of the caches is given back; 0: "
                    "never; default 600"),
    ROW_END
};
static ROW_STRUCT_TYPE(qcow2_options_type, "BlockdevOptionsQcow2", struct qcow2_options, qcow2_rows,
                       .since = "0.1", .help = "An image in the qcow2 format");

/* What the caches may use, and how it is cut. */
struct cache_plan {
    uint64_t bytes;
    uint32_t slice;
};

static int plan_cache(const struct qcow2 *q, const struct qcow2_options *o, struct cache_plan *plan,
                      struct err *err)
{
    uint64_t cluster = qcow2_cluster_size(&q->header);

    plan->slice = SLICE_DEFAULT < cluster ? SLICE_DEFAULT : (uint32_t)cluster;
    plan->bytes = L2_CACHE_DEFAULT;
    if (o->cache_size < 0 || o->l2_cache_size < 0)
        return err_set(err, -EINVAL, "Parameter '%s' expects a non-negative number below 2^64",
                       o->cache_size < 0 ? "cache-size" : "l2-cache-size");
    if (o->has_cache_size && o->has_l2_cache_size && o->l2_cache_size > o->cache_size)
        return err_set(err, -EINVAL, "l2-cache-size may not exceed cache-size");
    if (o->has_l2_cache_size || o->has_cache_size)
        plan->bytes = (uint64_t)(o->has_l2_cache_size ? o->l2_cache_size : o->cache_size);
    if (plan->bytes > CACHE_MAX)
        return err_set(err, -EINVAL, "L2 cache size too big");
    if (!o->has_l2_cache_entry_size)
        return 0;
    int64_t slice = o->l2_cache_entry_size;
    if (slice < SLICE_MIN || (uint64_t)slice > cluster || slice & (slice - 1))
        return err_set(err, -EINVAL,
                       "L2 cache entry size must be a power of two between %d and the cluster size "
                       "(%" PRIu64 ")",
                       SLICE_MIN, cluster);
    plan->slice = (uint32_t)slice;
    return 0;
}

/* ---- the header ---- */

static int co_fn read_header(struct qcow2 *q, struct err *err)
{
    struct node *file = q->file->child;
    uint64_t size = node_size(file), length = sizeof(struct qcow2_disk_header), area;
    struct qcow2_disk_header first = { 0 };

    if (length > size)
        length = size;
    int r = io_read_control(file, 0, &first, length);
    if (r < 0)
        return err_set_errno(err, r, "Could not read qcow2 header");
    if (qcow2_header_area(&first, length, size, &area, err) < 0)
        return err->code;
    autofree void *bytes = malloc(area);
    if (!bytes)
        return err_set(err, -ENOMEM, "out of memory");
    r = io_read_control(file, 0, bytes, area);
    if (r < 0)
        return err_set_errno(err, r, "Could not read qcow2 header");
    return qcow2_header_decode(bytes, area, &q->header, err);
}

/* Why an image can't be written, or NULL. */
static const char *why_read_only(const struct qcow2_header *h)
{
    if (h->incompatible & QCOW2_CORRUPT)
        return "Image is corrupt; cannot be opened read/write";
    if (h->incompatible & QCOW2_DIRTY)
        return "The image was not closed and its refcounts are out of date: repair it with "
               "qemu-img "
               "check -r all, or say read-only=on";
    if (h->incompatible & QCOW2_EXTENDED_L2)
        return "Images with subclusters can only be read by this version: say read-only=on";
    return NULL;
}

static int check_supported(struct node *n, const struct qcow2 *q, struct err *err)
{
    const struct qcow2_header *h = &q->header;

    if (h->crypt != QCOW2_PLAIN)
        return err_set(err, -ENOTSUP, "The image is encrypted (%s), which this version cannot read",
                       h->crypt == QCOW2_AES ? "AES" : "LUKS");
    const char *why = why_read_only(h);
    return why ? node_fall_back_to_read_only(n, why, err) : 0;
}

/* A guess was made from what a client may have written: it shall not lead to other files. */
static int check_guess(const struct node *n, const struct qcow2_header *h, struct err *err)
{
    const char *name = h->backing_file ? h->backing_file : h->data_file;

    if (!n->options.guessed || !name)
        return 0;
    return err_set(err, -EPERM,
                   "The image looks like qcow2 and names '%s' as its %s, which is not opened on a "
                   "guess; say --format qcow2 if that is meant",
                   name, h->backing_file ? "backing file" : "data file");
}

/* ---- children ---- */

/* A child that the header names. */
static int co_fn open_named(struct node *n, const char *child, enum edge_role role,
                            const char *name, const char *format, struct edge **out,
                            struct err *err)
{
    const struct qcow2 *q = n->state;
    const struct driver *driver = format ? driver_by_name(format) : NULL;
    struct row_choice choice;

    if (driver && driver->kind == DRIVER_PROTOCOL)
        format = NULL; /* "file" as a format: the bytes as they are */
    if (named_file(name, format, q->file->child, &choice, err) < 0)
        return err->code;
    node_open_child(n, child, role, &choice, out, err);
    row_release(&row_blockdev_ref, &choice);
    return err->code;
}

static int co_fn open_data_file(struct node *n, const struct qcow2_options *o, struct err *err)
{
    struct qcow2 *q = n->state;
    const char *name = q->header.data_file;

    q->data = q->file;
    if (!qcow2_is_external(q)) {
        if (o->data_file.type)
            return err_set(err, -EINVAL,
                           "'data-file' can only be set for images with an external data file");
        return 0;
    }
    if (o->data_file.type)
        return node_open_child(n, "data-file", ROLE_DATA, &o->data_file, &q->data, err);
    if (!name)
        return err_set(err, -EINVAL, "'data-file' is required for this image");
    /* A name in a header is a path; more than that only the user may say. */
    if (!strncmp(name, "json:", 5))
        return err_set(err, -EPERM,
                       "The image names its data file as '%s'; say it with the option 'data-file'",
                       name);
    if (open_named(n, "data-file", ROLE_DATA, name, NULL, &q->data, err) < 0)
        err_prefix(err, "Could not open data file '%s'", name);
    return err->code;
}

static int co_fn open_named_backing(struct node *n, struct err *err)
{
    struct qcow2 *q = n->state;
    const char *name = q->header.backing_file, *format = q->header.backing_format;

    if (!format && strncmp(name, "json:", 5))
        return err_set(err, -EINVAL,
                       "The image names its backing file '%s' without a format, which is not "
                       "guessed; say it with the option 'backing'",
                       name);
    if (open_named(n, "backing", ROLE_BACKING, name, format, &q->backing, err) < 0)
        err_prefix(err, "Could not open backing file '%s'", name);
    return err->code;
}

static int co_fn open_backing(struct node *n, const struct qcow2_options *o, struct err *err)
{
    struct qcow2 *q = n->state;
    const struct row_choice *said = &o->base.backing;

    if (!said->type)
        return q->header.backing_file ? open_named_backing(n, err) : 0;
    if (said->type == &row_null || (said->type == &row_str && !**(char **)said->value))
        return 0;
    return node_open_child(n, "backing", ROLE_BACKING, said, &q->backing, err);
}

/* ---- tables ---- */

static int co_fn read_l1(struct qcow2 *q, struct err *err)
{
    const struct qcow2_header *h = &q->header;
    unsigned shift = 2 * q->cluster_bits - q->entry_bits;
    uint64_t size = node_size(q->file->child), end;

    q->l1_count = (h->size >> shift) + (h->size & ((1ULL << shift) - 1) ? 1 : 0);
    end = h->l1_offset + q->l1_count * sizeof(be64);
    if (!q->l1_count)
        return 0;
    if (!h->l1_offset || end > size)
        return err_set(err, -EINVAL,
                       "Active L1 table (bytes %" PRIu64 " to %" PRIu64
                       ") does not lie within the file of %" PRIu64 " bytes",
                       h->l1_offset, end, size);
    q->l1 = calloc(q->l1_count, sizeof(*q->l1));
    if (!q->l1)
        return err_set(err, -ENOMEM, "out of memory");
    int r = io_read_control(q->file->child, h->l1_offset, q->l1, q->l1_count * sizeof(be64));
    if (r < 0)
        return err_set_errno(err, r, "Could not read L1 table");
    for (uint64_t i = 0; i < q->l1_count; i++)
        q->l1[i] = be64toh(q->l1[i]);
    return 0;
}

static int co_fn read_tables(struct qcow2 *q, const struct qcow2_options *o, struct err *err)
{
    struct cache_plan plan;

    if (plan_cache(q, o, &plan, err) < 0 || read_l1(q, err) < 0)
        return err->code;
    uint64_t all = q->l1_count << q->cluster_bits;
    if (qcow2_cache_init(&q->l2, plan.bytes, plan.slice, all) < 0)
        return err_set(err, -ENOMEM, "out of memory for the cache of L2 tables");
    return 0;
}

/* ---- giving memory back ---- */

static void clean_later(struct qcow2 *q)
{
    if (q->clean_interval && !q->closing)
        (void)timer_set(&q->clean_timer, ring_now() + q->clean_interval);
}

static void co_fn clean(void *arg)
{
    struct qcow2 *q = arg;

    qcow2_cache_clean(&q->l2);
    q->cleaning = false;
    if (q->closer)
        co_wake(q->closer);
    clean_later(q);
}

static void clean_due(struct timer *timer)
{
    struct qcow2 *q = container_of(timer, struct qcow2, clean_timer);

    q->cleaning = true;
    if (ring_spawn(ring_control(), clean, q, "clean a qcow2 cache") == 0)
        return;
    q->cleaning = false;
    clean_later(q);
}

static void co_fn stop_cleaning(struct qcow2 *q)
{
    q->closing = true;
    timer_cancel(&q->clean_timer);
    if (q->cleaning) {
        q->closer = co_self();
        co_yield ();
    }
}

/* ---- opening and closing ---- */

static void state_free(struct qcow2 *q)
{
    qcow2_cache_free(&q->l2);
    qcow2_unpacker_free(q);
    free(q->l1);
    q->l1 = NULL;
    qcow2_header_release(&q->header);
}

/* Autoclear features are ones that writers must know: what they describe is not up to date any more. */
static int co_fn start_writing(struct qcow2 *q, struct err *err)
{
    uint32_t alignment = q->file->child->limits.alignment;

    q->granule = alignment > SLICE_MIN ? alignment : SLICE_MIN;
    if (q->granule > q->l2.slice_bytes)
        return err_set(err, -EINVAL,
                       "Tables are written in pieces of %" PRIu32
                       " bytes, but the file takes blocks of "
                       "%" PRIu32 " only",
                       q->l2.slice_bytes, alignment);
    uint64_t keep = q->header.autoclear & QCOW2_RAW_DATA;
    if (qcow2_writer_open(q, err) < 0 || q->header.autoclear == keep)
        return err->code;
    if (q->header.bitmap_count)
        log_warning("node '%s': the dirty bitmaps in the image are not kept up to date from now on",
                    q->node->name);
    be64 disk = put_be64(keep);
    int r = qcow2_put_header(q, offsetof(struct qcow2_disk_header, autoclear), &disk, sizeof(disk));
    if (r < 0)
        return err_set_errno(err, r, "Could not update the header");
    q->header.autoclear = keep;
    return 0;
}

static int co_fn open_all(struct node *n, const struct qcow2_options *o, struct err *err)
{
    struct qcow2 *q = n->state;

    if (read_header(q, err) < 0 || check_guess(n, &q->header, err) < 0 ||
        check_supported(n, q, err) < 0)
        return err->code;
    q->cluster_bits = q->header.cluster_bits;
    q->entry_bits = qcow2_is_extended(q) ? 4 : 3;
    q->subcluster_size = (uint32_t)qcow2_cluster_size(&q->header) / (qcow2_is_extended(q) ? 32 : 1);
    qcow2_unpacker_init(q);
    if (open_data_file(n, o, err) < 0 || open_backing(n, o, err) < 0)
        return err->code;
    if (read_tables(q, o, err) < 0 || n->read_only)
        return err->code;
    return start_writing(q, err);
}

static void set_limits(struct node *n, const struct qcow2 *q)
{
    uint64_t cluster = qcow2_cluster_size(&q->header);

    n->limits.alignment = q->data->child->limits.alignment;
    n->limits.transfer_best = n->limits.zero_alignment = n->limits.discard_alignment = cluster;
    n->limits.zero_fast = n->limits.zero_unmaps = q->header.version >= 3;
}

static int co_fn qcow2_open(struct node *n, const void *options, struct err *err)
{
    const struct qcow2_options *o = options;
    struct qcow2 *q = n->state;

    q->node = n;
    if (o->cache_clean_interval < 0 || o->cache_clean_interval > UINT32_MAX)
        return err_set(err, -EINVAL, "Cache clean interval too big");
    if (node_open_child(n, "file", ROLE_FILE, &o->base.base.file, &q->file, err) < 0)
        return err->code;
    if (open_all(n, o, err) < 0) {
        free(q->writer.table);
        state_free(q);
        return err_prefix(err, "Could not open '%s'", node_label(q->file->child));
    }
    atomic_store_explicit(&n->size, q->header.size, memory_order_relaxed);
    set_limits(n, q);
    q->pass_request =
        o->has_pass_discard_request ? o->pass_discard_request : n->options.discard == DISCARD_UNMAP;
    q->pass_other = o->pass_discard_other;
    q->clean_interval =
        (o->has_cache_clean_interval ? (uint64_t)o->cache_clean_interval : CLEAN_DEFAULT) *
        1000000000;
    q->clean_timer.fn = clean_due;
    clean_later(q);
    return 0;
}

static void co_fn qcow2_close(struct node *n)
{
    struct qcow2 *q = n->state;

    stop_cleaning(q);
    qcow2_writer_close(q);
    state_free(q);
}

int qcow2_corrupt(struct qcow2 *q, int64_t offset, const char *fmt, ...)
{
    autofree char *msg = NULL;
    va_list ap;

    if (atomic_exchange(&q->told_corrupt, true))
        return -EIO;
    va_start(ap, fmt);
    if (vasprintf(&msg, fmt, ap) < 0)
        msg = NULL;
    va_end(ap);
    corruption_report(q->node, false, offset, -1, msg ? msg : "out of memory to say what");
    return -EIO;
}

int co_fn qcow2_corrupt_fatal(struct qcow2 *q, int64_t offset, const char *msg)
{
    if (!atomic_exchange(&q->writable, false))
        return -EIO;
    be64 bits = put_be64(q->header.incompatible | QCOW2_CORRUPT);
    if (q->header.version >= 3)
        (void)qcow2_put_header(q, offsetof(struct qcow2_disk_header, incompatible), &bits,
                               sizeof(bits));
    if (!atomic_exchange(&q->told_corrupt, true))
        corruption_report(q->node, true, offset, -1, msg);
    return -EIO;
}

/* None decides which bytes are read; children always belong into a name. */
static const char *const qcow2_telling[] = { NULL };

extern const struct driver driver_qcow2;
const struct driver driver_qcow2 = {
    .name = "qcow2",
    .kind = DRIVER_FORMAT,
    .flags = DRIVER_VECTORS | DRIVER_HAS_BACKING,
    .options = &qcow2_options_type,
    .state_size = sizeof(struct qcow2),
    .open = qcow2_open,
    .close = qcow2_close,
    .read = qcow2_read,
    .write = qcow2_write,
    .zero = qcow2_zero,
    .discard = qcow2_discard,
    .resize = qcow2_resize,
    .status = qcow2_status,
    .map = qcow2_map,
    .telling = qcow2_telling,
};
