/* SPDX-License-Identifier: MIT */
/*
 * raw: the bytes of another node, or a window of them.  It never sees a request:
 * map() tells where the bytes lie, and the road goes on there.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/io.h"
#include "block/node.h"

enum { SECTOR = 512 };

struct raw_options {
    struct generic_format_options base;
    bool has_offset;
    int64_t offset;
    bool has_size;
    int64_t size;
};

struct raw {
    struct edge *file;
    uint64_t offset; /* bytes */
    bool has_size;   /* the window has a size of its own */
    uint64_t size;
};

static const struct row raw_rows[] = {
    ROW_BASE(struct raw_options, base, row_generic_format_options),
    ROW_HAS(struct raw_options, "offset", offset, row_int,
            .help = "Where in the file the disk begins, in bytes; default 0"),
    ROW_HAS(struct raw_options, "size", size, row_int,
            .help = "Size of the disk in bytes, a multiple of 512; default: all of the file"),
    ROW_END
};
static ROW_STRUCT_TYPE(raw_options_type, "BlockdevOptionsRaw", struct raw_options, raw_rows,
                       .since = "0.1", .help = "The bytes of another node, or a window of them");

static int raw_check(const struct raw *s, uint64_t file_size, struct err *err)
{
    if (s->offset > file_size)
        return err_set(err, -EINVAL,
                       "Offset (%" PRIu64 ") cannot be greater than size of the containing file "
                       "(%" PRIu64 ")",
                       s->offset, file_size);
    if (s->has_size && file_size - s->offset < s->size)
        return err_set(err, -EINVAL,
                       "The sum of offset (%" PRIu64 ") and size (%" PRIu64 ") has to be smaller "
                       "or equal to the  actual size of the containing file (%" PRIu64 ")",
                       s->offset, s->size, file_size);
    if (s->has_size && s->size % SECTOR)
        return err_set(err, -EINVAL, "Specified size is not multiple of 512");
    return 0;
}

/* What the file can do, the window can; only blocks may lie across its blocks, and then the road
 * below takes care of the edges. */
static void raw_refresh(struct node *n)
{
    const struct raw *s = n->state;
    const struct node *file = s->file->child;
    uint64_t all = node_size(file) > s->offset ? node_size(file) - s->offset : 0;
    uint64_t size = s->has_size && s->size < all ? s->size : all;
    n->limits = file->limits;
    if (s->offset & (file->limits.alignment - 1))
        n->limits.alignment = 1;
    atomic_store_explicit(&n->size, size, memory_order_relaxed);
}

static int co_fn raw_open(struct node *n, const void *options, struct err *err)
{
    const struct raw_options *o = options;
    struct raw *s = n->state;
    if (o->offset < 0 || o->size < 0)
        return err_set(err, -EINVAL, "Parameter '%s' expects a non-negative number below 2^64",
                       o->offset < 0 ? "offset" : "size");
    s->offset = (uint64_t)o->offset;
    s->has_size = o->has_size;
    s->size = (uint64_t)o->size;
    if (node_open_child(n, "file", ROLE_FILE, &o->base.file, &s->file, err) < 0)
        return err->code;
    if (raw_check(s, node_size(s->file->child), err) < 0)
        return err->code;
    raw_refresh(n);
    return 0;
}

/* It has nothing to write or to read itself; only a window with a size of its own minds a file that
 * changes its. */
static void raw_child_permissions(const struct node *n, const struct edge *e, unsigned perm,
                                  unsigned shared, unsigned *child_perm, unsigned *child_shared)
{
    const struct raw *s = n->state;
    (void)e;
    *child_perm = perm;
    *child_shared = s->has_size ? shared & ~(unsigned)PERM_RESIZE : shared;
}

static int raw_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
                   struct map *out)
{
    const struct raw *s = n->state;
    (void)write, (void)may_yield;
    *out = (struct map){
        .kind = MAP_CHILD, .edge = s->file, .offset = s->offset + offset, .len = len, .stable = true
    };
    return 0;
}

static int co_fn raw_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                            enum io_flags flags, struct err *err)
{
    const struct raw *s = n->state;
    if (s->has_size)
        return err_set(err, -ENOTSUP, "Cannot resize fixed-size raw disks");
    if (size > (uint64_t)INT64_MAX - s->offset)
        return err_set(err, -EINVAL, "Disk size too large for the chosen offset");
    return io_resize_child(o, s->file, size + s->offset, exact, flags, err);
}

extern const struct driver driver_raw;
const struct driver driver_raw = {
    .name = "raw",
    .kind = DRIVER_FORMAT,
    .flags = DRIVER_VECTORS | DRIVER_OPAQUE,
    .options = &raw_options_type,
    .state_size = sizeof(struct raw),
    .open = raw_open,
    .child_permissions = raw_child_permissions,
    .refresh = raw_refresh,
    .map = raw_map,
    .resize = raw_resize,
};
