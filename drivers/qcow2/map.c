/* SPDX-License-Identifier: MIT */
/*
 * Where a range of the disk lies: from the L1 table, which is in memory, over
 * L2 tables, which are cached in slices, to an extent.
 *
 * A lookup goes along the entries of one slice for as long as they continue
 * what the first one began.  With extended entries the unit is the subcluster.
 */
#include <errno.h>
#include <inttypes.h>

#include "block/io.h"
#include "drivers/qcow2/qcow2.h"

enum { SUBCLUSTERS = 32, TRIES_WITHOUT_LOCK = 4, EMPTY_TABLES_MAX = 1024 };

/* One (sub)cluster, as an entry describes it. */
struct unit {
    enum qcow2_kind kind;
    uint64_t host; /* of the (sub)cluster; DATA, ZERO_ALLOCATED */
    bool copied;
};

/* What an entry says that it may not say; 0: nothing is wrong. */
enum fault { FAULT_NONE, FAULT_UNALIGNED, FAULT_VERSION_2_ZERO, FAULT_EXTERNAL, FAULT_SUBCLUSTERS };

/* A lookup under way. */
struct walk {
    struct qcow2 *q;
    uint64_t offset, len; /* as asked */
    uint64_t key;         /* of the slice */
    uint32_t first;       /* index of the first entry in the slice */
    enum fault fault;
    uint64_t faulty; /* the entry */
    struct qcow2_extent *out;
};

/* ---- one entry ---- */

static enum fault check_place(const struct qcow2 *q, uint64_t entry, uint64_t cluster)
{
    uint64_t host = entry & QCOW2_OFFSET;

    if (host & ((1ULL << q->cluster_bits) - 1))
        return FAULT_UNALIGNED;
    if (qcow2_is_external(q) && host != cluster << q->cluster_bits)
        return FAULT_EXTERNAL;
    return FAULT_NONE;
}

/* Does it have a place in the file?  At offset 0 there is the header, but not in an external file. */
static bool has_place(const struct qcow2 *q, uint64_t entry)
{
    return entry & QCOW2_OFFSET || (qcow2_is_external(q) && entry & QCOW2_COPIED);
}

static enum fault decode_standard(const struct qcow2 *q, uint64_t entry, uint64_t cluster,
                                  struct unit *u)
{
    bool place = has_place(q, entry), zero = entry & QCOW2_READS_ZERO;

    if (zero && q->header.version < 3)
        return FAULT_VERSION_2_ZERO;
    u->host = entry & QCOW2_OFFSET;
    u->copied = entry & QCOW2_COPIED;
    if (!place) {
        u->kind = zero ? QCOW2_ZERO : QCOW2_UNALLOCATED;
        return FAULT_NONE;
    }
    u->kind = zero ? QCOW2_ZERO_ALLOCATED : QCOW2_DATA;
    return check_place(q, entry, cluster);
}

static enum fault decode_subcluster(const struct qcow2 *q, uint64_t entry, uint64_t bitmap,
                                    uint64_t cluster, unsigned sub, struct unit *u)
{
    bool place = has_place(q, entry);
    bool data = bitmap & 1ULL << sub, zero = bitmap & 1ULL << (sub + SUBCLUSTERS);

    if (data && (zero || !place))
        return FAULT_SUBCLUSTERS;
    u->host = (entry & QCOW2_OFFSET) + sub * q->subcluster_size;
    u->copied = entry & QCOW2_COPIED;
    if (data)
        u->kind = QCOW2_DATA;
    else if (zero)
        u->kind = place ? QCOW2_ZERO_ALLOCATED : QCOW2_ZERO;
    else
        u->kind = QCOW2_UNALLOCATED;
    return place ? check_place(q, entry, cluster) : FAULT_NONE;
}

/* Does @next, which lies @distance bytes after where @e begins, go on as @e does? */
static bool continues(const struct qcow2_extent *e, const struct unit *next, uint64_t distance)
{
    if (next->kind != e->kind)
        return false;
    if (e->kind == QCOW2_DATA || e->kind == QCOW2_ZERO_ALLOCATED)
        return next->host == e->host + distance && next->copied == e->copied;
    return true;
}

/* ---- along a slice ---- */

static uint64_t load_word(const _Atomic uint64_t *word)
{
    return be64toh(atomic_load_explicit(word, memory_order_acquire));
}

/* Take one unit of @bytes (from the asked offset on) into the extent.  False: the extent ends before it. */
static bool take(struct walk *w, enum fault fault, uint64_t entry, const struct unit *u,
                 uint64_t in, uint64_t bytes)
{
    struct qcow2_extent *e = w->out;

    if (fault != FAULT_NONE) {
        if (!e->len) {
            w->fault = fault;
            w->faulty = entry;
        }
        return false;
    }
    if (!e->len)
        *e = (struct qcow2_extent){
            .kind = u->kind, .len = bytes, .host = u->host + in, .copied = u->copied
        };
    else if (continues(e, u, e->len))
        e->len += bytes;
    else
        return false;
    return true;
}

static bool take_compressed(struct walk *w, uint64_t entry, uint64_t in)
{
    struct qcow2_extent *e = w->out;

    if (e->len)
        return false;
    if (qcow2_is_external(w->q)) {
        w->fault = FAULT_EXTERNAL;
        w->faulty = entry;
        return false;
    }
    *e = (struct qcow2_extent){ .kind = QCOW2_COMPRESSED,
                                .len = (1ULL << w->q->cluster_bits) - in,
                                .entry = entry };
    return false;
}

/* Cluster @cluster of the disk, from byte @in on.  False: the extent ends here. */
static bool take_cluster(struct walk *w, const _Atomic uint64_t *words, uint64_t cluster,
                         uint64_t in)
{
    const struct qcow2 *q = w->q;
    uint64_t entry = load_word(words), size = 1ULL << q->cluster_bits;
    struct unit u = { 0 };

    if (entry & QCOW2_PACKED)
        return take_compressed(w, entry, in);
    if (!qcow2_is_extended(q)) {
        enum fault fault = decode_standard(q, entry, cluster, &u);
        return take(w, fault, entry, &u, in, size - in);
    }
    uint64_t bitmap = load_word(words + 1);
    for (unsigned sub = (unsigned)(in / q->subcluster_size); sub < SUBCLUSTERS; sub++) {
        enum fault fault = decode_subcluster(q, entry, bitmap, cluster, sub, &u);
        uint64_t begin = (uint64_t)sub * q->subcluster_size, skip = in > begin ? in - begin : 0;
        if (!take(w, fault, entry, &u, skip, q->subcluster_size - skip))
            return false;
    }
    return true;
}

static void along_slice(struct walk *w, const struct qcow2_slice *s)
{
    struct qcow2 *q = w->q;
    const _Atomic uint64_t *words = qcow2_slice_words(&q->l2, s);
    uint32_t count = q->l2.slice_bytes >> q->entry_bits, step = 1U << (q->entry_bits - 3);
    uint64_t cluster = w->offset >> q->cluster_bits;
    uint64_t in = w->offset & ((1ULL << q->cluster_bits) - 1);

    w->out->len = 0;
    w->fault = FAULT_NONE;
    for (uint32_t i = w->first; i < count && w->out->len < w->len; i++, cluster++, in = 0)
        if (!take_cluster(w, words + (uint64_t)i * step, cluster, in))
            break;
}

/* ---- finding the slice ---- */

static int complain(struct walk *w)
{
    struct qcow2 *q = w->q;
    uint64_t l2 = w->key + ((uint64_t)w->first << q->entry_bits);

    switch (w->fault) {
    case FAULT_NONE: return 0;
    case FAULT_UNALIGNED:
        return qcow2_corrupt(q, (int64_t)(w->faulty & QCOW2_OFFSET),
                             "Cluster allocation offset %#" PRIx64
                             " unaligned (guest offset: %#" PRIx64 ")",
                             (uint64_t)(w->faulty & QCOW2_OFFSET), w->offset);
    case FAULT_VERSION_2_ZERO:
        return qcow2_corrupt(q, (int64_t)l2,
                             "Zero cluster entry found in pre-v3 image (L2 offset: %#" PRIx64
                             ", guest offset: %#" PRIx64 ")",
                             l2, w->offset);
    case FAULT_EXTERNAL:
        return qcow2_corrupt(q, (int64_t)l2,
                             "Entry %#" PRIx64
                             " of an image with external data file does not match "
                             "guest offset %#" PRIx64,
                             w->faulty, w->offset);
    case FAULT_SUBCLUSTERS:
        return qcow2_corrupt(q, (int64_t)l2,
                             "Invalid subcluster bitmap (L2 offset: %#" PRIx64
                             ", guest offset: %#" PRIx64 ")",
                             l2, w->offset);
    }
    return -EIO;
}

static bool try_without_lock(struct walk *w)
{
    uint32_t version;

    for (unsigned i = 0; i < TRIES_WITHOUT_LOCK; i++) {
        struct qcow2_slice *s = qcow2_cache_find(&w->q->l2, w->key, &version);
        if (!s)
            return false;
        along_slice(w, s);
        if (qcow2_cache_still(s, w->key, version))
            return true;
    }
    return false;
}

/* The part of the disk that one L2 table describes has nothing at all. */
static void no_table(struct walk *w)
{
    struct qcow2 *q = w->q;
    unsigned shift = 2 * q->cluster_bits - q->entry_bits;
    uint64_t rest = (1ULL << shift) - (w->offset & ((1ULL << shift) - 1));

    /* So have those after it, perhaps. */
    uint64_t end = (w->offset >> shift) + EMPTY_TABLES_MAX;
    for (uint64_t i = (w->offset >> shift) + 1; i < q->l1_count && i < end && rest < w->len; i++) {
        if (atomic_load_explicit(&q->l1[i], memory_order_relaxed) & QCOW2_OFFSET)
            break;
        rest += 1ULL << shift;
    }
    *w->out = (struct qcow2_extent){ .kind = QCOW2_UNALLOCATED, .len = rest };
}

int qcow2_l2_place(struct qcow2 *q, uint64_t cluster, uint64_t *key, uint32_t *first)
{
    unsigned table_bits = q->cluster_bits - q->entry_bits; /* log2 of the entries in a table */
    uint64_t index = cluster >> table_bits;

    if (index >= q->l1_count)
        return -EIO;
    uint64_t l1 = atomic_load_explicit(&q->l1[index], memory_order_acquire);
    uint64_t table = l1 & QCOW2_OFFSET;
    if (!table)
        return 0;
    if (table & ((1ULL << q->cluster_bits) - 1))
        return qcow2_corrupt(q, (int64_t)table,
                             "L2 table offset %#" PRIx64 " unaligned (L1 index: %#" PRIx64 ")",
                             table, index);
    uint64_t entry = cluster & ((1ULL << table_bits) - 1);
    uint32_t in_slice = q->l2.slice_bytes >> q->entry_bits;
    *key = table + entry / in_slice * q->l2.slice_bytes;
    *first = (uint32_t)(entry % in_slice);
    return 1;
}

int co_fn qcow2_lookup(struct qcow2 *q, struct operation *o, uint64_t offset, uint64_t len,
                       bool may_yield, struct qcow2_extent *out)
{
    struct walk w = { .q = q, .offset = offset, .len = len, .out = out };
    struct qcow2_slice *s;

    int r = qcow2_l2_place(q, offset >> q->cluster_bits, &w.key, &w.first);
    if (r < 0)
        return r;
    if (r == 0) {
        no_table(&w);
    } else if (!try_without_lock(&w)) {
        if (!may_yield)
            return -EAGAIN;
        r = qcow2_cache_lock(q, o, w.key, &s);
        if (r < 0)
            return r == -EINVAL ? -EIO : r; /* the table lies behind the end of the file */
        along_slice(&w, s);
        co_mutex_unlock(&q->l2.lock);
    }
    if (w.fault != FAULT_NONE)
        return complain(&w);
    if (out->len > len)
        out->len = len;
    return 0;
}

/* ---- the driver's calls ---- */

static void shorten(struct map *m, uint64_t len)
{
    if (len < m->len)
        m->len = len;
}

/* Behind the end of where it lies a child has nothing: zeroes. */
static void lead_to(struct map *m, struct edge *e, uint64_t at)
{
    uint64_t size = node_size(e->child);

    m->kind = MAP_ZERO;
    if (at >= size)
        return;
    m->kind = MAP_CHILD;
    m->edge = e;
    m->offset = at;
    shorten(m, size - at);
}

/* The tables that stay where they are while requests are inside; write() knows the others, too. */
static bool hits_header(const struct qcow2 *q, const struct qcow2_extent *e)
{
    const struct qcow2_header *h = &q->header;

    if (qcow2_is_external(q))
        return false;
    return e->host < 1ULL << q->cluster_bits ||
           (e->host < h->l1_offset + h->l1_size * sizeof(be64) && h->l1_offset < e->host + e->len);
}

/* A write goes where the data lie, unless the place is shared or not theirs: write() sees to that. */
static int lead_write(struct qcow2 *q, const struct qcow2_extent *e, struct map *m)
{
    if (e->kind != QCOW2_DATA || !e->copied || hits_header(q, e))
        return 0;
    m->kind = MAP_CHILD;
    m->edge = q->data;
    m->offset = e->host;
    return 0;
}

int qcow2_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
              struct map *out)
{
    struct qcow2 *q = n->state;
    struct qcow2_extent e;

    *out = (struct map){ .kind = MAP_LONG_ROAD, .len = len };
    if (write && (!q->writable || offset + len > node_size(n)))
        return 0;
    int r = qcow2_lookup(q, NULL, offset, len, may_yield, &e);
    if (r < 0)
        return r == -EAGAIN ? 0 : r;
    out->len = e.len;
    if (write)
        return lead_write(q, &e, out);
    switch (e.kind) {
    case QCOW2_UNALLOCATED:
        if (q->backing)
            lead_to(out, q->backing, offset);
        else
            out->kind = MAP_ZERO;
        break;
    case QCOW2_ZERO:
    case QCOW2_ZERO_ALLOCATED: out->kind = MAP_ZERO; break;
    case QCOW2_DATA: lead_to(out, q->data, e.host); break;
    case QCOW2_COMPRESSED: break;
    }
    return 0;
}

int co_fn qcow2_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                       bool want_zero, struct extent *out)
{
    static const unsigned flags[] = {
        [QCOW2_UNALLOCATED] = 0,
        [QCOW2_ZERO] = EXTENT_ZERO | EXTENT_ALLOCATED,
        [QCOW2_ZERO_ALLOCATED] = EXTENT_ZERO | EXTENT_ALLOCATED | EXTENT_OFFSET,
        [QCOW2_DATA] = EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET,
        [QCOW2_COMPRESSED] = EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_COMPRESSED,
    };
    struct qcow2 *q = n->state;
    struct qcow2_extent e;

    (void)want_zero;
    int r = qcow2_lookup(q, o, offset, len, true, &e);
    if (r < 0)
        return r;
    *out = (struct extent){ .flags = flags[e.kind], .len = e.len };
    if (out->flags & EXTENT_OFFSET) {
        out->node = q->data->child;
        out->offset = e.host;
    }
    return 0;
}

/* Only what map() does not lead away comes here; but by now it may lie elsewhere. */
int co_fn qcow2_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                     unsigned count, unsigned flags)
{
    struct qcow2 *q = n->state;
    uint64_t len = span_bytes(v, count);
    struct span cut[SPAN_MAX];

    for (uint64_t done = 0; done < len;) {
        struct qcow2_extent e;
        struct map m;
        int r = qcow2_lookup(q, o, offset + done, len - done, true, &e);
        if (r < 0)
            return r;
        if (e.kind == QCOW2_COMPRESSED) {
            uint64_t in = (offset + done) & ((1ULL << q->cluster_bits) - 1);
            unsigned parts = span_cut(v, count, done, e.len, cut);
            r = qcow2_read_packed(q, o, e.entry, in, cut, parts);
            m.len = e.len;
        } else if ((r = qcow2_map(n, offset + done, e.len, false, true, &m)) == 0) {
            unsigned parts = span_cut(v, count, done, m.len, cut);
            if (m.kind == MAP_CHILD)
                r = io_read(o, m.edge, m.offset, cut, parts, flags);
            else if (m.kind == MAP_ZERO)
                span_fill(cut, parts, 0);
            else
                m.len = 0; /* it has become compressed: again */
        }
        if (r < 0)
            return r;
        done += m.len;
    }
    return 0;
}
