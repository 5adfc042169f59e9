/* SPDX-License-Identifier: MIT */
/* block/shortcut.c: who may take it, where it leads, and that nothing is forgotten on the way. */
#include "block/edit.h"
#include "tests/unit/io-fixture.h"

enum { SIZE = 64 << 10 };

static struct disk *disk;
static struct node *m;

static const struct limits plain = { .alignment = 512, .fua = true };

/* A disk in memory, m, of a driver that has the short cut. */
static void co_fn add_disk(struct limits limits)
{
    drivers_register(io_drivers);
    disk = disk_new(SIZE);
    m = mem_node("driver=memv,node-name=m", disk, SIZE, limits);
}

static void co_fn drop_disk(void)
{
    del("m");
    disk_free(disk);
    ck_assert_ptr_null(atomic_load(&complaint));
}

static bool co_fn find(struct root *x, bool write, uint64_t offset, uint64_t len, unsigned flags,
                       struct shortcut *s)
{
    struct operation o;
    operation_enter(&o, x);
    bool found = shortcut_find(x, write, offset, len, flags, s);
    operation_end(&o);
    return found;
}

static bool co_fn open_for(struct root *x, bool write)
{
    struct shortcut s;
    bool open = find(x, write, 0, 512, 0, &s);
    EXPECT(!open || (write ? x->shortcut_write : x->shortcut_read));
    return open;
}

CO_TEST(it_leads_to_the_place_in_the_file)
{
    struct shortcut s;
    add_disk(plain);
    add("driver=raw,node-name=r,file=m,offset=1024");
    struct node *w = add("driver=raw,node-name=w,file=r,offset=512,size=8192");
    struct root *x = root_on("x", ROOT_EXPORT, w, RW, PERM_ALL);
    ck_assert(find(x, true, 4096, 512, 0, &s));
    ck_assert_uint_eq(s.path_length, 3);
    ck_assert(s.path[0] == w && s.path[1] == node_find("r") && s.path[2] == m);
    ck_assert_uint_eq(s.at[0], 4096);
    ck_assert_uint_eq(s.at[1], 4608);
    ck_assert_uint_eq(s.at[2], 5632);
    ck_assert_uint_eq(s.offset, 5632);
    ck_assert(!s.zero);
    ck_assert_int_eq(s.file.fd, -1);
    root_drop(x);
    del("w");
    del("r");
    drop_disk();
}

CO_TEST(what_does_not_fit_takes_the_long_road)
{
    struct shortcut s;
    struct limits limits = plain;
    limits.transfer_max = 8192;
    add_disk(limits);
    struct node *w = add("driver=raw,node-name=w,file=m,size=32768");
    struct root *x = root_on("x", ROOT_EXPORT, w, RW, PERM_ALL);
    for (unsigned write = 0; write < 2; write++) {
        ck_assert(find(x, write, 32768 - 512, 512, 0, &s));
        ck_assert(!find(x, write, 32768 - 512, 1024, 0, &s)); /* past the end */
        ck_assert(!find(x, write, 32768, 512, 0, &s));
        ck_assert(!find(x, write, UINT64_MAX - 511, 512, 0, &s));
        ck_assert(!find(x, write, 0, UINT64_MAX - 511, 0, &s));
        ck_assert(!find(x, write, 0, 0, 0, &s));
        ck_assert(!find(x, write, 1, 512, 0, &s)); /* in the middle of blocks */
        ck_assert(!find(x, write, 512, 100, 0, &s));
        ck_assert(find(x, write, 0, 8192, 0, &s));
        ck_assert(!find(x, write, 0, 8192 + 512, 0, &s)); /* too long for the driver */
        ck_assert(!find(x, write, 0, 512, IO_SERIALISING, &s));
        ck_assert(!find(x, write, 0, 512, IO_PREFETCH, &s));
        ck_assert(find(x, write, 0, 512, IO_REGISTERED, &s));
    }
    root_drop(x);
    del("w");
    drop_disk();
}

/* A synced write that failed must not be repeated, as what goes wrong here is. */
CO_TEST(fua_takes_the_long_road)
{
    struct shortcut s;
    add_disk(plain);
    struct root *x = root_on("x", ROOT_EXPORT, m, RW, PERM_ALL);
    ck_assert(!find(x, true, 0, 512, IO_FUA, &s));
    ck_assert(find(x, true, 0, 512, 0, &s));
    root_drop(x);
    drop_disk();
}

CO_TEST(a_format_is_passed_where_its_map_can_tell)
{
    struct shortcut s;
    drivers_register(io_drivers);
    disk = disk_new(COW_CLUSTER * COW_CLUSTERS);
    m = mem_node("driver=memv,node-name=m", disk, COW_CLUSTER * COW_CLUSTERS, plain);
    struct node *c = add("driver=cow,node-name=c,file=m");
    struct root *x = root_on("x", ROOT_EXPORT, c, RW, PERM_ALL);
    ck_assert(!find(x, true, 0, 4096, 0, &s)); /* not allocated: map() cannot tell */
    ck_assert(find(x, false, 0, 4096, 0, &s)); /* but it reads zero */
    ck_assert(s.zero);
    ck_assert(!find(x, false, 0, 4096, IO_REGISTERED, &s)); /* bytes that nobody here can clear */
    ck_assert_int_eq(do_fill(x, 0, 1, 4096, 0), 0);
    ck_assert(find(x, true, 0, 4096, 0, &s));
    ck_assert(!s.zero);
    ck_assert(!find(x, true, 2048, 4096, 0, &s)); /* in two places */
    root_drop(x);
    del("c");
    drop_disk();
}

CO_TEST(a_long_chain_takes_the_long_road)
{
    struct shortcut s;
    char text[64];
    add_disk(plain);
    add("driver=raw,node-name=r0,file=m");
    for (unsigned i = 1; i < 6; i++) {
        snprintf(text, sizeof text, "driver=raw,node-name=r%u,file=r%u", i, i - 1);
        struct root *x = root_on("x", ROOT_EXPORT, add(text), RW, PERM_ALL);
        ck_assert_int_eq(find(x, false, 0, 512, 0, &s), i + 2 <= SHORTCUT_PATH_MAX);
        root_drop(x);
    }
    for (unsigned i = 6; i > 0; i--) {
        snprintf(text, sizeof text, "r%u", i - 1);
        del(text);
    }
    drop_disk();
}

/* ---- who has it: every edit works it out anew ---- */

CO_TEST(writing_needs_the_permission)
{
    add_disk(plain);
    struct root *x = root_on("x", ROOT_EXPORT, m, PERM_READ, PERM_ALL);
    ck_assert(open_for(x, false) && !open_for(x, true));
    root_drop(x);
    x = root_on("x", ROOT_EXPORT, add("driver=raw,node-name=r,file=m,read-only=on"), PERM_READ,
                PERM_ALL);
    ck_assert(open_for(x, false) && !open_for(x, true));
    root_drop(x);
    del("r");
    drop_disk();
}

static unsigned noted;

static void note(struct observer *w, enum change_kind kind, uint64_t offset, uint64_t len,
                 int result)
{
    (void)w, (void)kind, (void)offset, (void)len, (void)result;
    noted++;
}

/* Attach or detach in an edit, as whoever observes must. */
static void co_fn observe(struct node *n, struct observer *w, bool attach)
{
    autoerr err = { 0 };
    struct edit *edit = edit_begin("test");
    must(edit_drain(edit, n, &err), &err);
    (attach ? observer_attach : observer_detach)(n, w);
    must(edit_commit(edit, &err), &err);
}

CO_TEST(an_observer_anywhere_on_the_way_shuts_it_for_writes)
{
    struct observer w = { .after = note };
    add_disk(plain);
    struct node *r = add("driver=raw,node-name=r,file=m");
    struct root *x = root_on("x", ROOT_EXPORT, r, RW, PERM_ALL);
    for (unsigned i = 0; i < 2; i++) {
        struct node *n = i ? m : r;
        ck_assert(open_for(x, true));
        observe(n, &w, true);
        ck_assert(!open_for(x, true) && open_for(x, false));
        ck_assert_int_eq(do_fill(x, 0, 1, 512, 0), 0);
        ck_assert_uint_eq(noted, i + 1);
        observe(n, &w, false);
        ck_assert(open_for(x, true));
    }
    root_drop(x);
    del("r");
    drop_disk();
}

CO_TEST(tracking_and_zero_detection_shut_it_for_writes)
{
    autoerr err = { 0 };
    add_disk(plain);
    struct node *r = add("driver=raw,node-name=r,file=m");
    struct root *x = root_on("x", ROOT_EXPORT, r, RW, PERM_ALL);
    must(track_require(r, &err), &err);
    ck_assert(!open_for(x, true) && open_for(x, false));
    track_release(r);
    ck_assert(open_for(x, true));
    root_drop(x);
    del("r");
    x = root_on("x", ROOT_EXPORT, add("driver=raw,node-name=r,file=m,detect-zeroes=on"), RW,
                PERM_ALL);
    ck_assert(!open_for(x, true) && open_for(x, false));
    root_drop(x);
    del("r");
    drop_disk();
}

static const struct driver jealous_driver = {
    .name = "jealous", MEM_CALLS, .flags = DRIVER_SEES_ALL, .map = mem_map
};

CO_TEST(some_drivers_have_none)
{
    static const struct driver *const list[] = { &jealous_driver, NULL };
    static const char *const options[] = { "driver=mem,node-name=n", "driver=jealous,node-name=n",
                                           "driver=pass,node-name=n,file=m" };
    add_disk(plain);
    drivers_register(list);
    for (unsigned i = 0; i < 3; i++) {
        struct disk *d = disk_new(SIZE);
        struct root *x =
            root_on("x", ROOT_EXPORT, mem_node(options[i], d, SIZE, plain), RW, PERM_ALL);
        ck_assert(!open_for(x, true) && !open_for(x, false));
        root_drop(x);
        del("n");
        disk_free(d);
    }
    drop_disk();
}

/* The root moves to another node: what counts is where it leads now. */
CO_TEST(it_follows_the_edge)
{
    autoerr err = { 0 };
    struct shortcut s;
    add_disk(plain);
    struct disk *d = disk_new(SIZE);
    struct node *slow = mem_node("driver=mem,node-name=slow", d, SIZE, plain);
    struct root *x = root_on("x", ROOT_EXPORT, m, RW, PERM_ALL);
    ck_assert(open_for(x, true));
    for (unsigned i = 0; i < 2; i++) {
        struct node *to = i ? m : slow, *from = i ? slow : m;
        struct edge *e = root_edge(x);
        struct edit *edit = edit_begin("test");
        must(edit_drain(edit, from, &err), &err);
        node_ref(from);
        must(edges_replace(&e, 1, to, &err), &err);
        must(edit_commit(edit, &err), &err);
        node_unref(from);
        ck_assert_int_eq(open_for(x, true), i);
        ck_assert_int_eq(open_for(x, false), i);
        ck_assert_int_eq(find(x, false, 0, 512, 0, &s), i);
    }
    root_drop(x);
    del("slow");
    disk_free(d);
    drop_disk();
}

/* ---- what is left when it is done ---- */

static void co_fn expect_counts(struct node *n, unsigned reads, unsigned writes, uint64_t highest)
{
    struct io_counters c;
    node_stats_sum(n, &c);
    ck_assert_uint_eq(c.operations[IO_READ], reads);
    ck_assert_uint_eq(c.bytes[IO_READ], reads * 1024);
    ck_assert_uint_eq(c.operations[IO_WRITE], writes);
    ck_assert_uint_eq(c.bytes[IO_WRITE], writes * 1024);
    ck_assert_uint_eq(n->stats.highest_write_end, highest);
}

static void co_fn pass(struct root *x, bool write, uint64_t offset, int result)
{
    struct operation o;
    struct shortcut s;
    operation_enter(&o, x);
    ck_assert(shortcut_find(x, write, offset, 1024, 0, &s));
    shortcut_done(&s, write, 1024, result);
    operation_end(&o);
}

CO_TEST(every_node_passed_counts_it)
{
    add_disk(plain);
    struct node *r = add("driver=raw,node-name=r,file=m,offset=4096");
    struct root *x = root_on("x", ROOT_EXPORT, r, RW, PERM_ALL);
    pass(x, true, 1024, 0);
    pass(x, true, 0, 0);
    pass(x, false, 8192, 0);
    expect_counts(r, 1, 2, 2048);
    expect_counts(m, 1, 2, 4096 + 2048);
    /* What the long road repeats is counted there. */
    pass(x, true, 16384, -EAGAIN);
    pass(x, false, 0, -EIO);
    expect_counts(r, 1, 2, 2048);
    root_drop(x);
    del("r");
    drop_disk();
}

/* A flush is not left out because nobody on the long road has written. */
CO_TEST(a_flush_after_it_reaches_the_disk)
{
    add_disk(plain);
    struct root *x = root_on("x", ROOT_EXPORT, add("driver=raw,node-name=r,file=m"), RW, PERM_ALL);
    ck_assert_int_eq(do_flush(x), 0); /* the first one always does */
    ck_assert_int_eq(do_flush(x), 0);
    ck_assert_uint_eq(disk->flushes, 1);
    pass(x, true, 0, 0);
    ck_assert_int_eq(do_flush(x), 0);
    ck_assert_uint_eq(disk->flushes, 2);
    pass(x, false, 0, 0);
    ck_assert_int_eq(do_flush(x), 0);
    ck_assert_uint_eq(disk->flushes, 2);
    root_drop(x);
    del("r");
    drop_disk();
}

int main(void)
{
    const TTest *const tests[] = { it_leads_to_the_place_in_the_file,
                                   what_does_not_fit_takes_the_long_road,
                                   fua_takes_the_long_road,
                                   a_format_is_passed_where_its_map_can_tell,
                                   a_long_chain_takes_the_long_road,
                                   writing_needs_the_permission,
                                   an_observer_anywhere_on_the_way_shuts_it_for_writes,
                                   tracking_and_zero_detection_shut_it_for_writes,
                                   some_drivers_have_none,
                                   it_follows_the_edge,
                                   every_node_passed_counts_it,
                                   a_flush_after_it_reaches_the_disk,
                                   NULL };
    return run_tests("shortcut", tests);
}
