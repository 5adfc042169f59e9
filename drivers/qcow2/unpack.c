/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters.  Those unpacked last are kept, since small requests come
 * for the same cluster again and again; who wants one that is being unpacked
 * waits for it.  Bytes are read, unpacked and copied without the lock: a pin
 * keeps the place from being used for another cluster meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "block/io.h"
#include "drivers/qcow2/qcow2.h"
#include "uring/ring.h"

enum {
    SECTOR = 512,
    KEPT_BYTES = 1 << 20,   /* unpacked clusters that are kept, unless they are very large */
    INLINE_MAX = 64 << 10,  /* larger clusters are unpacked by a worker */
    RAW_DEFLATE_WINDOW = 15 /* the largest there is, so all streams can be read */
};

/* ---- the compressions ---- */

static int inflate_zlib(const void *packed, size_t length, void *to, size_t size)
{
    z_stream z = { .next_in = (Bytef *)packed,
                   .avail_in = (uInt)length,
                   .next_out = to,
                   .avail_out = (uInt)size };

    if (inflateInit2(&z, -RAW_DEFLATE_WINDOW) != Z_OK)
        return -ENOMEM;
    int r = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* Nobody promises an end mark behind the last byte. */
    return z.avail_out == 0 && (r == Z_STREAM_END || r == Z_BUF_ERROR || r == Z_OK) ? 0 : -EIO;
}

/* Frame by frame, so that no frame can ask for a window of its own. */
static int inflate_zstd(const void *packed, size_t length, void *to, size_t size)
{
    const uint8_t *p = packed;
    uint8_t *at = to;
    ZSTD_DCtx *context = ZSTD_createDCtx();
    int r = context ? 0 : -ENOMEM;

    while (r == 0 && size) {
        size_t frame = ZSTD_findFrameCompressedSize(p, length);
        size_t got = ZSTD_isError(frame) ? frame : ZSTD_decompressDCtx(context, at, size, p, frame);
        if (ZSTD_isError(got)) {
            r = -EIO;
            break;
        }
        p += frame;
        length -= frame;
        at += got;
        size -= got;
    }
    ZSTD_freeDCtx(context);
    return r;
}

int qcow2_inflate(enum qcow2_compression compression, const void *packed, size_t length, void *to,
                  size_t size)
{
    return compression == QCOW2_ZSTD ? inflate_zstd(packed, length, to, size)
                                     : inflate_zlib(packed, length, to, size);
}

struct inflate_job {
    enum qcow2_compression compression;
    const void *packed;
    size_t length;
    void *to;
    size_t size;
};

static int inflate_work(void *arg)
{
    const struct inflate_job *j = arg;

    return qcow2_inflate(j->compression, j->packed, j->length, j->to, j->size);
}

/* ---- one cluster ---- */

void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *at, uint64_t *length)
{
    unsigned shift = 62 - (q->cluster_bits - 8);
    uint64_t offset_mask = (1ULL << (shift < 56 ? shift : 56)) - 1;
    uint64_t sectors = (entry >> shift & ((1ULL << (q->cluster_bits - 8)) - 1)) + 1;

    *at = entry & offset_mask;
    *length = sectors * SECTOR - *at % SECTOR;
}

static int co_fn unpack_cluster(struct qcow2 *q, struct operation *o, uint64_t entry, void *to)
{
    uint64_t at, length, size = node_size(q->file->child);
    size_t cluster = (size_t)1 << q->cluster_bits;

    qcow2_packed_place(q, entry, &at, &length);
    if (at >= size)
        return qcow2_corrupt(q, (int64_t)at,
                             "Compressed cluster at %#llx behind the end of the file",
                             (unsigned long long)at);
    if (length > size - at)
        length = size - at; /* the last sector of a file may be short */
    void *packed = malloc(length);
    if (!packed)
        return -ENOMEM;
    struct span v = { .p = packed, .len = length };
    int r = io_read(o, q->file, at, &v, 1, 0);
    if (r == 0) {
        struct inflate_job j = { q->header.compression, packed, length, to, cluster };
        r = cluster > INLINE_MAX ? ring_block(inflate_work, &j) : inflate_work(&j);
    }
    free(packed);
    return r;
}

/* ---- those that are kept ---- */

void qcow2_unpacker_init(struct qcow2 *q)
{
    struct qcow2_unpacker *u = &q->unpacker;
    unsigned count = KEPT_BYTES >> q->cluster_bits;

    co_mutex_init(&u->lock, 0);
    co_cond_init(&u->changed);
    u->count = count < 2 ? 2 : count > QCOW2_UNPACKED_MAX ? QCOW2_UNPACKED_MAX : count;
}

void qcow2_unpacker_free(struct qcow2 *q)
{
    for (unsigned i = 0; i < QCOW2_UNPACKED_MAX; i++)
        free(q->unpacker.clusters[i].bytes);
}

/* Under the lock: the place of @entry, else one to be filled; NULL: all are in use. */
static struct qcow2_unpacked *choose(struct qcow2_unpacker *u, uint64_t entry)
{
    struct qcow2_unpacked *oldest = NULL;

    for (unsigned i = 0; i < u->count; i++) {
        struct qcow2_unpacked *c = &u->clusters[i];
        if (c->key == entry)
            return c;
        if (!c->pins && (!oldest || c->age < oldest->age))
            oldest = c;
    }
    return oldest;
}

static void unpin(struct qcow2_unpacker *u, struct qcow2_unpacked *c)
{
    c->pins--;
    co_cond_wake_all(&u->changed);
}

/* A place that nobody used for this cluster yet.  The lock is held before and after. */
static int co_fn fill(struct qcow2 *q, struct operation *o, uint64_t entry,
                      struct qcow2_unpacked *c)
{
    struct qcow2_unpacker *u = &q->unpacker;

    c->key = entry;
    c->ready = false;
    c->pins = 1;
    co_mutex_unlock(&u->lock);
    if (!c->bytes)
        c->bytes = malloc((size_t)1 << q->cluster_bits);
    int r = c->bytes ? unpack_cluster(q, o, entry, c->bytes) : -ENOMEM;
    co_mutex_lock(&u->lock);
    c->ready = r == 0;
    if (r < 0) {
        c->key = 0;
        unpin(u, c);
    } else {
        co_cond_wake_all(&u->changed);
    }
    return r;
}

/* The place that holds cluster @entry, pinned. */
static int co_fn get(struct qcow2 *q, struct operation *o, uint64_t entry,
                     struct qcow2_unpacked **out)
{
    struct qcow2_unpacker *u = &q->unpacker;
    CO_GUARD(&u->lock);

    for (;;) {
        struct qcow2_unpacked *c = choose(u, entry);
        if (c && c->key != entry) {
            int r = fill(q, o, entry, c);
            if (r < 0)
                return r;
        } else if (c && c->ready) {
            c->pins++;
        } else {
            co_cond_wait(&u->changed, &u->lock);
            continue;
        }
        c->age = ++u->clock;
        *out = c;
        return 0;
    }
}

int co_fn qcow2_read_packed(struct qcow2 *q, struct operation *o, uint64_t entry, uint64_t in,
                            const struct span *v, unsigned count)
{
    struct qcow2_unpacked *c;

    /* The whole cluster into one place: nobody will come for the rest. */
    if (count == 1 && v[0].p && v[0].len == 1ULL << q->cluster_bits)
        return unpack_cluster(q, o, entry, v[0].p);
    int r = get(q, o, entry, &c);
    if (r < 0)
        return r;
    span_scatter(v, count, c->bytes + in);
    co_mutex_lock(&q->unpacker.lock);
    unpin(&q->unpacker, c);
    co_mutex_unlock(&q->unpacker.lock);
    return 0;
}
