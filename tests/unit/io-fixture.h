/* SPDX-License-Identifier: MIT */
/*
 * For the tests of the request road: a disk in memory that complains about
 * requests that its node's limits forbid and can lose what was not synced, a
 * format that copies on write, and real rings to use them on.
 */
#ifndef TESTS_UNIT_IO_FIXTURE_H
#define TESTS_UNIT_IO_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "block/io.h"
#include "block/observe.h"
#include "block/stats.h"
#include "tests/unit/graph-fixture.h"
#include "uring/sync.h"

/* ---- chance ---- */

static inline uint64_t draw(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

static inline uint64_t below(uint64_t *state, uint64_t bound)
{
    return draw(state) % bound;
}

/* The seed of this run, printed so that it can be repeated. */
static inline uint64_t test_seed(void)
{
    const char *given = getenv("RINGBLK_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)getpid() * 2654435761u;
    printf("seed %llu (RINGBLK_SEED)\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

/* What was found wrong on whatever ring; the body's end asserts that there is nothing. */
static _Atomic(const char *) complaint;

static inline void complain(const char *what)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&complaint, &none, what);
}

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            complain(#condition);                                                                  \
    } while (0)

/* ---- a disk ---- */

struct disk {
    pthread_mutex_t lock; /* the bytes: a real disk's blocks may be read while they are written */
    uint64_t room;        /* bytes of now and stable */
    uint8_t *now, *stable;
    bool yields;         /* let others run in the middle of things, by chance ... */
    unsigned pauses;     /* ... or so often */
    bool zero_unaligned; /* zero() takes what is not on zero_alignment, else -ENOTSUP */
    int zero_result, read_result, write_result, discard_result, flush_result;
    unsigned hold_flush; /* flush() waits until it is 0; virtual rings */
    _Atomic unsigned reads, writes, zeroes, discards, flushes, fua, unmaps;
    _Atomic uint64_t longest; /* write or zero, bytes */
};

/* What the next node of these drivers is made of. */
static struct {
    struct disk *disk;
    uint64_t size;
    struct limits limits;
} next_mem;

struct mem {
    struct disk *disk;
};

static inline struct disk *disk_new(uint64_t room)
{
    struct disk *d = calloc(1, sizeof *d);
    pthread_mutex_init(&d->lock, NULL);
    d->room = room;
    d->now = calloc(1, room);
    d->stable = calloc(1, room);
    return d;
}

static inline void disk_free(struct disk *d)
{
    pthread_mutex_destroy(&d->lock);
    free(d->now);
    free(d->stable);
    free(d);
}

static inline struct disk *disk_of(const struct node *n)
{
    return ((struct mem *)n->state)->disk;
}

static __thread uint64_t pause_state;

static inline void co_fn disk_pause(const struct disk *d)
{
    for (unsigned i = d->yields ? below(&pause_state, 3) : d->pauses; i; i--)
        co_pause();
}

static int co_fn mem_open(struct node *n, const void *options, struct err *err)
{
    (void)options, (void)err;
    ((struct mem *)n->state)->disk = next_mem.disk;
    n->limits = next_mem.limits;
    atomic_store(&n->size, next_mem.size);
    store.opened++;
    return 0;
}

static void co_fn mem_close(struct node *n)
{
    (void)n;
    store.closed++;
}

/* A range that a driver may be asked for. */
static inline void mem_check(struct node *n, uint64_t offset, uint64_t len, uint64_t max)
{
    uint64_t a = n->limits.alignment ? n->limits.alignment : 1;
    uint64_t end = (node_size(n) + a - 1) / a * a;
    struct disk *d = disk_of(n);
    EXPECT(len > 0);
    EXPECT(offset % a == 0 && len % a == 0);
    EXPECT(offset + len <= end || (n->perm & PERM_RESIZE));
    EXPECT(offset + len <= d->room);
    EXPECT(!max || len <= max);
}

static inline void mem_check_spans(struct node *n, const struct span *v, unsigned count)
{
    uint64_t a = n->limits.memory_alignment ? n->limits.memory_alignment : 1;
    EXPECT(count == 1 || (n->driver->flags & DRIVER_VECTORS));
    EXPECT(count >= 1 && count <= SPAN_MAX);
    for (unsigned i = 0; i < count; i++) {
        EXPECT(v[i].p || (n->driver->flags & DRIVER_OPAQUE));
        EXPECT((uintptr_t)v[i].p % a == 0);
        EXPECT(count == 1 || v[i].len % a == 0);
    }
}

static int co_fn mem_read(struct node *n, struct operation *o, uint64_t offset,
                          const struct span *v, unsigned count, unsigned flags)
{
    (void)o, (void)flags;
    struct disk *d = disk_of(n);
    mem_check(n, offset, span_bytes(v, count), n->limits.transfer_max);
    mem_check_spans(n, v, count);
    atomic_fetch_add(&d->reads, 1);
    disk_pause(d);
    if (d->read_result)
        return d->read_result;
    pthread_mutex_lock(&d->lock);
    if (!(flags & IO_REGISTERED))
        span_scatter(v, count, d->now + offset);
    pthread_mutex_unlock(&d->lock);
    disk_pause(d);
    return 0;
}

/* What is written past the end is zero, and said to be padding, unless the node grows. */
static inline void check_tail(struct node *n, uint64_t offset, uint64_t len, unsigned flags)
{
    uint64_t size = node_size(n);
    if (offset + len <= size || n->perm & PERM_RESIZE)
        return;
    EXPECT(flags & IO_PADDED);
    EXPECT(bytes_are_zero(disk_of(n)->now + size, offset + len - size));
}

static int co_fn mem_write(struct node *n, struct operation *o, uint64_t offset,
                           const struct span *v, unsigned count, unsigned flags)
{
    (void)o;
    struct disk *d = disk_of(n);
    uint64_t len = span_bytes(v, count), half = len / 2;
    struct span cut[SPAN_MAX];
    mem_check(n, offset, len, n->limits.transfer_max);
    mem_check_spans(n, v, count);
    EXPECT(!(flags & IO_FUA) || n->limits.fua);
    EXPECT(!n->read_only);
    atomic_fetch_add(&d->writes, 1);
    raise_to(&d->longest, len);
    disk_pause(d);
    if (d->write_result)
        return d->write_result;
    if (flags & IO_REGISTERED)
        return 0;
    pthread_mutex_lock(&d->lock);
    span_gather(cut, span_cut(v, count, 0, half, cut), d->now + offset);
    pthread_mutex_unlock(&d->lock);
    disk_pause(d);
    pthread_mutex_lock(&d->lock);
    span_gather(cut, span_cut(v, count, half, len - half, cut), d->now + offset + half);
    check_tail(n, offset, len, flags);
    if (flags & IO_FUA) {
        atomic_fetch_add(&d->fua, 1);
        memcpy(d->stable + offset, d->now + offset, len);
    }
    pthread_mutex_unlock(&d->lock);
    disk_pause(d);
    return 0;
}

static int co_fn mem_zero(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                          unsigned flags)
{
    (void)o;
    struct disk *d = disk_of(n);
    uint64_t step = n->limits.zero_alignment ? n->limits.zero_alignment : 1;
    mem_check(n, offset, len, n->limits.zero_max);
    EXPECT(!(flags & IO_FUA));
    EXPECT(offset + len <= node_size(n) || n->perm & PERM_RESIZE || flags & IO_PADDED);
    atomic_fetch_add(&d->zeroes, 1);
    atomic_fetch_add(&d->unmaps, flags & IO_MAY_UNMAP ? 1 : 0);
    raise_to(&d->longest, len);
    if (d->zero_result)
        return d->zero_result;
    if (!d->zero_unaligned && (offset % step || len % step))
        return -ENOTSUP;
    disk_pause(d);
    pthread_mutex_lock(&d->lock);
    memset(d->now + offset, 0, len);
    pthread_mutex_unlock(&d->lock);
    disk_pause(d);
    return 0;
}

static int co_fn mem_discard(struct node *n, struct operation *o, uint64_t offset, uint64_t len)
{
    (void)o;
    struct disk *d = disk_of(n);
    uint64_t step = n->limits.discard_alignment ? n->limits.discard_alignment : 1;
    mem_check(n, offset, len, n->limits.discard_max);
    EXPECT(offset % step == 0);
    atomic_fetch_add(&d->discards, 1);
    if (d->discard_result)
        return d->discard_result;
    pthread_mutex_lock(&d->lock);
    memset(d->now + offset, 0, len);
    pthread_mutex_unlock(&d->lock);
    return 0;
}

static int co_fn mem_flush(struct node *n, struct operation *o)
{
    (void)o;
    struct disk *d = disk_of(n);
    atomic_fetch_add(&d->flushes, 1);
    if (d->flush_result)
        return d->flush_result;
    pthread_mutex_lock(&d->lock);
    memcpy(d->stable, d->now, d->room);
    pthread_mutex_unlock(&d->lock);
    disk_pause(d);
    while (d->hold_flush)
        co_pause();
    return 0;
}

/* What is zero, block by block of 4096 bytes. */
static int co_fn mem_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                            bool want_zero, struct extent *out)
{
    (void)o, (void)want_zero;
    struct disk *d = disk_of(n);
    uint64_t end = (offset / 4096 + 1) * 4096;
    mem_check(n, offset, len, 0);
    bool zero = bytes_are_zero(d->now + offset / 4096 * 4096, 4096);
    *out = (struct extent){ .flags = zero ? EXTENT_ZERO : EXTENT_DATA,
                            .len = end - offset < len ? end - offset : len,
                            .offset = offset,
                            .node = n };
    out->flags |= EXTENT_ALLOCATED | EXTENT_OFFSET;
    return 0;
}

static int mem_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
                   struct map *out)
{
    (void)n, (void)write, (void)may_yield;
    *out = (struct map){ .kind = MAP_HERE, .offset = offset, .len = len, .stable = true };
    out->file = (struct file_place){ .fd = -1 };
    return 0;
}

#define MEM_CALLS                                                                                  \
    .kind = DRIVER_PROTOCOL, .state_size = sizeof(struct mem), .open = mem_open,                   \
    .close = mem_close, .read = mem_read, .write = mem_write

/* One contiguous buffer at a time; vectors and all else that the short cut needs; the barest. */
static const struct driver mem_driver = {
    .name = "mem",
    MEM_CALLS,
    .zero = mem_zero,
    .discard = mem_discard,
    .flush = mem_flush,
    .status = mem_status,
};
static const struct driver memv_driver = {
    .name = "memv",
    MEM_CALLS,
    .flags = DRIVER_VECTORS | DRIVER_OPAQUE,
    .zero = mem_zero,
    .discard = mem_discard,
    .flush = mem_flush,
    .map = mem_map,
};
static const struct driver bare_driver = { .name = "bare", MEM_CALLS };

/* ---- a format ---- */

enum { COW_CLUSTER = 4096, COW_CLUSTERS = 512 };

/* Clusters lie in the file in another order than in the node. */
struct cow {
    struct edge *file, *backing; /* backing may be NULL */
    struct co_mutex lock;        /* allocation */
    unsigned used;
    _Atomic int where[COW_CLUSTERS]; /* cluster of the file plus 1; 0: not allocated */
};

static int co_fn cow_open(struct node *n, const void *options, struct err *err)
{
    struct cow *c = n->state;
    int r = toy_open_as(n, options, ROLE_FILE, err);
    if (r < 0)
        return r;
    c->file = node_child(n, "file");
    c->backing = node_child(n, "backing");
    co_mutex_init(&c->lock, 0);
    atomic_store(&n->size, COW_CLUSTER * COW_CLUSTERS);
    n->limits.alignment = 1;
    return 0;
}

static int cow_map(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
                   struct map *out)
{
    (void)may_yield;
    struct cow *c = n->state;
    uint64_t in = offset % COW_CLUSTER, rest = COW_CLUSTER - in;
    int where = atomic_load(&c->where[offset / COW_CLUSTER]);
    *out = (struct map){ .kind = MAP_LONG_ROAD, .len = rest < len ? rest : len };
    if (where) {
        out->kind = MAP_CHILD;
        out->edge = c->file;
        out->offset = (uint64_t)(where - 1) * COW_CLUSTER + in;
    } else if (!write && c->backing && offset + out->len <= node_size(c->backing->child)) {
        out->kind = MAP_CHILD;
        out->edge = c->backing;
        out->offset = offset;
    } else if (!write) {
        out->kind = MAP_ZERO;
    }
    return 0;
}

/* Bytes of one cluster that was not allocated when map() was asked. */
static int co_fn cow_write(struct node *n, struct operation *o, uint64_t offset,
                           const struct span *v, unsigned count, unsigned flags)
{
    (void)flags;
    struct cow *c = n->state;
    uint8_t bytes[COW_CLUSTER] = { 0 };
    uint64_t in = offset % COW_CLUSTER, len = span_bytes(v, count), at;
    unsigned cluster = offset / COW_CLUSTER;
    int r = 0, where;
    EXPECT(in + len <= COW_CLUSTER);
    co_mutex_lock(&c->lock);
    where = atomic_load(&c->where[cluster]);
    if (where) { /* somebody else was faster */
        co_mutex_unlock(&c->lock);
        return io_write(o, c->file, (uint64_t)(where - 1) * COW_CLUSTER + in, v, count, 0);
    }
    where = (int)(c->used++ * 7 % COW_CLUSTERS) + 1;
    at = (uint64_t)(where - 1) * COW_CLUSTER;
    struct span all = { .p = bytes, .len = sizeof bytes };
    if (c->backing && offset - in + sizeof bytes <= node_size(c->backing->child))
        r = io_read(o, c->backing, offset - in, &all, 1, 0);
    span_gather(v, count, bytes + in);
    if (r == 0)
        r = io_write(o, c->file, at, &all, 1, 0);
    if (r == 0)
        atomic_store(&c->where[cluster], where);
    co_mutex_unlock(&c->lock);
    return r;
}

static int co_fn cow_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                            bool want_zero, struct extent *out)
{
    (void)o, (void)want_zero;
    struct cow *c = n->state;
    uint64_t in = offset % COW_CLUSTER, rest = COW_CLUSTER - in;
    int where = atomic_load(&c->where[offset / COW_CLUSTER]);
    *out = (struct extent){ .len = rest < len ? rest : len };
    if (where) {
        out->flags = EXTENT_DATA | EXTENT_ALLOCATED | EXTENT_OFFSET;
        out->offset = (uint64_t)(where - 1) * COW_CLUSTER + in;
        out->node = c->file->child;
    }
    return 0;
}

static const struct driver cow_driver = {
    .name = "cow",
    .kind = DRIVER_FORMAT,
    .flags = DRIVER_VECTORS | DRIVER_HAS_BACKING,
    .options = &toy_type,
    .state_size = sizeof(struct cow),
    .open = cow_open,
    .map = cow_map,
    .write = cow_write,
    .status = cow_status,
};

/* A filter that has no call of its own, and one that wants to see all. */
static const struct driver pass_driver = {
    .name = "pass", .kind = DRIVER_FILTER, .options = &toy_type, .open = filter_open
};

static const struct driver *const io_drivers[] = { &mem_driver, &memv_driver, &bare_driver,
                                                   &cow_driver, &pass_driver, NULL };

/* ---- running ---- */

/* A test's body on real rings: a coroutine of the control ring beside two data rings. */
static void (*io_body)(void);

static void io_body_co(void *arg)
{
    (void)arg;
    io_body();
    blockdev_close_all();
    EXPECT(!node_first() && !root_first());
    EXPECT(store.opened == store.closed);
    ring_stop();
}

static __attribute__((unused)) void run_on_rings(void (*body)(void))
{
    autoerr err = { 0 };
    const struct rings_config config = { .count = 2, .no_pin = true };
    drivers_register(drivers_all);
    drivers_register(toy_drivers);
    drivers_register(io_drivers);
    ck_assert_msg(rings_init(&config, &err) == 0, "%s", err.msg);
    io_body = body;
    ck_assert_int_eq(co_start(io_body_co, NULL, "test"), 0);
    ring_run();
    rings_exit();
    const char *wrong = atomic_load(&complaint);
    ck_assert_msg(!wrong, "%s", wrong);
}

#define RING_TEST(name)                                                                            \
    static void body_##name(void);                                                                 \
    START_TEST(name)                                                                               \
    {                                                                                              \
        run_on_rings(body_##name);                                                                 \
    }                                                                                              \
    END_TEST static void body_##name(void)

/* A node on a new disk; the disk is freed by the test. */
static __attribute__((unused)) struct node *co_fn mem_node(const char *text, struct disk *d,
                                                           uint64_t size, struct limits limits)
{
    next_mem.disk = d;
    next_mem.size = size;
    next_mem.limits = limits;
    return add(text);
}

enum { RW = PERM_READ | PERM_WRITE };

struct client {
    unsigned ring, index;
    uint64_t chance;
    struct root *root;
    void *more;
    void co_fn (*fn)(struct client *c);
    struct co_sem *done;
};

static void client_co(void *arg)
{
    struct client *c = arg;
    pause_state ^= c->chance;
    c->fn(c);
    co_sem_up(c->done, 1);
}

/* Run clients, each on its ring, to their ends. */
static __attribute__((unused)) void co_fn run_clients(struct client *clients, unsigned count)
{
    autoerr err = { 0 };
    struct co_sem done;
    co_sem_init(&done, 0);
    for (unsigned i = 0; i < count; i++) {
        struct ring *ring = ring_get(clients[i].ring, &err);
        ck_assert_msg(ring != NULL, "%s", err.msg);
        clients[i].done = &done;
        ck_assert_int_eq(ring_spawn(ring, client_co, &clients[i], "client"), 0);
    }
    co_sem_down(&done, count);
}

/* ---- single requests, as a whole operation ---- */

#define AS_OPERATION(r, call)                                                                      \
    ({                                                                                             \
        struct operation o;                                                                        \
        operation_enter(&o, r);                                                                    \
        struct edge *e = root_edge(r);                                                             \
        int result_ = call;                                                                        \
        operation_end(&o);                                                                         \
        result_;                                                                                   \
    })

static __attribute__((unused)) int co_fn do_read(struct root *r, uint64_t offset, void *p,
                                                 size_t len)
{
    struct span v = { .p = p, .len = len };
    return AS_OPERATION(r, io_read(&o, e, offset, &v, 1, 0));
}

static __attribute__((unused)) int co_fn do_write(struct root *r, uint64_t offset, const void *p,
                                                  size_t len, unsigned flags)
{
    struct span v = { .p = (uint8_t *)p, .len = len };
    return AS_OPERATION(r, io_write(&o, e, offset, &v, 1, flags));
}

static __attribute__((unused)) int co_fn do_fill(struct root *r, uint64_t offset, uint8_t byte,
                                                 size_t len, unsigned flags)
{
    uint8_t *p = malloc(len);
    memset(p, byte, len);
    int result = do_write(r, offset, p, len, flags);
    free(p);
    return result;
}

static __attribute__((unused)) int co_fn do_zero(struct root *r, uint64_t offset, uint64_t len,
                                                 unsigned flags)
{
    return AS_OPERATION(r, io_zero(&o, e, offset, len, flags));
}

static __attribute__((unused)) int co_fn do_discard(struct root *r, uint64_t offset, uint64_t len)
{
    return AS_OPERATION(r, io_discard(&o, e, offset, len));
}

static __attribute__((unused)) int co_fn do_flush(struct root *r)
{
    return AS_OPERATION(r, io_flush(&o, e));
}

static __attribute__((unused)) int co_fn do_status(struct root *r, uint64_t offset, uint64_t len,
                                                   struct extent *out)
{
    return AS_OPERATION(r, io_status(&o, e, offset, len, true, out));
}

#endif
