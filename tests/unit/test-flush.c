/* SPDX-License-Identifier: MIT */
/*
 * Flush: what a client was told is stable survives a power cut, on whatever
 * ring it was written and flushed; a flush never joins one that is under way;
 * a failed sync is not forgotten; a clean node costs nothing.
 */
#include "tests/unit/io-fixture.h"

/* ---- power cuts ---- */

enum { WRITERS = 6, RECORD = 4096, ROUNDS = 150 };

struct record {
    struct root *root;
    _Atomic uint64_t written; /* acknowledged by the writer on its ring */
    _Atomic uint64_t durable; /* ... and by a flush on another ring */
    _Atomic bool over;
};

static struct record records[WRITERS];
static bool plant_bug; /* the generation of ring 1 is not in the sum */

/* Writes ever larger numbers into its record. */
static void co_fn writer(struct client *c)
{
    struct record *rec = c->more;
    struct node *storage =
        container_of(root_node(c->root)->children.next, struct edge, in_parent)->child;
    uint64_t block[RECORD / 8];
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        for (unsigned j = 0; j < RECORD / 8; j++)
            block[j] = i;
        EXPECT(do_write(c->root, c->index * RECORD, block, sizeof block, 0) == 0);
        if (plant_bug)
            __atomic_store_n(&node_here(storage)->write_generation, 0, __ATOMIC_RELEASE);
        atomic_store(&rec->written, i);
        co_pause();
    }
    atomic_store(&rec->over, true);
}

/* Flushes on the other ring and notes what must be stable from then on. */
static void co_fn flusher(struct client *c)
{
    struct record *rec = c->more;
    for (bool over = false; !over;) {
        over = atomic_load(&rec->over);
        uint64_t seen = atomic_load(&rec->written);
        EXPECT(do_flush(c->root) == 0);
        atomic_store(&rec->durable, seen);
        co_pause();
    }
}

/* Cuts the power now and then: what is on the stable side must be no older than what was promised. */
static void co_fn cutter(struct client *c)
{
    struct disk *d = c->more;
    _Atomic unsigned *lost = &d->unmaps; /* not used otherwise here */
    for (bool over = false; !over;) {
        uint64_t promised[WRITERS];
        over = true;
        for (unsigned i = 0; i < WRITERS; i++) {
            over = over && atomic_load(&records[i].over);
            promised[i] = atomic_load(&records[i].durable);
        }
        pthread_mutex_lock(&d->lock);
        for (unsigned i = 0; i < WRITERS; i++) {
            const uint64_t *p = (const uint64_t *)(const void *)(d->stable + i * RECORD);
            atomic_fetch_add(lost, p[0] < promised[i] || p[RECORD / 8 - 1] < promised[i]);
        }
        pthread_mutex_unlock(&d->lock);
        co_pause();
    }
}

/* How many promises were broken. */
static unsigned co_fn run_power_cuts(uint64_t seed)
{
    struct disk *d = disk_new(WRITERS * RECORD);
    const struct limits limits = { .alignment = 512 };
    struct client clients[2 * WRITERS + 1];
    d->yields = true;
    mem_node("driver=mem,node-name=m", d, WRITERS * RECORD, limits);
    struct root *r = root_on("e", ROOT_EXPORT, add("driver=raw,node-name=r,file=m"), RW, PERM_ALL);
    memset(records, 0, sizeof records);
    ck_assert_int_eq(do_flush(r), 0); /* the first one is always carried out */
    for (unsigned i = 0; i < 2 * WRITERS; i++) {
        bool writes = i < WRITERS;
        clients[i] = (struct client){ .index = i % WRITERS, .root = r, .chance = draw(&seed) };
        clients[i].ring = plant_bug ? (writes ? 1 : 2) : 1 + (i + !writes) % 2;
        clients[i].fn = writes ? writer : flusher;
        clients[i].more = &records[i % WRITERS];
    }
    clients[2 * WRITERS] = (struct client){ .ring = 2, .fn = cutter, .more = d };
    run_clients(clients, 2 * WRITERS + 1);
    unsigned lost = atomic_load(&d->unmaps);
    root_drop(r);
    del("r");
    del("m");
    disk_free(d);
    return lost;
}

RING_TEST(written_on_one_ring_flushed_on_another)
{
    uint64_t seed = test_seed();
    plant_bug = false;
    for (unsigned i = 0; i < 5; i++)
        ck_assert_uint_eq(run_power_cuts(draw(&seed)), 0);
}

RING_TEST(a_sum_that_lacks_a_ring_is_found)
{
    plant_bug = true;
    ck_assert_uint_gt(run_power_cuts(test_seed()), 0);
}

/* ---- one by one ---- */

static struct root *co_fn small_disk(struct disk *d, const char *options)
{
    char text[100];
    const struct limits limits = { .alignment = 512 };
    snprintf(text, sizeof text, "driver=mem,node-name=m%s", options);
    return root_on("e", ROOT_EXPORT, mem_node(text, d, 8192, limits), RW, PERM_ALL);
}

static void co_fn end_small_disk(struct root *r, struct disk *d)
{
    root_drop(r);
    del("m");
    disk_free(d);
}

/* Who stops the daemon asks for no flush; what was written is stable all the same. */
RING_TEST(what_was_written_is_flushed_at_the_close)
{
    struct disk *d = disk_new(8192);
    struct root *r = small_disk(d, "");
    ck_assert_int_eq(do_fill(r, 0, 1, 512, 0), 0);
    root_drop(r);
    ck_assert_uint_eq(d->flushes, 0);
    del("m");
    ck_assert_uint_eq(d->flushes, 1);
    ck_assert_mem_eq(d->stable, d->now, 8192);
    r = small_disk(d, "");
    root_drop(r);
    del("m");
    ck_assert_uint_eq(d->flushes, 1); /* nothing was written */
    r = small_disk(d, ",cache.no-flush=on");
    ck_assert_int_eq(do_fill(r, 0, 2, 512, 0), 0);
    root_drop(r);
    del("m");
    ck_assert_uint_eq(d->flushes, 1); /* nobody wants it */
    disk_free(d);
}

/* The first flush is carried out: what a daemon before us acknowledged may need it. */
RING_TEST(a_clean_node_costs_nothing)
{
    struct disk *d = disk_new(8192);
    struct root *r = small_disk(d, "");
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(d->flushes, 1);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(d->flushes, 1);
    ck_assert_int_eq(do_fill(r, 0, 1, 512, 0), 0);
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(d->flushes, 2);
    ck_assert_int_eq(do_zero(r, 0, 512, 0), 0);
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(d->flushes, 3);
    /* A write that failed may have changed something. */
    d->write_result = -EIO;
    ck_assert_int_eq(do_fill(r, 0, 1, 512, 0), -EIO);
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(d->flushes, 4);
    end_small_disk(r, d);
}

RING_TEST(a_failed_sync_is_not_forgotten)
{
    struct disk *d = disk_new(8192);
    struct root *r = small_disk(d, "");
    ck_assert_int_eq(do_fill(r, 0, 1, 512, 0), 0);
    d->flush_result = -ENOSPC;
    ck_assert_int_eq(do_flush(r), -ENOSPC);
    d->flush_result = 0;
    ck_assert_int_eq(do_flush(r), -EIO);
    ck_assert_int_eq(do_fill(r, 0, 1, 512, 0), 0);
    ck_assert_int_eq(do_flush(r), -EIO);
    ck_assert_int_eq(do_fill(r, 0, 1, 512, IO_FUA), -EIO);
    ck_assert_uint_eq(d->flushes, 1);
    end_small_disk(r, d);
}

/* It was never tried: then it may be tried again. */
RING_TEST(an_unwound_flush_breaks_nothing)
{
    struct disk *d = disk_new(8192);
    struct root *r = small_disk(d, "");
    d->flush_result = -ERESTART;
    ck_assert_int_eq(do_flush(r), -ERESTART);
    d->flush_result = 0;
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_uint_eq(d->flushes, 2);
    end_small_disk(r, d);
}

RING_TEST(no_flush)
{
    struct disk *d = disk_new(8192);
    struct root *r = small_disk(d, ",cache.no-flush=on");
    ck_assert_int_eq(do_fill(r, 0, 1, 512, 0), 0);
    ck_assert_int_eq(do_flush(r), 0);
    ck_assert_int_eq(do_fill(r, 0, 1, 512, IO_FUA), 0);
    ck_assert_uint_eq(d->flushes, 0);
    end_small_disk(r, d);
}

/* FUA goes to a driver that can do it, by itself; else a flush follows, of the whole node. */
RING_TEST(fua)
{
    struct disk *d = disk_new(8192);
    struct root *r = small_disk(d, "");
    ck_assert_int_eq(do_fill(r, 0, 1, 512, IO_FUA), 0);
    ck_assert_uint_eq(d->flushes, 1);
    ck_assert_uint_eq(d->stable[511], 1);
    ck_assert_int_eq(do_zero(r, 0, 512, IO_FUA), 0);
    ck_assert_uint_eq(d->flushes, 2);
    ck_assert_uint_eq(d->stable[511], 0);
    root_node(r)->limits.fua = true;
    ck_assert_int_eq(do_fill(r, 512, 2, 1024, IO_FUA), 0);
    ck_assert_uint_eq(d->fua, 1);
    ck_assert_uint_eq(d->flushes, 2);
    ck_assert_uint_eq(d->stable[1535], 2);
    ck_assert_int_eq(do_zero(r, 512, 512, IO_FUA), 0);
    ck_assert_uint_eq(d->flushes, 3);
    /* None of these is a flush that somebody asked for. */
    struct io_counters sum;
    node_stats_sum(root_node(r), &sum);
    ck_assert_uint_eq(sum.operations[IO_FLUSH], 0);
    end_small_disk(r, d);
}

/* A mapping that is not on disk yet: FUA on the data alone is not enough. */
RING_TEST(fua_through_an_unstable_mapping)
{
    struct disk *d = disk_new(COW_CLUSTER * COW_CLUSTERS);
    const struct limits limits = { .alignment = 512, .fua = true };
    mem_node("driver=mem,node-name=m", d, COW_CLUSTER * COW_CLUSTERS, limits);
    struct root *r = root_on("e", ROOT_EXPORT, add("driver=cow,node-name=c,file=m"), RW, PERM_ALL);
    ck_assert_int_eq(do_fill(r, 0, 1, 4096, 0), 0);
    ck_assert_int_eq(do_fill(r, 0, 2, 4096, IO_FUA), 0);
    ck_assert_uint_eq(d->flushes, 1);
    ck_assert_uint_eq(d->stable[0], 2);
    root_drop(r);
    del("c");
    del("m");
    disk_free(d);
}

/* ---- group commit, every order of steps ---- */

static struct {
    struct disk *disk;
    struct root *root;
    unsigned ended, broken;
} group;

static void write_then_flush(void *arg)
{
    uint64_t at = (uintptr_t)arg * 512;
    ck_assert_int_eq(do_fill(group.root, at, 7, 512, 0), 0);
    ck_assert_int_eq(do_flush(group.root), 0);
    group.broken += group.disk->stable[at] != 7 || group.disk->stable[at + 511] != 7;
    group.ended++;
}

static void build_and_start(void *arg)
{
    (void)arg;
    group.root = small_disk(group.disk, "");
    group.disk->pauses = 1;
    for (unsigned i = 0; i < 4; i++)
        virtual_spawn(i % 3, write_then_flush, (void *)(uintptr_t)i, "flush");
}

static void tear_down(void *arg)
{
    (void)arg;
    end_small_disk(group.root, group.disk);
}

static unsigned most_flushes, fewest_flushes;

static void group_setup(void)
{
    group.disk = disk_new(8192);
    group.ended = group.broken = 0;
    virtual_spawn(0, build_and_start, NULL, "setup");
}

static bool group_check(void)
{
    unsigned flushes = group.disk->flushes;
    bool well = group.ended == 4 && !group.broken && flushes >= 1 && flushes <= 4;
    most_flushes = flushes > most_flushes ? flushes : most_flushes;
    fewest_flushes = flushes < fewest_flushes ? flushes : fewest_flushes;
    virtual_spawn(0, tear_down, NULL, "end");
    return virtual_run() && well;
}

START_TEST(whoever_joins_is_covered)
{
    drivers_register(drivers_all);
    drivers_register(io_drivers);
    fewest_flushes = 4;
    ck_assert_int_gt(virtual_explore_bounded(2, group_setup, group_check, 400, 2), 100);
    ck_assert_uint_lt(fewest_flushes, 4); /* they did join */
    ck_assert_ptr_null(atomic_load(&complaint));
}
END_TEST

/* One is under way while a write ends: its flush is another. */
static void holder(void *arg)
{
    unsigned *state = arg;
    ck_assert_int_eq(do_flush(group.root), 0);
    ++*state;
}

static void joins_none_under_way(void *arg)
{
    (void)arg;
    unsigned first = 0, second = 0, third = 0;
    group.disk = disk_new(8192);
    group.root = small_disk(group.disk, "");
    group.disk->hold_flush = 1;
    virtual_spawn(1, holder, &first, "first");
    while (!group.disk->flushes)
        co_pause();
    ck_assert_int_eq(do_fill(group.root, 0, 7, 512, 0), 0);
    virtual_spawn(2, holder, &second, "second");
    virtual_spawn(1, holder, &third, "third");
    for (unsigned i = 0; i < 50; i++)
        co_pause();
    ck_assert_uint_eq(group.disk->flushes, 1);
    ck_assert_uint_eq(first + second + third, 0);
    group.disk->hold_flush = 0;
    while (!first || !second || !third)
        co_pause();
    ck_assert_uint_eq(group.disk->flushes, 2); /* those two shared the one after */
    ck_assert_uint_eq(group.disk->stable[0], 7);
    end_small_disk(group.root, group.disk);
}

START_TEST(a_flush_under_way_is_not_joined)
{
    struct body b = { .fn = joins_none_under_way };
    drivers_register(drivers_all);
    drivers_register(io_drivers);
    virtual_rings_init(2);
    virtual_spawn(0, run_body, &b, "test");
    ck_assert(virtual_run());
    ck_assert(b.ended);
    virtual_rings_exit();
    ck_assert_ptr_null(atomic_load(&complaint));
}
END_TEST

/* ---- a synced write that fails may be the only one to be told of an earlier one that was lost ---- */

static struct root *synced_root;
static int synced_result;

static void co_fn write_synced(void *arg)
{
    (void)arg;
    synced_result = do_fill(synced_root, 0, 1, 512, IO_FUA);
}

/* What the kernel answers to the write, and to the same without a sync, should that be tried. */
static void co_fn check_synced(int first, int second, bool breaks)
{
    char path[] = "/var/tmp/ringblk-flush-XXXXXX", text[128];
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    snprintf(text, sizeof text, "driver=file,node-name=f,filename=%s", path);
    struct node *n = add(text);
    if (!n->limits.fua) {
        fprintf(stderr, "skipped: /var/tmp does not sync by itself\n");
        goto end;
    }
    synced_root = root_on("e", ROOT_EXPORT, n, RW, PERM_ALL);
    virtual_hold(true);
    synced_result = 1;
    ck_assert_int_eq(ring_spawn(ring_started(1), write_synced, NULL, "write"), 0);
    for (int answers[] = { first, second }, i = 0; i < 2; i++) {
        for (unsigned j = 0; j < 20; j++)
            co_pause();
        if (virtual_ops(1))
            virtual_complete(1, answers[i]);
    }
    for (unsigned j = 0; j < 20; j++)
        co_pause();
    virtual_hold(false);
    ck_assert_int_eq(synced_result, first);
    ck_assert_int_eq(atomic_load(&n->broken), breaks);
    ck_assert_int_eq(do_flush(synced_root), breaks ? -EIO : 0);
    root_drop(synced_root);
end:
    del("f");
    close(fd);
    unlink(path);
}

CO_TEST(a_failed_synced_write_is_not_forgotten)
{
    check_synced(-EIO, 0, true);
    check_synced(-ENOSPC, 512, true);      /* there was room: the sync failed */
    check_synced(-ENOSPC, -ENOSPC, false); /* may go on when there is room again */
    check_synced(-ENOSPC, -EIO, true);
    check_synced(-EOPNOTSUPP, 0, false);
}

int main(void)
{
    const TTest *const tests[] = {
        written_on_one_ring_flushed_on_another,
        a_sum_that_lacks_a_ring_is_found,
        what_was_written_is_flushed_at_the_close,
        a_clean_node_costs_nothing,
        a_failed_sync_is_not_forgotten,
        an_unwound_flush_breaks_nothing,
        no_flush,
        fua,
        fua_through_an_unstable_mapping,
        whoever_joins_is_covered,
        a_flush_under_way_is_not_joined,
        a_failed_synced_write_is_not_forgotten,
        NULL,
    };
    return run_tests("flush", tests);
}
