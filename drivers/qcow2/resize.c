/* SPDX-License-Identifier: MIT */
/*
 * Growing an image: an L1 table that is long enough, zeroes where the last
 * cluster had no bytes, and then the header.  No request is inside meanwhile.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/io.h"
#include "drivers/qcow2/qcow2.h"

enum { SECTOR = 512 };

static uint64_t l1_entries(const struct qcow2 *q, uint64_t size)
{
    unsigned shift = 2 * q->cluster_bits - q->entry_bits;

    return (size >> shift) + (size & ((1ULL << shift) - 1) ? 1 : 0);
}

/* In memory; what is new is empty. */
static int extend_l1(struct qcow2 *q, uint64_t count)
{
    _Atomic uint64_t *l1 = calloc(count, sizeof(*l1));

    if (!l1)
        return -ENOMEM;
    for (uint64_t i = 0; i < q->l1_count; i++)
        l1[i] = q->l1[i];
    free(q->l1);
    q->l1 = l1;
    q->l1_count = count;
    return 0;
}

/* A longer table in another place. */
static int co_fn move_l1(struct qcow2 *q, struct operation *o, uint64_t count)
{
    struct qcow2_header *h = &q->header;
    uint64_t cluster = 1ULL << q->cluster_bits, bytes = count * sizeof(be64), first;
    uint64_t clusters = (bytes + cluster - 1) >> q->cluster_bits;
    autofree be64 *disk = calloc(clusters, cluster);

    if (!disk)
        return -ENOMEM;
    int r = qcow2_take_row(q, o, clusters, &first);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < q->l1_count; i++)
        disk[i] = put_be64(q->l1[i]);
    r = qcow2_put(q, o, first << q->cluster_bits, disk, clusters << q->cluster_bits);
    if (r == 0)
        r = io_flush(o, q->file);
    struct {
        be32 size;
        be64 offset;
    } __attribute__((packed))
    header = { put_be32((uint32_t)count), put_be64(first << q->cluster_bits) };
    if (r == 0)
        r = qcow2_put_header(q, offsetof(struct qcow2_disk_header, l1_size), &header,
                             sizeof(header));
    if (r < 0)
        return r;
    qcow2_give_later(q, h->l1_offset >> q->cluster_bits,
                     (h->l1_size * sizeof(be64) + cluster - 1) >> q->cluster_bits, false);
    h->l1_offset = first << q->cluster_bits;
    h->l1_size = (uint32_t)count;
    return 0;
}

/* Are the entries on disk that are to be used now empty?  A virtual machine's state lies there for a while. */
static int co_fn check_unused(struct qcow2 *q, struct operation *o, uint64_t count)
{
    uint64_t bytes = (count - q->l1_count) * sizeof(be64);
    autofree uint8_t *disk = malloc(bytes);
    struct span v = { .p = disk, .len = bytes };

    if (!disk)
        return -ENOMEM;
    int r = io_read(o, q->file, q->header.l1_offset + q->l1_count * sizeof(be64), &v, 1, 0);
    return r == 0 && !bytes_are_zero(disk, bytes) ? -EBUSY : r;
}

static int co_fn grow_l1(struct qcow2 *q, struct operation *o, uint64_t size)
{
    uint64_t count = l1_entries(q, size);
    CO_GUARD(&q->writer.lock);

    if (!q->writable)
        return -EIO;
    if (count > QCOW2_L1_BYTES_MAX / sizeof(be64))
        return -EFBIG;
    if (count <= q->l1_count)
        return 0;
    int r = count > q->header.l1_size ? move_l1(q, o, count) : check_unused(q, o, count);
    return r == 0 ? extend_l1(q, count) : r;
}

/* What lies in the last cluster behind the old end, nobody has promised to be zero. */
static int co_fn zero_tail(struct node *n, struct operation *o, uint64_t old, uint64_t size)
{
    struct qcow2 *q = n->state;
    uint64_t cluster = 1ULL << q->cluster_bits, len = -old & (cluster - 1);
    struct qcow2_extent e;

    if (len > size - old)
        len = size - old;
    if (!len)
        return 0;
    int r = qcow2_lookup(q, o, old, len, true, &e);
    if (r < 0 || e.kind != QCOW2_DATA)
        return r;
    autofree uint8_t *zeroes = calloc(1, len);
    if (!zeroes)
        return -ENOMEM;
    struct span v = { .p = zeroes, .len = len };
    return qcow2_write(n, o, old, &v, 1, 0);
}

int co_fn qcow2_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                       enum io_flags flags, struct err *err)
{
    struct qcow2 *q = n->state;
    uint64_t old = node_size(n);

    if (size % SECTOR)
        return err_set(err, -EINVAL, "The new size must be a multiple of %d", SECTOR);
    if (size < old)
        return err_set(err, -ENOTSUP, "qcow2 images cannot be made smaller by this version");
    if (q->header.version < 3 && q->header.snapshot_count)
        return err_set(err, -ENOTSUP, "Can't resize a v2 image which has snapshots");
    if (qcow2_is_raw(q) && io_resize_child(o, q->data, size, exact, flags, err) < 0)
        return err->code;
    int r = grow_l1(q, o, size);
    if (r == 0) {
        atomic_store_explicit(&n->size, size, memory_order_relaxed);
        r = zero_tail(n, o, old, size);
    }
    be64 disk = put_be64(size);
    if (r == 0)
        r = qcow2_put_header(q, offsetof(struct qcow2_disk_header, size), &disk, sizeof(disk));
    if (r < 0) {
        atomic_store_explicit(&n->size, old, memory_order_relaxed);
        return err_set_errno(err, r, "Failed to grow the image of node '%s'", node_label(n));
    }
    q->header.size = size;
    return 0;
}
