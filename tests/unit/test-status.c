/* SPDX-License-Identifier: MIT */
/* block/status.c: what a range is, who decides it, how deep, and how far it holds. */
#include "tests/unit/io-fixture.h"

enum { BLOCK = 4096 };

static struct disk *co_fn add_mem(const char *name, uint64_t size, uint32_t alignment)
{
    char text[64];
    struct disk *d = disk_new((size + BLOCK - 1) / BLOCK * BLOCK);
    drivers_register(io_drivers);
    snprintf(text, sizeof text, "driver=mem,node-name=%s", name);
    mem_node(text, d, size, (struct limits){ .alignment = alignment });
    return d;
}

static struct root *co_fn seen(const char *node)
{
    return root_on("e", ROOT_EXPORT, node_find(node), RW, PERM_ALL);
}

/* What drops a disk also looks whether the driver was asked well. */
static void co_fn drop(const char *node, struct disk *d)
{
    del(node);
    disk_free(d);
    ck_assert_ptr_null(atomic_load(&complaint));
}

static void expect(const struct extent *x, unsigned flags, uint64_t len, unsigned depth)
{
    ck_assert_uint_eq(x->flags, flags);
    ck_assert_uint_eq(x->len, len);
    ck_assert_uint_eq(x->depth, depth);
}

static void expect_at(const struct extent *x, const char *node, uint64_t offset)
{
    ck_assert(x->flags & EXTENT_OFFSET);
    ck_assert_str_eq(x->node->name, node);
    ck_assert_uint_eq(x->offset, offset);
}

enum { HERE = EXTENT_ALLOCATED | EXTENT_OFFSET };

CO_TEST(neighbours_that_say_the_same_are_joined)
{
    struct disk *d = add_mem("m", 16 * BLOCK, 512);
    struct root *r = seen("m");
    struct extent x;
    d->now[2 * BLOCK] = 1;
    d->now[3 * BLOCK] = 1;
    ck_assert_int_eq(do_status(r, 0, 16 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, 2 * BLOCK, 0);
    expect_at(&x, "m", 0);
    ck_assert_int_eq(do_status(r, 2 * BLOCK, 14 * BLOCK, &x), 0);
    expect(&x, EXTENT_DATA | HERE, 2 * BLOCK, 0);
    expect_at(&x, "m", 2 * BLOCK);
    ck_assert_int_eq(do_status(r, 4 * BLOCK, 12 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, 12 * BLOCK, 0);
    root_drop(r);
    drop("m", d);
}

CO_TEST(one_answer_is_a_bounded_amount_of_work)
{
    struct disk *d = add_mem("m", 1000 * BLOCK, 512);
    struct root *r = seen("m");
    struct extent x;
    unsigned answers = 0;
    for (uint64_t at = 0; at < 1000 * BLOCK; at += x.len, answers++) {
        ck_assert_int_eq(do_status(r, at, 1000 * BLOCK - at, &x), 0);
        ck_assert_uint_eq(x.flags, EXTENT_ZERO | HERE);
        ck_assert_uint_le(x.len, 16 * BLOCK);
    }
    ck_assert_uint_eq(answers, 63);
    root_drop(r);
    drop("m", d);
}

CO_TEST(any_byte_can_be_asked_about)
{
    struct disk *d = add_mem("m", 3 * BLOCK, 512);
    struct root *r = seen("m");
    struct extent x;
    d->now[BLOCK] = 1;
    ck_assert_int_eq(do_status(r, 100, 7, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, 7, 0);
    expect_at(&x, "m", 100);
    ck_assert_int_eq(do_status(r, BLOCK - 1, 2, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, 1, 0);
    ck_assert_int_eq(do_status(r, BLOCK + 1, 2 * BLOCK - 1, &x), 0);
    expect(&x, EXTENT_DATA | HERE, BLOCK - 1, 0);
    expect_at(&x, "m", BLOCK + 1);
    root_drop(r);
    drop("m", d);
}

CO_TEST(nothing_is_said_beyond_the_end)
{
    struct disk *d = add_mem("m", BLOCK + 100, 512); /* it ends in the middle of a block */
    struct root *r = seen("m");
    struct extent x;
    ck_assert_int_eq(do_status(r, BLOCK + 99, 1, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, 1, 0);
    ck_assert_int_eq(do_status(r, 0, BLOCK + 100, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, BLOCK + 100, 0);
    ck_assert_int_eq(do_status(r, 0, BLOCK + 101, &x), -EINVAL);
    ck_assert_int_eq(do_status(r, BLOCK + 100, 1, &x), -EINVAL);
    ck_assert_int_eq(do_status(r, BLOCK + 100, 0, &x), -EINVAL);
    ck_assert_int_eq(do_status(r, 0, 0, &x), -EINVAL);
    ck_assert_int_eq(do_status(r, 1, UINT64_MAX, &x), -EINVAL);
    ck_assert_int_eq(do_status(r, UINT64_MAX, 2, &x), -EINVAL);
    root_drop(r);
    drop("m", d);
}

/* ---- chains ---- */

enum { CLUSTERS = 64 };

static struct {
    struct disk *base, *mid, *top;
} chain;

/* top over mid over base, which has data in block 1 and ends after block 5. */
static struct root *co_fn build_chain(void)
{
    chain.base = add_mem("base", 5 * BLOCK + 512, 512);
    chain.mid = add_mem("midfile", COW_CLUSTER * COW_CLUSTERS, 512);
    chain.top = add_mem("topfile", COW_CLUSTER * COW_CLUSTERS, 512);
    chain.base->now[BLOCK] = 1;
    add("driver=cow,node-name=mid,file=midfile,backing=base");
    add("driver=cow,node-name=top,file=topfile,backing=mid");
    return seen("top");
}

static void co_fn drop_chain(struct root *r)
{
    root_drop(r);
    del("top");
    del("mid");
    drop("base", chain.base);
    drop("midfile", chain.mid);
    drop("topfile", chain.top);
}

/* Write a cluster by way of one layer. */
static void co_fn allocate(const char *layer, uint64_t cluster)
{
    struct root *r = root_on("w", ROOT_JOB, node_find(layer), RW, PERM_ALL);
    ck_assert_int_eq(do_fill(r, cluster * BLOCK, 7, BLOCK, 0), 0);
    root_drop(r);
}

CO_TEST(the_layer_that_decides_is_told_by_its_depth)
{
    struct root *r = build_chain();
    struct extent x;
    allocate("top", 3);
    allocate("mid", 2);
    ck_assert_int_eq(do_status(r, 0, COW_CLUSTER * COW_CLUSTERS, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, BLOCK, 2);
    expect_at(&x, "base", 0);
    ck_assert_int_eq(do_status(r, BLOCK, BLOCK * 10, &x), 0);
    expect(&x, EXTENT_DATA | HERE, BLOCK, 2);
    expect_at(&x, "base", BLOCK);
    ck_assert_int_eq(do_status(r, 2 * BLOCK, BLOCK * 10, &x), 0);
    expect(&x, EXTENT_DATA | HERE, BLOCK, 1);
    expect_at(&x, "midfile", 0);
    ck_assert_int_eq(do_status(r, 3 * BLOCK, BLOCK * 10, &x), 0);
    expect(&x, EXTENT_DATA | HERE, BLOCK, 0);
    expect_at(&x, "topfile", 0);
    drop_chain(r);
}

/* The base decides by being short; that is told apart from what it really has. */
CO_TEST(a_short_backing_file_reads_zero_past_its_end)
{
    struct root *r = build_chain();
    struct extent x;
    ck_assert_int_eq(do_status(r, 4 * BLOCK, BLOCK * 10, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, BLOCK + 512, 2);
    ck_assert_int_eq(do_status(r, 5 * BLOCK + 512, BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO | EXTENT_ALLOCATED, BLOCK, 2);
    ck_assert_int_eq(do_status(r, 7 * BLOCK, 9 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO | EXTENT_ALLOCATED, 9 * BLOCK, 2);
    drop_chain(r);
}

CO_TEST(without_a_backing_file_nobody_decides)
{
    struct disk *d = add_mem("m", COW_CLUSTER * COW_CLUSTERS, 512);
    add("driver=cow,node-name=c,file=m");
    struct root *r = seen("c");
    struct extent x;
    allocate("c", 1);
    allocate("c", 2);
    ck_assert_int_eq(do_status(r, 0, 10 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO, BLOCK, 0);
    /* Both are data, but lie at different places of the file: not one extent. */
    ck_assert_int_eq(do_status(r, BLOCK, 9 * BLOCK, &x), 0);
    expect(&x, EXTENT_DATA | HERE, BLOCK, 0);
    expect_at(&x, "m", 0);
    ck_assert_int_eq(do_status(r, 2 * BLOCK, 8 * BLOCK, &x), 0);
    expect_at(&x, "m", 7 * BLOCK);
    ck_assert_int_eq(do_status(r, 3 * BLOCK, 7 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO, 7 * BLOCK, 0);
    root_drop(r);
    del("c");
    drop("m", d);
}

/* A walk from end to end says of each block what the layers' own tables say. */
CO_TEST(a_walk_over_a_random_chain_agrees_with_its_tables)
{
    struct root *r = build_chain();
    uint64_t seed = test_seed();
    unsigned owner[CLUSTERS], blocks = 0;
    struct extent x;
    for (unsigned i = 0; i < CLUSTERS; i++) {
        owner[i] = (unsigned)below(&seed, 3);
        if (owner[i] < 2)
            allocate(owner[i] ? "mid" : "top", i);
    }
    for (uint64_t at = 0, end = CLUSTERS * BLOCK; at < end; at += x.len) {
        unsigned cluster = (unsigned)(at / BLOCK);
        ck_assert_int_eq(do_status(r, at, end - at, &x), 0);
        for (uint64_t b = at; b < at + x.len; b += 512, blocks++) {
            unsigned depth = owner[b / BLOCK];
            ck_assert_uint_eq(x.depth, depth);
            ck_assert_uint_eq(x.flags & EXTENT_DATA, depth < 2 || b / BLOCK == 1);
            ck_assert_int_eq(!!(x.flags & EXTENT_OFFSET), depth < 2 || b < 5 * BLOCK + 512);
        }
        if (owner[cluster] < 2) {
            uint64_t in = x.offset + at % BLOCK;
            struct disk *d = owner[cluster] ? chain.mid : chain.top;
            ck_assert_uint_eq(d->now[in], 7);
        }
    }
    ck_assert_uint_eq(blocks, CLUSTERS * BLOCK / 512);
    drop_chain(r);
}

/* Zero in its first block, and what lies below after that. */
static int co_fn half_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                             bool want_zero, struct extent *out)
{
    (void)n, (void)o, (void)want_zero;
    *out = (struct extent){ .len = len };
    if (offset >= BLOCK)
        return 0;
    out->flags = EXTENT_ZERO | EXTENT_ALLOCATED;
    if (offset + len > BLOCK)
        out->len = BLOCK - offset;
    return 0;
}

static const struct driver half_driver = { .name = "half",
                                           .kind = DRIVER_FORMAT,
                                           .flags = DRIVER_HAS_BACKING,
                                           .options = &toy_type,
                                           .open = format_open,
                                           .status = half_status };

/* Whatever lies there, how deep it lies is part of the answer. */
CO_TEST(zeroes_of_different_layers_are_not_joined)
{
    static const struct driver *const list[] = { &half_driver, NULL };
    struct disk *d = add_mem("m", 4 * BLOCK, 512);
    struct extent x;
    drivers_register(list);
    add("driver=null-co,node-name=z,read-zeroes=on");
    add("driver=half,node-name=h,file=m,backing=z");
    struct root *r = seen("h");
    ck_assert_int_eq(do_status(r, 0, 4 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO | EXTENT_ALLOCATED, BLOCK, 0);
    ck_assert_int_eq(do_status(r, BLOCK, 3 * BLOCK, &x), 0);
    expect(&x, EXTENT_ZERO | EXTENT_ALLOCATED, 3 * BLOCK, 1);
    root_drop(r);
    del("h");
    drop("m", d);
}

/* ---- drivers without a say ---- */

CO_TEST(a_window_tells_where_its_bytes_lie_in_the_file)
{
    struct disk *d = add_mem("m", 8 * BLOCK, 512);
    add("driver=raw,node-name=w,file=m,offset=1536,size=16384");
    add("driver=pass,node-name=f,file=w");
    struct root *r = seen("f");
    struct extent x;
    d->now[BLOCK] = 1;
    ck_assert_int_eq(do_status(r, 0, 16384, &x), 0);
    expect(&x, EXTENT_ZERO | HERE, BLOCK - 1536, 0);
    expect_at(&x, "m", 1536);
    ck_assert_int_eq(do_status(r, BLOCK - 1536, BLOCK, &x), 0);
    expect(&x, EXTENT_DATA | HERE, BLOCK, 0);
    expect_at(&x, "m", BLOCK);
    ck_assert_int_eq(do_status(r, 16383, 1, &x), 0);
    expect_at(&x, "m", 1536 + 16383);
    root_drop(r);
    del("f");
    del("w");
    drop("m", d);
}

CO_TEST(a_protocol_that_cannot_tell_has_data_everywhere)
{
    static const char *const drivers[] = { "bare", "memv" };
    for (unsigned i = 0; i < 2; i++) {
        char text[64];
        struct disk *d = disk_new(64 * BLOCK);
        struct extent x;
        drivers_register(io_drivers);
        snprintf(text, sizeof text, "driver=%s,node-name=m", drivers[i]);
        mem_node(text, d, 64 * BLOCK, (struct limits){ .alignment = 512 });
        struct root *r = seen("m");
        ck_assert_int_eq(do_status(r, 3, 64 * BLOCK - 3, &x), 0);
        expect(&x, EXTENT_DATA | HERE, 64 * BLOCK - 3, 0);
        expect_at(&x, "m", 3);
        root_drop(r);
        drop("m", d);
    }
}

/* ---- a driver that says what it is told to ---- */

static struct {
    int result;
    uint64_t fails_from; /* bytes */
    uint64_t len;        /* the longest answer */
    unsigned asked;
    bool want_zero;
} moody;

static int co_fn moody_status(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                              bool want_zero, struct extent *out)
{
    (void)n, (void)o;
    moody.asked++;
    moody.want_zero = want_zero;
    if (offset >= moody.fails_from)
        return moody.result;
    *out = (struct extent){ .flags = EXTENT_DATA, .len = len < moody.len ? len : moody.len };
    return 0;
}

static const struct driver moody_driver = { .name = "moody", MEM_CALLS, .status = moody_status };

static struct root *co_fn add_moody(struct disk *d)
{
    static const struct driver *const list[] = { &moody_driver, NULL };
    drivers_register(list);
    mem_node("driver=moody,node-name=m", d, 8 * BLOCK, (struct limits){ .alignment = 512 });
    return seen("m");
}

CO_TEST(an_error_at_the_beginning_is_told_and_a_later_one_shortens)
{
    struct disk *d = disk_new(8 * BLOCK);
    struct root *r = add_moody(d);
    struct extent x;
    moody.result = -ENOMEDIUM;
    moody.len = BLOCK;
    moody.fails_from = 3 * BLOCK;
    ck_assert_int_eq(do_status(r, 0, 8 * BLOCK, &x), 0);
    expect(&x, EXTENT_DATA | EXTENT_ALLOCATED, 3 * BLOCK, 0);
    ck_assert_int_eq(do_status(r, 3 * BLOCK, BLOCK, &x), -ENOMEDIUM);
    root_drop(r);
    drop("m", d);
}

CO_TEST(an_answer_that_does_not_reach_the_asked_byte_is_an_error)
{
    struct disk *d = disk_new(8 * BLOCK);
    struct root *r = add_moody(d);
    struct extent x;
    moody.fails_from = UINT64_MAX;
    moody.len = 0;
    ck_assert_int_eq(do_status(r, 0, BLOCK, &x), -EIO);
    moody.len = 100; /* of the block that begins 100 bytes before */
    ck_assert_int_eq(do_status(r, 100, BLOCK, &x), -EIO);
    moody.len = 101;
    ck_assert_int_eq(do_status(r, 100, 1, &x), 0);
    expect(&x, EXTENT_DATA | EXTENT_ALLOCATED, 1, 0);
    root_drop(r);
    drop("m", d);
}

CO_TEST(whoever_minds_allocation_only_says_so_to_the_driver)
{
    struct disk *d = disk_new(8 * BLOCK);
    struct root *r = add_moody(d);
    struct extent x;
    moody.fails_from = UINT64_MAX;
    moody.len = UINT64_MAX;
    ck_assert_int_eq(AS_OPERATION(r, io_status(&o, e, 0, BLOCK, false, &x)), 0);
    ck_assert(!moody.want_zero);
    ck_assert_int_eq(do_status(r, 0, BLOCK, &x), 0);
    ck_assert(moody.want_zero);
    ck_assert_uint_eq(moody.asked, 2);
    root_drop(r);
    drop("m", d);
}

int main(void)
{
    const TTest *const tests[] = { neighbours_that_say_the_same_are_joined,
                                   one_answer_is_a_bounded_amount_of_work,
                                   any_byte_can_be_asked_about,
                                   nothing_is_said_beyond_the_end,
                                   the_layer_that_decides_is_told_by_its_depth,
                                   a_short_backing_file_reads_zero_past_its_end,
                                   without_a_backing_file_nobody_decides,
                                   a_walk_over_a_random_chain_agrees_with_its_tables,
                                   zeroes_of_different_layers_are_not_joined,
                                   a_window_tells_where_its_bytes_lie_in_the_file,
                                   a_protocol_that_cannot_tell_has_data_everywhere,
                                   an_error_at_the_beginning_is_told_and_a_later_one_shortens,
                                   an_answer_that_does_not_reach_the_asked_byte_is_an_error,
                                   whoever_minds_allocation_only_says_so_to_the_driver,
                                   NULL };
    return run_tests("status", tests);
}
