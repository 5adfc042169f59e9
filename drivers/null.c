/* SPDX-License-Identifier: MIT */
/*
 * null-co and null-aio: a disk without storage.  Writes are forgotten; reads give
 * zeroes, whether promised by read-zeroes or not, because leaving the buffer as
 * it is would show one client another's data.  The two differ in name only.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/node.h"
#include "uring/ring.h"
#include "uring/sync.h"

enum { SECTOR = 512 };

#define NULL_SIZE_DEFAULT ((uint64_t)1 << 30)

struct null_options {
    bool has_size;
    int64_t size;
    uint64_t latency_ns;
    bool has_read_zeroes, read_zeroes;
};

struct null {
    uint64_t latency;      /* ns */
    struct co_cond yanked; /* where requests wait for that long */
    bool read_zeroes;
};

static const struct row null_rows[] = {
    ROW_HAS(struct null_options, "size", size, row_int,
            .help = "Size of the disk in bytes, rounded up to 512; default 1 GiB"),
    ROW_OPT(struct null_options, "latency-ns", latency_ns, row_uint64,
            .help = "How long a request takes, in nanoseconds; default 0"),
    ROW_HAS(struct null_options, "read-zeroes", read_zeroes, row_bool,
            .help = "Promise that reads give zeroes, and say so in block status; default false"),
    ROW_END
};
static ROW_STRUCT_TYPE(null_options_type, "BlockdevOptionsNull", struct null_options, null_rows,
                       .since = "0.1", .help = "A disk without storage");

static int null_check(const struct null_options *options, struct err *err)
{
    if (options->has_size && options->size < 0)
        return err_set(err, -EINVAL, "Parameter 'size' expects a non-negative number below 2^64");
    if (options->latency_ns > INT64_MAX)
        return err_set(err, -EINVAL, "latency-ns is invalid");
    return 0;
}

static int co_fn null_open(struct node *n, const void *options, struct err *err)
{
    const struct null_options *o = options;
    struct null *s = n->state;
    if (null_check(o, err) < 0)
        return err->code;
    uint64_t size = o->has_size ? (uint64_t)o->size : NULL_SIZE_DEFAULT;
    size = (size + SECTOR - 1) / SECTOR * SECTOR;
    atomic_store_explicit(&n->size, size, memory_order_relaxed);
    co_cond_init(&s->yanked);
    s->latency = o->latency_ns;
    s->read_zeroes = o->read_zeroes;
    n->limits.zero_fast = true;
    n->limits.zero_unmaps = true;
    n->limits.fua = true;
    return 0;
}

static int co_fn null_wait(const struct node *n)
{
    struct null *s = n->state;
    if (!s->latency)
        return 0;
    return co_cond_wait_until(&s->yanked, NULL, ring_now() + s->latency) == -ETIMEDOUT ? 0 : -EIO;
}

static void null_yank(struct node *n)
{
    struct null *s = n->state;
    co_cond_wake_all(&s->yanked);
}

static int co_fn null_read(struct node *n, struct operation *o, uint64_t offset,
                           const struct span *v, unsigned count, unsigned flags)
{
    (void)o, (void)offset, (void)flags;
    span_fill(v, count, 0);
    return null_wait(n);
}

static int co_fn null_write(struct node *n, struct operation *o, uint64_t offset,
                            const struct span *v, unsigned count, unsigned flags)
{
    (void)o, (void)offset, (void)v, (void)count, (void)flags;
    return null_wait(n);
}

static int co_fn null_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                           unsigned flags)
{
    (void)o, (void)offset, (void)len, (void)flags;
    return null_wait(n);
}

static int co_fn null_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    (void)o, (void)offset, (void)len;
    return null_wait(n);
}

static int co_fn null_flush(struct node *n, struct operation *o)
{
    return o ? null_wait(n) : 0; /* closing takes no time */
}

static int co_fn null_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                             bool want_zero, struct extent *out)
{
    const struct null *s = n->state;
    (void)o, (void)offset, (void)want_zero;
    *out =
        (struct extent){ .len = len, .flags = s->read_zeroes ? EXTENT_ZERO | EXTENT_ALLOCATED : 0 };
    return 0;
}

static int null_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
                    struct map *out)
{
    const struct null *s = n->state;
    bool at_once = s->read_zeroes && !write && !s->latency;
    (void)offset, (void)may_yield;
    *out = (struct map){ .kind = at_once ? MAP_ZERO : MAP_LONG_ROAD, .len = len, .stable = true };
    return 0;
}

static int64_t null_allocated_size(struct node *n)
{
    (void)n;
    return 0;
}

/* Options that matter have no place in a plain name. */
static char *null_filename(const struct node *n)
{
    const struct null_options *o = n->said->driver_options;
    if (o && (o->has_size || o->has_read_zeroes))
        return NULL;
    return strcmp(n->driver->name, "null-co") ? strdup("null-aio://") : strdup("null-co://");
}

static const char *const null_telling[] = { "size", "read-zeroes", NULL };

#define NULL_CALLS                                                                                 \
    .kind = DRIVER_PROTOCOL, .flags = DRIVER_VECTORS, .options = &null_options_type,               \
    .state_size = sizeof(struct null), .open = null_open, .read = null_read, .write = null_write,  \
    .zero = null_zero, .discard = null_discard, .flush = null_flush, .status = null_status,        \
    .map = null_map, .allocated_size = null_allocated_size, .filename = null_filename,             \
    .telling = null_telling, .yank = null_yank

extern const struct driver driver_null_co, driver_null_aio;
const struct driver driver_null_co = {
    .name = "null-co",
    NULL_CALLS,
};
const struct driver driver_null_aio = {
    .name = "null-aio",
    NULL_CALLS,
};
