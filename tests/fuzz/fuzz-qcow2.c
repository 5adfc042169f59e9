/* SPDX-License-Identifier: MIT */
/*
 * A hostile qcow2 image: any bytes as a file, opened and read in many places,
 * then written to.  Nothing crashes, leaks, takes long or needs much memory; what
 * is refused is refused in a sentence; and what block status calls zero reads zero.
 *
 * Input: the file.
 */
#include "base/cleanup.h"
#include "base/log.h"
#include "block/blockdev.h"
#include "block/io.h"
#include "tests/fuzz/virtual-client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIECE = 64 << 10, LOOKS = 64 };

/* ---- the file ---- */

enum { ROOM = 2 << 20 }; /* bytes that the file can have */

static uint8_t bytes[ROOM];
static size_t length;

static int co_fn image_open(struct node *n, const void *options, struct err *err)
{
    (void)options, (void)err;
    atomic_store(&n->size, length);
    return 0;
}

static int co_fn image_read(struct node *n, struct operation *o, uint64_t offset,
                            const struct span *v, unsigned count, unsigned flags)
{
    (void)n, (void)o, (void)flags;
    if (offset + span_bytes(v, count) > length)
        wrong("a read of %llu bytes at %llu of %zu", (unsigned long long)span_bytes(v, count),
              (unsigned long long)offset, length);
    span_scatter(v, count, bytes + offset);
    return 0;
}

static int co_fn image_write(struct node *n, struct operation *o, uint64_t offset,
                             const struct span *v, unsigned count, unsigned flags)
{
    uint64_t len = span_bytes(v, count);

    (void)n, (void)o, (void)flags;
    if (offset > ROOM || len > ROOM - offset)
        return -ENOSPC;
    span_gather(v, count, bytes + offset);
    if (offset + len > length)
        length = offset + len;
    return 0;
}

static const struct driver driver_image = {
    .name = "image",
    .kind = DRIVER_PROTOCOL,
    .flags = DRIVER_VECTORS,
    .open = image_open,
    .read = image_read,
    .write = image_write,
};

extern const struct driver driver_qcow2, driver_null_co;
static const struct driver *const drivers[] = { &driver_qcow2, &driver_image, &driver_null_co,
                                                NULL };

/* ---- using it ---- */

static uint8_t piece[PIECE];

static void co_fn look(struct edge *e, uint64_t at, uint64_t want)
{
    uint64_t rest = node_size(e->child) - at;
    struct extent x = { 0 };

    if (io_status(NULL, e, at, want < rest ? want : rest, true, &x) < 0)
        return;
    if (!x.len || x.len > rest)
        wrong("status of %llu bytes", (unsigned long long)x.len);
    struct span v = { .p = piece, .len = x.len < PIECE ? x.len : PIECE };
    memset(piece, 1, v.len);
    int r = io_read(NULL, e, at, &v, 1, 0);
    if ((x.flags & EXTENT_ZERO) && (r < 0 || !span_is_zero(&v, 1)))
        wrong("what should be zero at %llu is not", (unsigned long long)at);
}

/* All of a small disk; the beginning, the end and places between of a large one. */
static void co_fn use(struct node *n)
{
    struct edge e = { .child = n, .perm = PERM_READ, .shared = PERM_ALL };
    uint64_t size = node_size(n), step = size / LOOKS | 1;

    for (uint64_t at = 0, i = 0; at < size && i < LOOKS; at += step, i++)
        look(&e, at, i % 2 ? size : 4096);
    struct span v = { .p = piece, .len = size < PIECE ? size : PIECE };
    if (size)
        (void)io_read(NULL, &e, size - v.len, &v, 1, 0);
}

/* Here and there; what an image that uses a cluster twice then reads is its own affair. */
static void co_fn change(struct node *n)
{
    struct edge e = { .child = n, .perm = PERM_READ | PERM_WRITE, .shared = PERM_ALL };
    uint64_t size = node_size(n), len = size < 3000 ? size : 3000;
    struct span v = { .p = piece, .len = len };

    if (!size)
        return;
    memset(piece, 7, len);
    (void)io_zero(NULL, &e, 0, len, IO_MAY_UNMAP);
    (void)io_write(NULL, &e, size / 2 < size - len ? size / 2 : 0, &v, 1, 0);
    (void)io_discard(NULL, &e, 0, size < 1 << 20 ? size : 1 << 20);
    (void)io_write(NULL, &e, size - len, &v, 1, 0);
    (void)io_read(NULL, &e, size - len, &v, 1, 0);
}

static void co_fn one(void *arg)
{
    static const char *const texts[] = {
        "driver=qcow2,node-name=q,read-only=on,file.driver=image",
        "driver=qcow2,node-name=q,discard=unmap,file.driver=image"
    };
    bool write = *(const bool *)arg;
    struct blockdev_options o;
    autoerr err = { 0 };

    if (row_parse_text(&row_blockdev_options, texts[write], NULL, &o, &err) < 0)
        wrong("%s", err.msg);
    int r = blockdev_add(&o, &err);
    row_release(&row_blockdev_options, &o);
    if (r < 0 && (!err.msg || !strncmp(err.msg, "out of memory", 13)))
        wrong("a refusal without a sentence");
    if (r == 0 && write)
        change(node_find("q"));
    else if (r == 0)
        use(node_find("q"));
    blockdev_close_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!this_ring) {
        log_set_level((enum log_level) - 1); /* not even that an image is corrupt */
        drivers_register(drivers);
        virtual_rings_init(1);
    }
    if (size > ROOM / 2)
        return 0;
    memcpy(bytes, data, size);
    memset(bytes + size, 0, ROOM - size);
    length = size;
    for (int i = 0; i < 2; i++) {
        bool write = i;
        in_coroutine(one, &write);
        if (node_first())
            wrong("a node stays");
    }
    return 0;
}
