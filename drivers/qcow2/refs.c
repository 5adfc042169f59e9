/* SPDX-License-Identifier: MIT */
/*
 * Refcounts, and clusters that come and go.
 *
 * 1. A cluster gets its refcount on stable storage before anything points to
 *    it.  That is done for a run of clusters ahead of use, so one flush serves
 *    many; a crash leaks what is left of the run.
 * 2. A cluster loses its refcount when what pointed to it has been written over,
 *    that is stable, and every operation that may have looked it up has ended.
 *    Until then it stands in limbo; a crash leaks it.
 * 3. All changes are written at once: nothing of this lives in memory alone.
 * 4. A new refcount block is the first cluster of those that it counts: they
 *    are all free while there is no block for them.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "block/io.h"
#include "block/root.h"
#include "drivers/qcow2/qcow2.h"
#include "uring/await.h"
#include "uring/pool.h"

enum { RUN_BYTES = 4 << 20 };
#define REAP_DELAY 50000000ULL /* ns: clusters in limbo are given back in batches */
#define REAP_LOOK  1000000ULL  /* ns between two looks whether older operations have ended */

/* ---- writing metadata ---- */

int co_fn qcow2_put(struct qcow2 *q, struct operation *o, uint64_t offset, const void *p,
                    uint64_t len)
{
    struct span v = { .p = (uint8_t *)p, .len = len };

    return io_write(o, q->file, offset, &v, 1, 0);
}

int co_fn qcow2_put_header(struct qcow2 *q, uint64_t offset, const void *p, uint64_t len)
{
    void *bytes = malloc(q->granule);

    if (!bytes)
        return -ENOMEM;
    int r = io_read_control(q->file->child, 0, bytes, q->granule);
    if (r == 0) {
        memcpy((uint8_t *)bytes + offset, p, len);
        r = qcow2_put(q, NULL, 0, bytes, q->granule);
    }
    free(bytes);
    return r < 0 ? r : io_flush(NULL, q->file);
}

/* Entries of a table in memory, in the host's byte order, to where it lies in the file: what of it shares a
 * granule with entry @index. */
static int co_fn put_entry(struct qcow2 *q, struct operation *o, uint64_t table,
                           const uint64_t *entries, uint64_t count, uint64_t index)
{
    uint64_t per_granule = q->granule / sizeof(be64), first = index / per_granule * per_granule;
    be64 *bytes = calloc(per_granule, sizeof(*bytes));

    if (!bytes)
        return -ENOMEM;
    for (uint64_t i = 0; i < per_granule && first + i < count; i++)
        bytes[i] = put_be64(entries[first + i]);
    int r = qcow2_put(q, o, table + first * sizeof(be64), bytes, q->granule);
    free(bytes);
    return r;
}

/* ---- one refcount ---- */

static uint64_t per_block(const struct qcow2 *q)
{
    return 1ULL << (q->cluster_bits + 3 - q->header.refcount_order);
}

static uint64_t get_ref(const struct qcow2 *q, const uint8_t *block, uint64_t i)
{
    unsigned order = q->header.refcount_order, width = 1U << order;

    if (order < 3)
        return block[i * width / 8] >> i * width % 8 & ((1U << width) - 1);
    uint64_t value = 0;
    for (unsigned b = 0; b < width / 8; b++)
        value = value << 8 | block[i * width / 8 + b];
    return value;
}

static void set_ref(const struct qcow2 *q, uint8_t *block, uint64_t i, uint64_t value)
{
    unsigned order = q->header.refcount_order, width = 1U << order;

    if (order < 3) {
        uint8_t mask = (uint8_t)(((1U << width) - 1) << i * width % 8);
        block[i * width / 8] =
            (uint8_t)((block[i * width / 8] & ~mask) | (value << i * width % 8 & mask));
        return;
    }
    for (unsigned b = width / 8; b; b--, value >>= 8)
        block[i * width / 8 + b - 1] = (uint8_t)value;
}

/* ---- refcount blocks ---- */

static struct qcow2_block *oldest_block(struct qcow2_writer *w)
{
    struct qcow2_block *oldest = &w->blocks[0];

    for (unsigned i = 1; i < QCOW2_BLOCKS_MAX; i++)
        if (!w->blocks[i].valid || w->blocks[i].age < oldest->age)
            oldest = &w->blocks[i];
    return oldest;
}

/* A place for block @index, its bytes not yet what they should be. */
static struct qcow2_block *new_block(struct qcow2 *q, uint64_t index)
{
    struct qcow2_block *b = oldest_block(&q->writer);

    b->valid = false;
    if (!b->bytes && !(b->bytes = malloc((size_t)1 << q->cluster_bits)))
        return NULL;
    b->index = index;
    b->age = ++q->writer.clock;
    return b;
}

/* The block that the refcount table has at @index. */
static int co_fn get_block(struct qcow2 *q, struct operation *o, uint64_t index,
                           struct qcow2_block **out)
{
    struct qcow2_writer *w = &q->writer;
    uint64_t at = w->table[index], size = 1ULL << q->cluster_bits;

    for (unsigned i = 0; i < QCOW2_BLOCKS_MAX; i++) {
        if (!w->blocks[i].valid || w->blocks[i].index != index)
            continue;
        w->blocks[i].age = ++w->clock;
        *out = &w->blocks[i];
        return 0;
    }
    if (at % size)
        return qcow2_corrupt_fatal(q, (int64_t)at, "Refblock offset unaligned");
    struct qcow2_block *b = *out = new_block(q, index);
    if (!b)
        return -ENOMEM;
    struct span v = { .p = b->bytes, .len = size };
    int r = io_read(o, q->file, at, &v, 1, 0);
    b->valid = r == 0;
    return r == -EINVAL ? -EIO : r;
}

static int co_fn put_block(struct qcow2 *q, struct operation *o, const struct qcow2_block *b,
                           uint64_t first, uint64_t count)
{
    uint64_t bits = 1ULL << q->header.refcount_order;
    uint64_t begin = first * bits / 8 / q->granule * q->granule;
    uint64_t end = ((first + count) * bits + 7) / 8;

    end = (end + q->granule - 1) / q->granule * q->granule;
    return qcow2_put(q, o, q->writer.table[b->index] + begin, b->bytes + begin, end - begin);
}

bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
    const struct qcow2_header *h = &q->header;
    uint64_t size = 1ULL << q->cluster_bits;

#define HITS(at, bytes) (offset < (at) + (bytes) && (at) < offset + len)
    return HITS(0, size) || HITS(h->l1_offset, h->l1_size * sizeof(be64)) ||
           HITS(h->reftable_offset, (uint64_t)h->reftable_clusters << q->cluster_bits) ||
           (h->snapshot_count && HITS(h->snapshots_offset, size));
}

/* The same for tables of which there are many. */
static bool is_table(const struct qcow2 *q, uint64_t offset, uint64_t len)
{
    const struct qcow2_writer *w = &q->writer;
    uint64_t size = 1ULL << q->cluster_bits;

    for (uint64_t i = 0; i < w->table_count; i++)
        if (w->table[i] && HITS(w->table[i], size))
            return true;
    for (uint64_t i = 0; i < q->l1_count; i++) {
        uint64_t at = atomic_load_explicit(&q->l1[i], memory_order_relaxed) & QCOW2_OFFSET;
        if (at && HITS(at, size))
            return true;
    }
    return false;
#undef HITS
}

/* Do tables lie in these clusters, which should be free? */
static bool is_used(const struct qcow2 *q, uint64_t first, uint64_t count)
{
    uint64_t at = first << q->cluster_bits, len = count << q->cluster_bits;

    return qcow2_is_metadata(q, at, len) || is_table(q, at, len);
}

/* The table is too short for entry @index: one in another place, behind all that can be counted now, with the
 * blocks that count itself. */
static int co_fn grow_table(struct qcow2 *q, struct operation *o, uint64_t index)
{
    struct qcow2_writer *w = &q->writer;
    uint64_t size = 1ULL << q->cluster_bits, entries_per_cluster = size / sizeof(be64);
    uint64_t clusters = index * 3 / 2 / entries_per_cluster + 1;
    uint64_t blocks = 1, first = index * per_block(q);

    while (blocks * per_block(q) < blocks + clusters)
        blocks++;
    if (clusters < (index + blocks + entries_per_cluster - 1) / entries_per_cluster)
        clusters += blocks / entries_per_cluster + 1;
    while (blocks * per_block(q) < blocks + clusters)
        blocks++;
    uint64_t bytes = clusters << q->cluster_bits, count = bytes / sizeof(be64);
    if (bytes > QCOW2_REFTABLE_MAX || (first + blocks + clusters) >> (56 - q->cluster_bits))
        return -EFBIG;
    autofree uint64_t *table = calloc(count, sizeof(*table));
    autofree be64 *disk = calloc(count, sizeof(*disk));
    autofree uint8_t *block = malloc(size);
    if (!table || !disk || !block)
        return -ENOMEM;
    memcpy(table, w->table, w->table_count * sizeof(*table));
    if (index + blocks > count || is_used(q, first, blocks + clusters))
        return -EFBIG;
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < blocks; i++) {
        memset(block, 0, size);
        for (uint64_t c = 0; c < per_block(q) && i * per_block(q) + c < blocks + clusters; c++)
            set_ref(q, block, c, 1);
        table[index + i] = (first + i) << q->cluster_bits;
        r = qcow2_put(q, o, table[index + i], block, size);
    }
    for (uint64_t i = 0; i < count; i++)
        disk[i] = put_be64(table[i]);
    uint64_t at = (first + blocks) << q->cluster_bits;
    if (r == 0)
        r = qcow2_put(q, o, at, disk, bytes);
    if (r == 0)
        r = io_flush(o, q->file);
    struct {
        be64 offset;
        be32 clusters;
    } __attribute__((packed)) header = { put_be64(at), put_be32((uint32_t)clusters) };
    if (r == 0)
        r = qcow2_put_header(q, offsetof(struct qcow2_disk_header, reftable_offset), &header,
                             sizeof(header));
    if (r < 0)
        return r;
    qcow2_give_later(q, q->header.reftable_offset >> q->cluster_bits, q->header.reftable_clusters,
                     false);
    q->header.reftable_offset = at;
    q->header.reftable_clusters = (uint32_t)clusters;
    free(w->table);
    w->table = take_ptr(&table);
    w->table_count = count;
    return 0;
}

/* Nothing counts the clusters of block @index yet: they are all free. */
static int co_fn make_block(struct qcow2 *q, struct operation *o, uint64_t index)
{
    struct qcow2_writer *w = &q->writer;
    uint64_t first = index * per_block(q);

    if (index >= w->table_count)
        return grow_table(q, o, index);
    if (first >> (56 - q->cluster_bits))
        return -EFBIG;
    if (is_used(q, first, 1))
        return qcow2_corrupt_fatal(q, (int64_t)(first << q->cluster_bits),
                                   "A table lies in a cluster without refcount block");
    struct qcow2_block *b = new_block(q, index);
    if (!b)
        return -ENOMEM;
    memset(b->bytes, 0, (size_t)1 << q->cluster_bits);
    set_ref(q, b->bytes, 0, 1);
    int r = qcow2_put(q, o, first << q->cluster_bits, b->bytes, 1ULL << q->cluster_bits);
    if (r == 0)
        r = io_flush(o, q->file);
    if (r < 0)
        return r;
    w->table[index] = first << q->cluster_bits;
    r = put_entry(q, o, q->header.reftable_offset, w->table, w->table_count, index);
    if (r < 0)
        w->table[index] = 0; /* if it is there nevertheless, it leads to a block as good as none */
    else
        b->valid = true;
    return r;
}

/* ---- taking ---- */

/* Free clusters in a row from the hint on, within one block. */
static int co_fn find_free(struct qcow2 *q, struct operation *o, uint64_t want, uint64_t *first,
                           uint64_t *count)
{
    struct qcow2_writer *w = &q->writer;

    for (;;) {
        uint64_t index = w->hint / per_block(q);
        struct qcow2_block *b;
        int r = index < w->table_count && w->table[index] ? 0 : make_block(q, o, index);
        if (r == 0)
            r = get_block(q, o, index, &b);
        if (r < 0)
            return r;
        uint64_t i = w->hint % per_block(q), n = 0;
        while (i < per_block(q) && get_ref(q, b->bytes, i))
            i++;
        while (n < want && i + n < per_block(q) && !get_ref(q, b->bytes, i + n))
            n++;
        *first = index * per_block(q) + i;
        *count = n;
        w->hint = *first;
        if (n)
            return 0;
    }
}

/* Give free clusters of one block refcount 1, on stable storage. */
static int co_fn claim(struct qcow2 *q, struct operation *o, uint64_t first, uint64_t count)
{
    struct qcow2_block *b;
    uint64_t in = first % per_block(q);

    if ((first + count) >> (56 - q->cluster_bits))
        return -EFBIG;
    if (is_used(q, first, count))
        return qcow2_corrupt_fatal(q, (int64_t)(first << q->cluster_bits),
                                   "A table lies in clusters with refcount 0");
    int r = get_block(q, o, first / per_block(q), &b);
    if (r < 0)
        return r;
    for (uint64_t i = 0; i < count; i++)
        set_ref(q, b->bytes, in + i, 1);
    r = put_block(q, o, b, in, count);
    if (r == 0)
        r = io_flush(o, q->file);
    if (r < 0) /* what is on disk nobody knows: it is read again when it is needed */
        b->valid = false;
    return r;
}

/* Fill the spare run. */
static int co_fn reserve(struct qcow2 *q, struct operation *o)
{
    struct qcow2_writer *w = &q->writer;
    uint64_t want = RUN_BYTES >> q->cluster_bits, first, count;
    uint64_t end = node_size(q->file->child), size = 1ULL << q->cluster_bits;

    int r = find_free(q, o, want ? want : 1, &first, &count);
    if (r == 0)
        r = claim(q, o, first, count);
    if (r < 0)
        return r;
    w->spare = (struct qcow2_spare){ first, first + count, (end + size - 1) >> q->cluster_bits };
    w->hint = first + count;
    return 0;
}

int co_fn qcow2_take_row(struct qcow2 *q, struct operation *o, uint64_t count, uint64_t *first)
{
    struct qcow2_writer *w = &q->writer;
    uint64_t hint = w->hint, found = 0;
    int r = count > per_block(q) - 1 ? -EFBIG : 0;

    while (r == 0 && found < count) {
        r = find_free(q, o, count, first, &found);
        w->hint = *first + found;
    }
    w->hint = hint;
    return r < 0 ? r : claim(q, o, *first, count);
}

int co_fn qcow2_take(struct qcow2 *q, struct operation *o, uint64_t want, uint64_t *first,
                     uint64_t *count, bool *fresh)
{
    struct qcow2_spare *s = &q->writer.spare;
    int r = s->next < s->end ? 0 : reserve(q, o);

    if (r < 0)
        return r;
    *first = s->next;
    *count = want < s->end - s->next ? want : s->end - s->next;
    *fresh = s->next >= s->fresh;
    if (!*fresh && s->next + *count > s->fresh)
        *count = s->fresh - s->next;
    s->next += *count;
    return 0;
}

/* ---- giving back ---- */

/* Take one off the refcounts of a row of clusters. */
static int co_fn lower(struct qcow2 *q, uint64_t first, uint64_t count)
{
    struct qcow2_writer *w = &q->writer;

    while (count) {
        uint64_t index = first / per_block(q), in = first % per_block(q);
        uint64_t n = per_block(q) - in < count ? per_block(q) - in : count;
        struct qcow2_block *b;
        if (index >= w->table_count || !w->table[index])
            return qcow2_corrupt_fatal(q, (int64_t)(first << q->cluster_bits),
                                       "A cluster in use has no refcount block");
        int r = get_block(q, NULL, index, &b);
        if (r < 0)
            return r;
        for (uint64_t i = in; i < in + n; i++) {
            uint64_t refs = get_ref(q, b->bytes, i);
            if (!refs) {
                b->valid = false;
                return qcow2_corrupt_fatal(q,
                                           (int64_t)((index * per_block(q) + i) << q->cluster_bits),
                                           "A cluster in use has refcount 0");
            }
            set_ref(q, b->bytes, i, refs - 1);
        }
        r = put_block(q, NULL, b, in, n);
        if (r < 0) {
            b->valid = false;
            return r;
        }
        if (first < w->hint)
            w->hint = first;
        first += n;
        count -= n;
    }
    return 0;
}

/* Has every operation that began before @since ended, on all rings, whoever's it is? */
static bool older_have_ended(uint64_t since)
{
    for (struct root *r = root_first(); r; r = root_next(r)) {
        uint64_t age = root_oldest(r), now = ring_now();
        if (age && now - age <= since)
            return false;
    }
    return true;
}

static void co_fn reap_one(struct qcow2 *q, struct qcow2_limbo *l)
{
    int r = lower(q, l->first, l->count);

    if (r == 0 && l->discard)
        (void)io_discard(NULL, q->file, l->first << q->cluster_bits, l->count << q->cluster_bits);
    if (r < 0 && r != -EIO)
        log_warning("node '%s': %" PRIu64 " clusters leak: %s", node_label(q->node), l->count,
                    strerror(-r));
    free(l);
}

/* Control ring. */
static void co_fn reap(void *arg)
{
    struct qcow2 *q = arg;
    struct qcow2_writer *w = &q->writer;

    for (;;) {
        struct list batch = LIST_INIT(batch), *item;
        if (!q->closing)
            co_sleep(REAP_DELAY);
        co_mutex_lock(&w->lock);
        while ((item = list_pop_front(&w->limbo)))
            list_push_back(&batch, item);
        if (list_empty(&batch)) {
            w->reaping = false;
            co_mutex_unlock(&w->lock);
            break;
        }
        co_mutex_unlock(&w->lock);
        int r = io_flush(NULL, q->file);
        uint64_t since = ring_now();
        while (!older_have_ended(since))
            co_sleep(REAP_LOOK);
        co_mutex_lock(&w->lock);
        while ((item = list_pop_front(&batch))) {
            struct qcow2_limbo *l = container_of(item, struct qcow2_limbo, link);
            if (r == 0 && q->writable)
                reap_one(q, l);
            else
                free(l); /* leaked */
        }
        co_mutex_unlock(&w->lock);
    }
    if (w->closer)
        co_wake(w->closer);
}

void qcow2_give_later(struct qcow2 *q, uint64_t first, uint64_t count, bool discard)
{
    struct qcow2_writer *w = &q->writer;
    struct qcow2_limbo *l = container_of(w->limbo.prev, struct qcow2_limbo, link);

    if (!list_empty(&w->limbo) && l->discard == discard && l->first + l->count == first) {
        l->count += count;
        return;
    }
    l = malloc(sizeof(*l));
    if (!l) {
        log_warning("node '%s': %" PRIu64 " clusters leak: out of memory", node_label(q->node),
                    count);
        return;
    }
    *l = (struct qcow2_limbo){ .first = first, .count = count, .discard = discard };
    list_push_back(&w->limbo, &l->link);
    if (!w->reaping)
        w->reaping = ring_spawn(ring_control(), reap, q, "give clusters back") == 0;
}

/* ---- opening and closing ---- */

int co_fn qcow2_writer_open(struct qcow2 *q, struct err *err)
{
    struct qcow2_writer *w = &q->writer;
    const struct qcow2_header *h = &q->header;
    uint64_t bytes = (uint64_t)h->reftable_clusters << q->cluster_bits;

    co_mutex_init(&w->lock, 0);
    co_cond_init(&w->settled);
    list_init(&w->busy);
    list_init(&w->limbo);
    if (h->reftable_offset + bytes > node_size(q->file->child) + (1ULL << q->cluster_bits))
        return err_set(err, -EINVAL,
                       "Reference count table (%" PRIu64 " bytes at %" PRIu64
                       ") lies behind the end of the file",
                       bytes, h->reftable_offset);
    w->table_count = bytes / sizeof(be64);
    w->table = calloc(w->table_count, sizeof(*w->table));
    if (!w->table)
        return err_set(err, -ENOMEM, "out of memory");
    uint64_t there = node_size(q->file->child) - h->reftable_offset;
    int r = io_read_control(q->file->child, h->reftable_offset, w->table,
                            there < bytes ? there : bytes);
    if (r < 0)
        return err_set_errno(err, r, "Could not read the reference count table");
    for (uint64_t i = 0; i < w->table_count; i++)
        w->table[i] = be64toh(w->table[i]) & ~511ULL;
    q->writable = true;
    return 0;
}

void co_fn qcow2_writer_close(struct qcow2 *q)
{
    struct qcow2_writer *w = &q->writer;
    struct qcow2_spare *s = &w->spare;

    q->closing = true;
    if (w->table) {
        co_mutex_lock(&w->lock);
        if (s->next < s->end && q->writable)
            qcow2_give_later(q, s->next, s->end - s->next, false);
        s->next = s->end = 0;
        bool wait = w->reaping;
        if (wait)
            w->closer = co_self();
        co_mutex_unlock(&w->lock);
        if (wait)
            co_yield ();
        (void)io_flush(NULL, q->file);
    }
    for (unsigned i = 0; i < QCOW2_BLOCKS_MAX; i++)
        free(w->blocks[i].bytes);
    free(w->table);
    w->table = NULL;
}
