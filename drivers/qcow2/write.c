/* SPDX-License-Identifier: MIT */
/*
 * All that changes L2 tables: writes that need new clusters, zeroes, discards.
 *
 * A write that needs clusters goes in these steps, data outside of any lock:
 *   1. under the lock: find out what is there, take clusters, say that these
 *      guest clusters are busy;
 *   2. write the data, and around them what was there before, in one go;
 *   3. unless the clusters read zero before and after, make that stable: once the
 *      table leads there what was below is not found any more, and a power cut
 *      would show neither the old bytes nor the new ones;
 *   4. under the lock: write the L2 entries to the file, and wake who waits.
 * Only then is the client told, so what was acknowledged outlives this process.
 * What a power cut may take is what was not flushed: the client's bytes, or the
 * L2 entries that lead to them.
 *
 * Entries change in memory first, then on disk; an operation that meets the new
 * ones finds the data there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/io.h"
#include "block/submit.h"
#include "drivers/qcow2/qcow2.h"

enum { PIECE_MAX = 2 << 20 }; /* bytes that are given clusters at once */

/* A piece of a write, within one slice of an L2 table. */
struct piece {
    struct qcow2 *q;
    struct operation *o;
    uint64_t offset, len;    /* of the disk, bytes */
    uint64_t cluster, count; /* the guest clusters that it touches */
    struct qcow2_extent was;
    uint64_t host; /* first byte of the first new cluster */
    bool fresh;    /* they were never written and read zero */
    struct qcow2_busy busy;
};

static uint64_t cluster_size(const struct qcow2 *q)
{
    return 1ULL << q->cluster_bits;
}

/* ---- who is at it ---- */

static bool is_busy(const struct qcow2_writer *w, uint64_t first, uint64_t count)
{
    const struct qcow2_busy *b;

    list_for_each (b, &w->busy, link)
        if (b->first < first + count && first < b->first + b->count)
            return true;
    return false;
}

static void co_fn wait_until_settled(struct qcow2_writer *w, uint64_t first, uint64_t count)
{
    while (is_busy(w, first, count))
        co_cond_wait(&w->settled, &w->lock);
}

static void settle(struct qcow2_writer *w, struct qcow2_busy *b)
{
    list_remove(&b->link);
    co_cond_wake_all(&w->settled);
}

/* ---- L2 tables that may be written ---- */

static int co_fn put_l1(struct qcow2 *q, struct operation *o, uint64_t index, uint64_t entry)
{
    uint64_t per_granule = q->granule / sizeof(be64), first = index / per_granule * per_granule;
    be64 *bytes = malloc(q->granule);

    if (!bytes)
        return -ENOMEM;
    uint64_t at = q->header.l1_offset + first * sizeof(be64);
    uint64_t end = q->header.l1_offset + q->header.l1_size * sizeof(be64);
    struct span v = { .p = (uint8_t *)bytes, .len = q->granule };
    uint64_t size = node_size(q->file->child);
    memset(bytes, 0, q->granule);
    if (at < size && v.len > size - at)
        v.len = size - at;
    int r = end > at && at < size ? io_read(o, q->file, at, &v, 1, 0) : 0;
    bytes[index - first] = put_be64(entry);
    if (r == 0)
        r = qcow2_put(q, o, at, bytes, q->granule);
    free(bytes);
    if (r == 0)
        atomic_store_explicit(&q->l1[index], entry, memory_order_release);
    return r;
}

/* A table of its own for L1 entry @index: an empty one, or a copy of one that a snapshot uses, too. */
static int co_fn make_table(struct qcow2 *q, struct operation *o, uint64_t index, uint64_t old)
{
    uint64_t size = cluster_size(q), first, count;
    bool fresh;
    int r = qcow2_take(q, o, 1, &first, &count, &fresh);
    uint8_t *bytes = r == 0 ? calloc(1, size) : NULL;

    if (!bytes)
        return r < 0 ? r : -ENOMEM;
    struct span v = { .p = bytes, .len = size };
    if (old)
        r = io_read(o, q->file, old, &v, 1, 0);
    if (r == 0)
        r = qcow2_put(q, o, first << q->cluster_bits, bytes, size);
    free(bytes);
    if (r == 0)
        r = io_flush(o, q->file);
    if (r == 0)
        r = put_l1(q, o, index, first << q->cluster_bits | QCOW2_COPIED);
    if (r == 0 && old)
        qcow2_give_later(q, old >> q->cluster_bits, 1, false);
    return r;
}

/* Under the lock: see to it that the L2 table of guest cluster @cluster may be written. */
static int co_fn own_table(struct qcow2 *q, struct operation *o, uint64_t cluster)
{
    uint64_t index = cluster >> (q->cluster_bits - q->entry_bits);

    if (index >= q->l1_count)
        return -EIO;
    uint64_t l1 = atomic_load_explicit(&q->l1[index], memory_order_relaxed);
    if (l1 & QCOW2_OFFSET && l1 & QCOW2_COPIED)
        return 0;
    return make_table(q, o, index, l1 & QCOW2_OFFSET);
}

/* ---- changing entries ---- */

/* What becomes of entry number @i of a row that was @old. */
struct change {
    uint64_t (*entry)(const struct change *c, const struct qcow2 *q, uint64_t i, uint64_t old);
    uint64_t host; /* for link_entry() */
    bool unmap;
    bool discard; /* a client said that it does not need the bytes */
};

static uint64_t link_entry(const struct change *c, const struct qcow2 *q, uint64_t i, uint64_t old)
{
    (void)old;
    return (c->host + (i << q->cluster_bits)) | QCOW2_COPIED;
}

static uint64_t zero_entry(const struct change *c, const struct qcow2 *q, uint64_t i, uint64_t old)
{
    /* In an external file offset 0 is a place like any other. */
    bool place = old & QCOW2_OFFSET || qcow2_is_external(q);
    bool own = !(old & QCOW2_PACKED) && place && old & QCOW2_COPIED;

    (void)i;
    return own && !c->unmap ? old | QCOW2_READS_ZERO : QCOW2_READS_ZERO;
}

/* Never to what lies below: that would bring old bytes back. */
static uint64_t discard_entry(const struct change *c, const struct qcow2 *q, uint64_t i,
                              uint64_t old)
{
    bool something = old & (QCOW2_PACKED | QCOW2_OFFSET | QCOW2_READS_ZERO);

    (void)c, (void)i;
    if (!something && !q->backing)
        return old;
    return q->header.version >= 3 ? QCOW2_READS_ZERO : 0;
}

/* The clusters that entry @old led to are not in use by it any more.  Those of an external data file are nobody
 * else's, ever. */
static void give_entry(struct qcow2 *q, uint64_t old, bool discard)
{
    if (qcow2_is_external(q))
        return;
    if (old & QCOW2_PACKED) {
        uint64_t at, len;
        qcow2_packed_place(q, old, &at, &len);
        uint64_t first = at >> q->cluster_bits, last = (at + len - 1) >> q->cluster_bits;
        qcow2_give_later(q, first, last - first + 1, false);
    } else if (old & QCOW2_OFFSET) {
        qcow2_give_later(q, (old & QCOW2_OFFSET) >> q->cluster_bits, 1, discard);
    }
}

/* The bytes of a slice that are to be written, and what the entries were before. */
struct rewrite {
    uint64_t *old;
    uint8_t *bytes;
    uint64_t begin, len; /* in the slice */
};

static void rewrite_free(struct rewrite *r)
{
    free(r->old);
    free(r->bytes);
}

/* Change @count entries from @index on in the cached slice; with the cache's lock. */
static void change_cached(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t count,
                          const struct change *c, struct rewrite *r)
{
    _Atomic uint64_t *words = qcow2_slice_words(&q->l2, s);

    for (uint64_t i = 0; i < count; i++) {
        r->old[i] = be64toh(atomic_load_explicit(&words[index + i], memory_order_relaxed));
        uint64_t entry = c->entry(c, q, i, r->old[i]);
        if (entry != r->old[i])
            atomic_store_explicit(&words[index + i], htobe64(entry), memory_order_release);
    }
    memcpy(r->bytes, (const uint8_t *)words + r->begin, r->len);
}

static void restore_cached(struct qcow2 *q, struct qcow2_slice *s, uint32_t index, uint64_t count,
                           const struct rewrite *r)
{
    _Atomic uint64_t *words = qcow2_slice_words(&q->l2, s);

    for (uint64_t i = 0; i < count; i++)
        atomic_store_explicit(&words[index + i], htobe64(r->old[i]), memory_order_release);
}

/* Under the lock: change @count entries of one slice, those of guest cluster @cluster and on, in memory and in
 * the file, and give back what they led to. */
static int co_fn change_entries(struct qcow2 *q, struct operation *o, uint64_t cluster,
                                uint64_t count, const struct change *c)
{
    struct rewrite w = { 0 };
    struct qcow2_slice *s;
    uint64_t key;
    uint32_t index;

    int r = qcow2_l2_place(q, cluster, &key, &index);
    if (r <= 0)
        return r < 0 ? r : -EIO;
    w.begin = index * sizeof(be64) / q->granule * q->granule;
    w.len = ((index + count) * sizeof(be64) + q->granule - 1) / q->granule * q->granule - w.begin;
    w.old = malloc(count * sizeof(*w.old));
    w.bytes = malloc(w.len);
    r = w.old && w.bytes ? qcow2_cache_lock(q, o, key, &s) : -ENOMEM;
    if (r < 0) {
        rewrite_free(&w);
        return r;
    }
    change_cached(q, s, index, count, c, &w);
    co_mutex_unlock(&q->l2.lock);
    r = qcow2_put(q, o, key + w.begin, w.bytes, w.len);
    if (r < 0) {
        /* What is on disk nobody knows: the new clusters leak, what was known stays so. */
        if (qcow2_cache_lock(q, o, key, &s) == 0) {
            restore_cached(q, s, index, count, &w);
            co_mutex_unlock(&q->l2.lock);
        }
    } else {
        for (uint64_t i = 0; i < count; i++) {
            uint64_t now = c->entry(c, q, i, w.old[i]);
            if ((now & QCOW2_OFFSET) != (w.old[i] & QCOW2_OFFSET) || w.old[i] & QCOW2_PACKED)
                give_entry(q, w.old[i], c->discard ? q->pass_request : q->pass_other);
        }
    }
    rewrite_free(&w);
    return r;
}

/* ---- data ---- */

/* What was at [at, at+len) of the disk before; behind its end there are zeroes. */
static int co_fn read_before(struct piece *p, uint64_t at, uint8_t *to, uint64_t len)
{
    uint64_t size = node_size(p->q->node), there = at >= size ? 0 : size - at;
    struct span v = { .p = to, .len = there < len ? there : len };

    memset(to + v.len, 0, len - v.len);
    return v.len ? qcow2_read(p->q->node, p->o, at, &v, 1, 0) : 0;
}

/* Does everything around the client's bytes read zero, as far as can be told without I/O? */
static bool reads_zero(const struct piece *p)
{
    switch (p->was.kind) {
    case QCOW2_ZERO:
    case QCOW2_ZERO_ALLOCATED: return true;
    case QCOW2_UNALLOCATED:
        return !p->q->backing || node_size(p->q->backing->child) <= p->cluster
                                                                        << p->q->cluster_bits;
    default: return false;
    }
}

/* One side of the client's bytes: @len bytes at @at of the disk, for the spans @v at *@n. */
static int co_fn add_edge(struct piece *p, uint64_t at, uint64_t len, struct span *v, unsigned *n,
                          uint8_t **buffer)
{
    if (!len || (p->fresh && reads_zero(p)))
        return 0;
    *buffer = malloc(len);
    if (!*buffer)
        return -ENOMEM;
    int r = 0;
    if (reads_zero(p))
        memset(*buffer, 0, len);
    else
        r = read_before(p, at, *buffer, len);
    if (p->fresh && bytes_are_zero(*buffer, len))
        return r;
    v[(*n)++] = (struct span){ .p = *buffer, .len = len };
    return r;
}

/* Write @n spans at @at of the image, as many at a time as there may be. */
static int co_fn write_spans(struct piece *p, uint64_t at, const struct span *v, unsigned n)
{
    int r = 0;

    for (unsigned done = 0; r == 0 && done < n; done += SPAN_MAX) {
        unsigned some = n - done < SPAN_MAX ? n - done : SPAN_MAX;
        r = io_write(p->o, p->q->data, at, v + done, some, 0);
        at += span_bytes(v + done, some);
    }
    return r;
}

static int co_fn write_data(struct piece *p, const struct span *v, unsigned count)
{
    struct qcow2 *q = p->q;
    uint64_t begin = p->cluster << q->cluster_bits, end = begin + (p->count << q->cluster_bits);
    struct span all[SPAN_MAX + 2];
    uint8_t *head = NULL, *tail = NULL;
    unsigned n = 0;
    uint64_t at = p->host + (p->offset - begin);

    int r = add_edge(p, begin, p->offset - begin, all, &n, &head);
    if (n)
        at = p->host;
    memcpy(all + n, v, count * sizeof(*v));
    n += count;
    if (r == 0)
        r = add_edge(p, p->offset + p->len, end - p->offset - p->len, all, &n, &tail);
    if (r == 0)
        r = write_spans(p, at, all, n);
    free(head);
    free(tail);
    if (r == 0 && !(p->fresh && reads_zero(p)))
        r = io_flush(p->o, q->data);
    return r;
}

/* ---- a write, piece by piece ---- */

static void cut_piece(struct piece *p, uint64_t len)
{
    p->len = len;
    p->count = ((p->offset + len - 1) >> p->q->cluster_bits) - p->cluster + 1;
}

/* Under the lock: is it only a matter of writing where the data lie? */
static bool in_place(const struct piece *p)
{
    return p->was.kind == QCOW2_DATA && p->was.copied;
}

/* Under the lock: find a place for the piece, or for the beginning of it. */
static int co_fn find_place(struct piece *p)
{
    struct qcow2 *q = p->q;
    uint64_t in = p->offset & (cluster_size(q) - 1), first, got;

    if (p->was.kind == QCOW2_ZERO_ALLOCATED && p->was.copied) {
        p->host = p->was.host - in;
        p->fresh = false;
        return 0;
    }
    if (qcow2_is_external(q)) { /* every cluster has its place there; what it holds nobody knows */
        p->host = p->cluster << q->cluster_bits;
        p->fresh = false;
        return 0;
    }
    int r = qcow2_take(q, p->o, p->count, &first, &got, &p->fresh);
    if (r < 0)
        return r;
    p->host = first << q->cluster_bits;
    if (got < p->count)
        cut_piece(p, (got << q->cluster_bits) - in);
    return 0;
}

/* Under the lock, and leaves it: 0; -EIO and the like; 1: written in place by the caller. */
static int co_fn begin_piece(struct piece *p)
{
    struct qcow2 *q = p->q;
    struct qcow2_writer *w = &q->writer;
    CO_GUARD(&w->lock);

    if (!q->writable)
        return -EIO;
    wait_until_settled(w, p->cluster, p->count);
    int r = qcow2_lookup(q, p->o, p->offset, p->len, true, &p->was);
    if (r < 0)
        return r;
    if (p->was.len < p->len)
        cut_piece(p, p->was.len);
    if (in_place(p))
        return !qcow2_is_external(q) && qcow2_is_metadata(q, p->was.host, p->len)
                   ? qcow2_corrupt_fatal(q, (int64_t)p->was.host,
                                         "Data lie where a table of the image lies")
                   : 1;
    r = own_table(q, p->o, p->cluster);
    if (r == 0)
        r = find_place(p);
    if (r < 0)
        return r;
    p->busy = (struct qcow2_busy){ .first = p->cluster, .count = p->count };
    list_push_back(&w->busy, &p->busy.link);
    return 0;
}

static int co_fn end_piece(struct piece *p, int r)
{
    struct qcow2 *q = p->q;
    const struct change link = { .entry = link_entry, .host = p->host };
    CO_GUARD(&q->writer.lock);

    if (r == 0)
        r = change_entries(q, p->o, p->cluster, p->count, &link);
    /* After an error nobody knows what is in the new clusters: they leak. */
    settle(&q->writer, &p->busy);
    return r;
}

static int co_fn write_piece(struct piece *p, const struct span *v, unsigned count)
{
    struct span cut[SPAN_MAX];
    int r = begin_piece(p);

    if (r < 0)
        return r;
    unsigned n = span_cut(v, count, 0, p->len, cut);
    if (r == 1)
        return io_write(p->o, p->q->data, p->was.host, cut, n, 0);
    return end_piece(p, write_data(p, cut, n));
}

/* Bytes from @offset to the end of what one slice of an L2 table describes. */
static uint64_t slice_rest(const struct qcow2 *q, uint64_t offset)
{
    uint64_t all = (uint64_t)(q->l2.slice_bytes >> q->entry_bits) << q->cluster_bits;

    return all - offset % all;
}

int co_fn qcow2_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags)
{
    struct qcow2 *q = n->state;
    uint64_t len = span_bytes(v, count), size = node_size(n);
    struct span cut[SPAN_MAX];

    if (offset + len > size && !(flags & IO_PADDED))
        return -ENOSPC;
    for (uint64_t done = 0; done < len;) {
        struct piece p = { .q = q, .o = o, .offset = offset + done };
        uint64_t part = len - done, rest = slice_rest(q, p.offset);
        if (p.offset >= size)
            return 0; /* padding */
        if (part > rest)
            part = rest;
        if (part > PIECE_MAX)
            part = PIECE_MAX;
        p.cluster = p.offset >> q->cluster_bits;
        cut_piece(&p, part);
        int r = write_piece(&p, cut, span_cut(v, count, done, part, cut));
        if (r < 0)
            return r;
        done += p.len;
    }
    return 0;
}

/* ---- zero and discard ---- */

/* Change whole clusters, slice by slice. */
static int co_fn change_range(struct qcow2 *q, struct operation *o, uint64_t cluster,
                              uint64_t count, const struct change *c)
{
    uint32_t per_slice = q->l2.slice_bytes >> q->entry_bits;

    while (count) {
        uint64_t n = per_slice - cluster % per_slice;
        CO_GUARD(&q->writer.lock);
        if (n > count)
            n = count;
        if (!q->writable)
            return -EIO;
        wait_until_settled(&q->writer, cluster, n);
        int r = own_table(q, o, cluster);
        if (r == 0)
            r = change_entries(q, o, cluster, n, c);
        if (r < 0)
            return r;
        cluster += n;
        count -= n;
    }
    return 0;
}

/* The same, but where there is no table and nothing lies below all is as it should be. */
static int co_fn change_tables(struct qcow2 *q, struct operation *o, uint64_t offset, uint64_t len,
                               const struct change *c)
{
    unsigned shift = 2 * q->cluster_bits - q->entry_bits;

    for (uint64_t end = offset + len; offset < end;) {
        uint64_t next = ((offset >> shift) + 1) << shift, key;
        uint32_t index;
        if (next > end)
            next = end;
        int r = qcow2_l2_place(q, offset >> q->cluster_bits, &key, &index);
        if (r > 0 || (r == 0 && q->backing))
            r = change_range(q, o, offset >> q->cluster_bits, (next - offset) >> q->cluster_bits,
                             c);
        if (r < 0)
            return r;
        offset = next;
    }
    return 0;
}

/* Whole clusters only: what is left at the edges io.c writes. */
static bool whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t *len)
{
    uint64_t size = cluster_size(q), end = offset + *len;

    if (offset % size)
        return false;
    if (end % size && end < node_size(q->node))
        return false;
    *len = (*len + size - 1) / size * size;
    return true;
}

int co_fn qcow2_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                     unsigned flags)
{
    struct qcow2 *q = n->state;
    const struct change zero = { .entry = zero_entry,
                                 .unmap = flags & IO_MAY_UNMAP,
                                 .discard = flags & IO_MAY_UNMAP };

    if (q->header.version < 3 || qcow2_is_raw(q) || !whole_clusters(q, offset, &len))
        return -ENOTSUP; /* a raw data file must have the zeroes itself */
    return change_tables(q, o, offset, len, &zero);
}

int co_fn qcow2_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    struct qcow2 *q = n->state;
    const struct change discard = { .entry = discard_entry, .discard = true };

    if ((q->header.version < 3 && q->backing) || qcow2_is_raw(q) ||
        !whole_clusters(q, offset, &len))
        return 0;
    return change_tables(q, o, offset, len, &discard);
}
