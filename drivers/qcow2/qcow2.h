/* SPDX-License-Identifier: MIT */
/*
 * The qcow2 driver, as its files know each other:
 *
 *   header.c  what the header says, and whether it can be true
 *   open.c    options, opening and closing, the driver's table
 *   cache.c   the cache of L2 tables
 *   map.c     where a range lies: from L1 and L2 tables to an extent; map(), status()
 *   unpack.c  compressed clusters
 *
 * Mappings are looked up on any ring without a lock as long as the cache has
 * them; what is not there is read once, whoever wants it waits.  Data are read
 * outside of any lock.
 */
#ifndef DRIVERS_QCOW2_QCOW2_H
#define DRIVERS_QCOW2_QCOW2_H

#include "block/node.h"
#include "drivers/qcow2/header.h"
#include "uring/sync.h"

/* ---- the cache of L2 tables ---- */

/* A slice of an L2 table.  Its bytes lie at the same place in the cache's memory. */
struct qcow2_slice {
    _Atomic uint64_t key;     /* where it lies in the file; 0: nothing is here */
    _Atomic uint32_t version; /* odd: the bytes are being replaced; changes with them */
    _Atomic bool used;        /* since the victim hand or the cleaner came by */
    bool loading;             /* under the cache's lock: being read from the file */
};

struct qcow2_cache {
    struct co_mutex lock;  /* which slice is where */
    struct co_cond loaded; /* a slice was read, or given up */
    uint32_t slice_bytes, sets, ways;
    struct qcow2_slice *slices; /* sets * ways of them, set by set */
    uint8_t *memory;            /* as many times slice_bytes; mapped, so only what is used counts */
    uint32_t *hands;            /* by set: the next victim */
};

struct qcow2;

/** qcow2_cache_init - @bytes of slices of @slice_bytes (a power of two), for tables of which there are at
 * most @all bytes; 0 or -ENOMEM
 */
int qcow2_cache_init(struct qcow2_cache *c, uint64_t bytes, uint32_t slice_bytes, uint64_t all);
void qcow2_cache_free(struct qcow2_cache *c);

/** qcow2_cache_find - the slice at @key, or NULL; any ring, no lock
 * What is read from its bytes counts only if qcow2_cache_still() says so afterwards.
 */
struct qcow2_slice *qcow2_cache_find(struct qcow2_cache *c, uint64_t key, uint32_t *version);
bool qcow2_cache_still(const struct qcow2_slice *s, uint64_t key, uint32_t version);

/** qcow2_cache_lock - the slice at @key, read from the file if need be; the cache's lock is held when this
 * returns 0, and not when it fails
 */
int co_fn qcow2_cache_lock(struct qcow2 *q, struct operation *o, uint64_t key,
                           struct qcow2_slice **out);

/** qcow2_cache_clean - forget what was not used since the last call, and give its memory back */
void co_fn qcow2_cache_clean(struct qcow2_cache *c);

static inline _Atomic uint64_t *qcow2_slice_words(const struct qcow2_cache *c,
                                                  const struct qcow2_slice *s)
{
    return (_Atomic uint64_t *)(c->memory + (uint64_t)(s - c->slices) * c->slice_bytes);
}

/* ---- compressed clusters ---- */

/* Unpacked ones that were used last: neighbours of what was read are often read next. */
enum { QCOW2_UNPACKED_MAX = 16 };

struct qcow2_unpacked {
    uint64_t key; /* the L2 entry; 0: nothing is here */
    uint8_t *bytes;
    unsigned pins; /* who copies from it, or unpacks it */
    bool ready;
    uint64_t age;
};

struct qcow2_unpacker {
    struct co_mutex lock; /* all that follows, but not the bytes */
    struct co_cond changed;
    unsigned count;
    uint64_t clock;
    struct qcow2_unpacked clusters[QCOW2_UNPACKED_MAX];
};

/* ---- the node's state ---- */

struct qcow2 {
    struct node *node;
    struct qcow2_header header;
    struct edge *file, *data,
        *backing; /* data: where clusters lie, the same as file unless there is an
                                           external data file; backing: NULL if there is none */
    unsigned cluster_bits, entry_bits; /* entry: log2 of an L2 entry's bytes, 3 or 4 */
    uint32_t subcluster_size;          /* bytes; a cluster's, without extended entries */
    uint64_t l1_count;                 /* entries in use */
    _Atomic uint64_t *l1;              /* as on disk but in the host's byte order */
    struct qcow2_cache l2;
    struct qcow2_unpacker unpacker;
    _Atomic bool told_corrupt; /* BLOCK_IMAGE_CORRUPTED was sent */
    uint64_t clean_interval;   /* ns; 0: never */
    struct timer clean_timer;  /* control ring */
    bool cleaning, closing;
    struct co *closer;
};

static inline bool qcow2_is_external(const struct qcow2 *q)
{
    return q->header.incompatible & QCOW2_EXTERNAL_DATA;
}

static inline bool qcow2_is_extended(const struct qcow2 *q)
{
    return q->header.incompatible & QCOW2_EXTENDED_L2;
}

/* ---- map.c ---- */

enum qcow2_kind {
    QCOW2_UNALLOCATED,
    QCOW2_ZERO,           /* reads zero, nothing stored */
    QCOW2_ZERO_ALLOCATED, /* reads zero, though a place for it is there */
    QCOW2_DATA,
    QCOW2_COMPRESSED,
};

/* What a range is: as far as it is the same, and lies in one piece. */
struct qcow2_extent {
    enum qcow2_kind kind;
    uint64_t len;   /* bytes from the asked offset on */
    uint64_t host;  /* DATA, ZERO_ALLOCATED: where the asked offset lies in q->data */
    uint64_t entry; /* COMPRESSED: the L2 entry; the extent then ends with its cluster */
};

/** qcow2_lookup - what lies at @offset, for at most @len bytes; any ring
 * @may_yield: false: from memory, at once; -EAGAIN when that has no answer
 * -EIO: what the tables say is impossible, or they can't be read.
 */
int co_fn qcow2_lookup(struct qcow2 *q, struct operation *o, uint64_t offset, uint64_t len,
                       bool may_yield, struct qcow2_extent *out);

int qcow2_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
              struct map *out);
int co_fn qcow2_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                       bool want_zero, struct extent *out);
int co_fn qcow2_read(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                     unsigned count, unsigned flags);

/** qcow2_corrupt - something that can't be was found: tell, once
 * @offset: in the image file, -1 when there is none to tell
 * Return: -EIO.
 */
int qcow2_corrupt(struct qcow2 *q, int64_t offset, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- unpack.c ---- */

void qcow2_unpacker_init(struct qcow2 *q);
void qcow2_unpacker_free(struct qcow2 *q);

/** qcow2_read_packed - bytes [@in, @in + length of @v) of the compressed cluster of L2 entry @entry */
int co_fn qcow2_read_packed(struct qcow2 *q, struct operation *o, uint64_t entry, uint64_t in,
                            const struct span *v, unsigned count);

/** qcow2_inflate - unpack @length bytes to exactly @size; what follows the compressed bytes is ignored
 * 0, -EIO (they are no such thing) or -ENOMEM.
 */
int qcow2_inflate(enum qcow2_compression compression, const void *packed, size_t length, void *to,
                  size_t size);

#endif
