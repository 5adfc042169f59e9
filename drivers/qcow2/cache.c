/* SPDX-License-Identifier: MIT */
/*
 * The cache of L2 tables, in slices.
 *
 * 1. A slice's key hashes to a set; it stands in any of that set's places.
 * 2. Readers take no lock: they note the version, look, and look at the version
 *    again.  Whoever replaces bytes makes the version odd before, and even after.
 * 3. The lock decides which slice is where.  A place that is being loaded keeps
 *    its key, so that others wait for it instead of reading the same bytes, and
 *    is nobody's victim.  The file is read without the lock.
 * 4. The memory of a place never moves, so a reader that comes too late reads
 *    rubbish at worst, and the version tells it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "block/io.h"
#include "drivers/qcow2/qcow2.h"

enum { WAYS = 8, PAGE = 4096 };

int qcow2_cache_init(struct qcow2_cache *c, uint64_t bytes, uint32_t slice_bytes, uint64_t all)
{
    uint64_t count = (bytes < all ? bytes : all) / slice_bytes;

    co_mutex_init(&c->lock, 0);
    co_cond_init(&c->loaded);
    c->slice_bytes = slice_bytes;
    c->ways = WAYS;
    c->sets = (uint32_t)((count + WAYS - 1) / WAYS);
    if (!c->sets)
        c->sets = 1;
    count = (uint64_t)c->sets * c->ways;
    c->slices = calloc(count, sizeof(*c->slices));
    c->hands = calloc(c->sets, sizeof(*c->hands));
    c->memory = mmap(NULL, count * slice_bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->memory == MAP_FAILED)
        c->memory = NULL;
    if (c->slices && c->hands && c->memory)
        return 0;
    qcow2_cache_free(c);
    return -ENOMEM;
}

void qcow2_cache_free(struct qcow2_cache *c)
{
    if (c->memory)
        munmap(c->memory, (size_t)c->sets * c->ways * c->slice_bytes);
    free(c->slices);
    free(c->hands);
    c->memory = NULL;
    c->slices = NULL;
    c->hands = NULL;
}

static uint32_t set_of(const struct qcow2_cache *c, uint64_t key)
{
    /* Neighbouring slices go to neighbouring sets; tables lie in clusters of a power of two. */
    uint64_t n = key / c->slice_bytes;

    return (uint32_t)((n ^ n >> 17) % c->sets);
}

struct qcow2_slice *qcow2_cache_find(struct qcow2_cache *c, uint64_t key, uint32_t *version)
{
    struct qcow2_slice *s = &c->slices[(uint64_t)set_of(c, key) * c->ways];

    for (struct qcow2_slice *end = s + c->ways; s < end; s++) {
        if (atomic_load_explicit(&s->key, memory_order_relaxed) != key)
            continue;
        *version = atomic_load_explicit(&s->version, memory_order_acquire);
        if (*version % 2 || atomic_load_explicit(&s->key, memory_order_acquire) != key)
            return NULL;
        if (!atomic_load_explicit(&s->used, memory_order_relaxed))
            atomic_store_explicit(&s->used, true, memory_order_relaxed);
        return s;
    }
    return NULL;
}

/* Readers load the bytes with acquire, so this load comes after theirs. */
bool qcow2_cache_still(const struct qcow2_slice *s, uint64_t key, uint32_t version)
{
    return atomic_load_explicit(&s->version, memory_order_acquire) == version &&
           atomic_load_explicit(&s->key, memory_order_relaxed) == key;
}

/* Under the lock.  NULL: every place of the set is being loaded. */
static struct qcow2_slice *choose_victim(struct qcow2_cache *c, uint64_t key)
{
    uint32_t set = set_of(c, key);
    struct qcow2_slice *first = &c->slices[(uint64_t)set * c->ways];

    for (uint32_t tries = 0; tries < 2 * c->ways; tries++) {
        struct qcow2_slice *s = first + c->hands[set];
        c->hands[set] = (c->hands[set] + 1) % c->ways;
        if (s->loading)
            continue;
        if (!atomic_load_explicit(&s->key, memory_order_relaxed) ||
            !atomic_exchange_explicit(&s->used, false, memory_order_relaxed))
            return s;
    }
    return NULL;
}

static void begin_change(struct qcow2_slice *s)
{
    uint32_t version = atomic_load_explicit(&s->version, memory_order_relaxed);

    atomic_store_explicit(&s->version, version + 1, memory_order_relaxed);
}

static void end_change(struct qcow2_slice *s, uint64_t key)
{
    uint32_t version = atomic_load_explicit(&s->version, memory_order_relaxed);

    atomic_store_explicit(&s->key, key, memory_order_release);
    atomic_store_explicit(&s->version, version + 1, memory_order_release);
}

/* Word by word: a late reader may be looking. */
static void fill(struct qcow2_cache *c, struct qcow2_slice *s, const uint64_t *from)
{
    _Atomic uint64_t *words = qcow2_slice_words(c, s);

    for (uint32_t i = 0; i < c->slice_bytes / sizeof(*from); i++)
        atomic_store_explicit(&words[i], from[i], memory_order_release);
}

/* The lock is held before and after, not between. */
static int co_fn load(struct qcow2 *q, struct operation *o, uint64_t key, struct qcow2_slice *s)
{
    struct qcow2_cache *c = &q->l2;
    void *bytes = NULL;

    s->loading = true;
    begin_change(s);
    atomic_store_explicit(&s->key, key, memory_order_release);
    co_mutex_unlock(&c->lock);
    int r = posix_memalign(&bytes, PAGE, c->slice_bytes) ? -ENOMEM : 0;
    if (r == 0) {
        struct span v = { .p = bytes, .len = c->slice_bytes };
        r = io_read(o, q->file, key, &v, 1, 0);
    }
    co_mutex_lock(&c->lock);
    if (r == 0)
        fill(c, s, bytes);
    end_change(s, r < 0 ? 0 : key);
    atomic_store_explicit(&s->used, r == 0, memory_order_relaxed);
    s->loading = false;
    co_cond_wake_all(&c->loaded);
    free(bytes);
    return r;
}

static struct qcow2_slice *find_locked(struct qcow2_cache *c, uint64_t key)
{
    struct qcow2_slice *s = &c->slices[(uint64_t)set_of(c, key) * c->ways];

    for (struct qcow2_slice *end = s + c->ways; s < end; s++)
        if (atomic_load_explicit(&s->key, memory_order_relaxed) == key)
            return s;
    return NULL;
}

int co_fn qcow2_cache_lock(struct qcow2 *q, struct operation *o, uint64_t key,
                           struct qcow2_slice **out)
{
    struct qcow2_cache *c = &q->l2;

    co_mutex_lock(&c->lock);
    for (;;) {
        struct qcow2_slice *s = find_locked(c, key);
        if (s && !s->loading) {
            atomic_store_explicit(&s->used, true, memory_order_relaxed);
            *out = s;
            return 0;
        }
        if (!s && (s = choose_victim(c, key))) {
            int r = load(q, o, key, s);
            if (r == 0) {
                *out = s;
                return 0;
            }
            co_mutex_unlock(&c->lock);
            return r;
        }
        co_cond_wait(&c->loaded, &c->lock);
    }
}

void co_fn qcow2_cache_clean(struct qcow2_cache *c)
{
    uint64_t count = (uint64_t)c->sets * c->ways;

    co_mutex_lock(&c->lock);
    for (uint64_t i = 0; i < count; i++) {
        struct qcow2_slice *s = &c->slices[i];
        if (s->loading || !atomic_load_explicit(&s->key, memory_order_relaxed) ||
            atomic_exchange_explicit(&s->used, false, memory_order_relaxed))
            continue;
        begin_change(s);
        if (c->slice_bytes % PAGE == 0)
            madvise((void *)qcow2_slice_words(c, s), c->slice_bytes, MADV_DONTNEED);
        end_change(s, 0);
    }
    co_mutex_unlock(&c->lock);
}
