/* SPDX-License-Identifier: MIT */
/*
 * The qcow2 driver, as its files know each other:
 *
 *   header.c  what the header says, and whether it can be true
 *   open.c    options, opening and closing, the driver's table
 *   cache.c   the cache of L2 tables
 *   map.c     where a range lies: from L1 and L2 tables to an extent; map(), status()
 *   unpack.c  compressed clusters
 *   refs.c    refcounts: taking clusters and giving them back
 *   resize.c  growing
 *   write.c   writes that need new clusters, zeroes, discards: all that changes L2 tables
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

/* ---- writing ---- */

enum { QCOW2_BLOCKS_MAX = 4 };

/* A refcount block in memory; always the same as on disk. */
struct qcow2_block {
    bool valid;
    uint64_t index; /* in the refcount table */
    uint8_t *bytes;
    uint64_t age;
};

/* Clusters whose refcount is 1, on stable storage, and which nobody uses yet: a crash leaks them. */
struct qcow2_spare {
    uint64_t next, end; /* cluster numbers */
    uint64_t fresh;     /* from this one on they lay behind the end of the file: they read zero */
};

/* Guest clusters that somebody is giving another place: others wait for them. */
struct qcow2_busy {
    struct list link;
    uint64_t first, count;
};

/* Clusters that no table on disk points to any more, soon: what pointed there was written, not flushed. */
struct qcow2_limbo {
    struct list link;
    uint64_t first, count;
    bool discard; /* the file may forget the bytes, too */
};

struct qcow2_writer {
    struct co_mutex lock; /* all that follows, and every change of L1, L2 and refcount tables; taken
                             before the cache's */
    uint64_t *table;      /* the refcount table, in the host's byte order */
    uint64_t table_count; /* entries */
    struct qcow2_block blocks[QCOW2_BLOCKS_MAX];
    uint64_t clock;
    uint64_t hint; /* no cluster below is free */
    struct qcow2_spare spare;
    struct list busy;
    struct co_cond settled; /* something left .busy */
    struct list limbo;
    bool reaping;      /* the control ring's coroutine for .limbo is on its way */
    struct co *closer; /* waits for it */
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
    struct qcow2_writer writer;
    uint32_t granule;      /* metadata are written in multiples of it, bytes */
    _Atomic bool writable; /* false: read-only, or found corrupt */
    bool pass_request,
        pass_other;            /* clusters that come free are discarded in the file, too: those of a
                                      client's discards; those of anything else */
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

/* Does the external data file alone make up the disk? */
static inline bool qcow2_is_raw(const struct qcow2 *q)
{
    return qcow2_is_external(q) && q->header.autoclear & QCOW2_RAW_DATA;
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
    bool copied;    /* the same: nobody else uses that place */
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

/** qcow2_corrupt_fatal - the same, and nothing is written to the image any more; the writer's lock is held
 */
int co_fn qcow2_corrupt_fatal(struct qcow2 *q, int64_t offset, const char *msg);

/** qcow2_corrupt - something that can't be was found: tell, once
 * @offset: in the image file, -1 when there is none to tell
 * Return: -EIO.
 */
int qcow2_corrupt(struct qcow2 *q, int64_t offset, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Bits of L1 and L2 entries. */
#define QCOW2_OFFSET     0x00fffffffffffe00ULL
#define QCOW2_COPIED     (1ULL << 63)
#define QCOW2_PACKED     (1ULL << 62)
#define QCOW2_READS_ZERO 1ULL

/** qcow2_l2_place - which slice describes guest cluster @cluster: the slice's key and the index of its entry
 * 1; 0: there is no table; -EIO
 */
int qcow2_l2_place(struct qcow2 *q, uint64_t cluster, uint64_t *key, uint32_t *index);

/* ---- refs.c ---- */

int co_fn qcow2_writer_open(struct qcow2 *q, struct err *err);
/** qcow2_writer_close - give back what is spare; the image is then as QEMU would leave it */
void co_fn qcow2_writer_close(struct qcow2 *q);

/* All with the writer's lock held. */

/** qcow2_take - up to @want clusters in a row, with refcount 1 on stable storage
 * @fresh: they read zero
 */
int co_fn qcow2_take(struct qcow2 *q, struct operation *o, uint64_t want, uint64_t *first,
                     uint64_t *count, bool *fresh);

/** qcow2_take_row - the same for exactly @count clusters in a row; -EFBIG when one refcount block can't hold
 * so many
 */
int co_fn qcow2_take_row(struct qcow2 *q, struct operation *o, uint64_t count, uint64_t *first);

/** qcow2_give_later - what leads to these clusters has been written over, if not flushed: take one off their
 * refcounts when that is stable and nobody can be reading there any more
 */
void qcow2_give_later(struct qcow2 *q, uint64_t first, uint64_t count, bool discard);

/** qcow2_is_metadata - do bytes [offset, offset+len) of the file hold one of the tables? */
bool qcow2_is_metadata(const struct qcow2 *q, uint64_t offset, uint64_t len);

/** qcow2_put - write @len bytes to the image file; @offset and @len in granules */
int co_fn qcow2_put(struct qcow2 *q, struct operation *o, uint64_t offset, const void *p,
                    uint64_t len);

/** qcow2_put_header - change @len bytes at @offset of the header, and make it stable */
int co_fn qcow2_put_header(struct qcow2 *q, uint64_t offset, const void *p, uint64_t len);

/* ---- write.c ---- */

int co_fn qcow2_write(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags);
int co_fn qcow2_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                     unsigned flags);
int co_fn qcow2_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len);

/* ---- resize.c ---- */

int co_fn qcow2_resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                       enum io_flags flags, struct err *err);

/* ---- unpack.c ---- */

/** qcow2_packed_place - where the bytes of a compressed cluster lie in the file, and how many they can be */
void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *at, uint64_t *length);

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
