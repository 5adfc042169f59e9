/* SPDX-License-Identifier: MIT */
/* block/stats.c: every counter of devices and nodes, over several rings, by a clock that the test moves. */
#include "block/io.h"
#include "block/stats.h"
#include "tests/unit/graph-fixture.h"

static struct device_stats *s;

static struct device_sum sum(void)
{
    struct device_sum d;
    device_stats_sum(s, &d);
    return d;
}

/* A request on some ring. */
struct request {
    enum io_kind kind;
    uint64_t bytes, latency;
    int result;
};

static int co_fn one(void *arg)
{
    const struct request *r = arg;
    uint64_t since = device_begin(s, r->kind);
    virtual_advance(r->latency);
    device_done(s, r->kind, r->bytes, since, r->result);
    return 0;
}

static void co_fn on_ring(unsigned ring, enum io_kind kind, uint64_t bytes, uint64_t latency,
                          int result)
{
    struct request r = { kind, bytes, latency, result };
    ck_assert_int_eq(ring_call(ring_started(ring), one, &r), 0);
}

static int co_fn one_invalid(void *arg)
{
    device_invalid(s, *(enum io_kind *)arg);
    return 0;
}

static void co_fn invalid_on_ring(unsigned ring, enum io_kind kind)
{
    ck_assert_int_eq(ring_call(ring_started(ring), one_invalid, &kind), 0);
}

static void new_device(bool account_invalid, bool account_failed)
{
    s = device_stats_new(account_invalid, account_failed, NULL, 0);
    ck_assert_ptr_nonnull(s);
}

CO_TEST(each_kind_has_its_own_counters_and_rings_are_added_up)
{
    new_device(true, true);
    for (unsigned kind = 0; kind < IO_KINDS; kind++) {
        for (unsigned ring = 0; ring < 3; ring++) {
            for (unsigned i = 0; i <= kind; i++)
                on_ring(ring, kind, 512 + kind, 1000 * (kind + 1), 0);
            for (unsigned i = 0; i < kind + 2; i++)
                on_ring(ring, kind, 4096, 10, -EIO);
            for (unsigned i = 0; i < kind + 5; i++)
                invalid_on_ring(ring, kind);
        }
    }
    struct device_sum d = sum();
    for (uint64_t kind = 0; kind < IO_KINDS; kind++) {
        ck_assert_uint_eq(d.done.operations[kind], 3 * (kind + 1));
        ck_assert_uint_eq(d.done.bytes[kind], 3 * (kind + 1) * (512 + kind));
        ck_assert_uint_eq(d.done.merged[kind], 0);
        ck_assert_uint_eq(d.failed[kind], 3 * (kind + 2));
        ck_assert_uint_eq(d.invalid[kind], 3 * (kind + 5));
        ck_assert_uint_eq(d.time[kind], 3 * (kind + 1) * 1000 * (kind + 1) + 3 * (kind + 2) * 10);
    }
    device_stats_free(s);
}

CO_TEST(many_at_once_are_told_apart)
{
    new_device(true, true);
    uint64_t first = device_begin(s, IO_READ);
    virtual_advance(100);
    uint64_t second = device_begin(s, IO_READ);
    virtual_advance(1000);
    device_done(s, IO_READ, 1, first, 0);
    virtual_advance(10000);
    device_done(s, IO_READ, 2, second, 0);
    ck_assert_uint_eq(sum().time[IO_READ], 1100 + 11000);
    ck_assert_uint_eq(sum().done.bytes[IO_READ], 3);
    device_done(s, IO_READ, 0, ring_now() + 1000000,
                0); /* from a clock that is ahead: no time at all */
    ck_assert_uint_eq(sum().time[IO_READ], 1100 + 11000);
    device_stats_free(s);
}

/* Failed requests count in times and as accesses, invalid ones as accesses: where they are said to. */
CO_TEST(account_invalid_and_account_failed)
{
    for (unsigned i = 0; i < 4; i++) {
        bool invalid = i & 1, failed = i & 2;
        new_device(invalid, failed);
        ck_assert(s->account_invalid == invalid && s->account_failed == failed);
        ck_assert(!sum().has_idle);
        invalid_on_ring(1, IO_WRITE);
        ck_assert_int_eq(sum().has_idle, invalid);
        virtual_advance(500);
        ck_assert_uint_eq(sum().idle, invalid ? 500 : 0);
        on_ring(2, IO_WRITE, 4096, 40, -ENOSPC);
        ck_assert_int_eq(sum().has_idle, invalid || failed);
        ck_assert_uint_eq(sum().idle, failed ? 0 : invalid ? 540 : 0);
        ck_assert_uint_eq(sum().time[IO_WRITE], failed ? 40 : 0);
        on_ring(1, IO_WRITE, 4096, 7, 0);
        virtual_advance(300);
        ck_assert(sum().has_idle);
        ck_assert_uint_eq(sum().idle, 300);
        invalid_on_ring(2, IO_READ);
        ck_assert_uint_eq(sum().idle, invalid ? 0 : 300);
        on_ring(1, IO_FLUSH, 0, 1000, -EIO);
        virtual_advance(1);
        ck_assert_uint_eq(sum().idle, failed ? 1 : (invalid ? 0 : 300) + 1001);
        /* Whatever the settings, they are told apart. */
        struct device_sum d = sum();
        ck_assert_uint_eq(d.invalid[IO_WRITE], 1);
        ck_assert_uint_eq(d.invalid[IO_READ], 1);
        ck_assert_uint_eq(d.failed[IO_WRITE], 1);
        ck_assert_uint_eq(d.failed[IO_FLUSH], 1);
        ck_assert_uint_eq(d.failed[IO_READ], 0);
        ck_assert_uint_eq(d.done.operations[IO_WRITE], 1);
        ck_assert_uint_eq(d.done.bytes[IO_WRITE], 4096);
        ck_assert_uint_eq(d.done.operations[IO_FLUSH], 0);
        ck_assert_uint_eq(d.time[IO_WRITE], failed ? 47 : 7);
        device_stats_free(s);
    }
}

/* ---- histograms ---- */

static const uint64_t bounds[] = { 10, 100 };

static void co_fn set(enum io_kind kind, const uint64_t *boundaries, size_t count)
{
    autoerr err = { 0 };
    must(device_set_histogram(s, kind, boundaries, count, &err), &err);
}

static void expect_bins(enum io_kind kind, uint64_t a, uint64_t b, uint64_t c)
{
    struct histogram h;
    ck_assert_int_eq(device_stats_histogram(s, kind, &h), 0);
    ck_assert_ptr_nonnull(h.bins);
    ck_assert_uint_eq(h.boundary_count, 2);
    ck_assert(h.boundaries[0] == bounds[0] && h.boundaries[1] == bounds[1]);
    ck_assert_uint_eq(h.bins[0], a);
    ck_assert_uint_eq(h.bins[1], b);
    ck_assert_uint_eq(h.bins[2], c);
    histogram_free(&h);
}

static void expect_none(enum io_kind kind)
{
    struct histogram h;
    ck_assert_int_eq(device_stats_histogram(s, kind, &h), 0);
    ck_assert_ptr_null(h.bins);
}

/* Failed ones are in it whatever account-failed says. */
CO_TEST(a_histogram_counts_all_that_ended)
{
    new_device(true, false);
    on_ring(1, IO_READ, 1, 5, 0);
    expect_none(IO_READ);
    set(IO_READ, bounds, 2);
    expect_bins(IO_READ, 0, 0, 0);
    expect_none(IO_WRITE);
    on_ring(1, IO_READ, 1, 9, 0);
    on_ring(1, IO_READ, 1, 10, -EIO);
    on_ring(2, IO_READ, 1, 99, 0); /* this ring had no part before */
    on_ring(0, IO_READ, 1, 100, 0);
    on_ring(1, IO_READ, 1, 100000, -EIO);
    on_ring(1, IO_WRITE, 1, 9, 0);
    invalid_on_ring(1, IO_READ);
    expect_bins(IO_READ, 1, 2, 2);
    expect_none(IO_WRITE);
    device_stats_free(s);
}

CO_TEST(new_boundaries_begin_anew_and_none_take_it_away)
{
    static const uint64_t other[] = { 7 }, bad[] = { 7, 7 };
    autoerr err = { 0 };
    new_device(true, true);
    for (unsigned kind = 0; kind < IO_KINDS; kind++)
        set(kind, bounds, 2);
    for (unsigned ring = 0; ring < 3; ring++)
        on_ring(ring, IO_FLUSH, 0, 50, 0);
    expect_bins(IO_FLUSH, 0, 3, 0);
    ck_assert_int_eq(device_set_histogram(s, IO_FLUSH, bad, 2, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "Histogram boundaries must be ascending and greater than 0");
    on_ring(1, IO_FLUSH, 0, 5, 0);
    expect_bins(IO_FLUSH, 1, 3, 0);
    set(IO_FLUSH, bounds, 2);
    expect_bins(IO_FLUSH, 0, 0, 0);
    on_ring(2, IO_FLUSH, 0, 500, 0);
    expect_bins(IO_FLUSH, 0, 0, 1);
    set(IO_FLUSH, other, 1);
    on_ring(2, IO_FLUSH, 0, 500, 0);
    struct histogram h;
    ck_assert_int_eq(device_stats_histogram(s, IO_FLUSH, &h), 0);
    ck_assert(h.boundary_count == 1 && h.bins[0] == 0 && h.bins[1] == 1);
    histogram_free(&h);
    set(IO_FLUSH, NULL, 0);
    on_ring(2, IO_FLUSH, 0, 500, 0);
    expect_none(IO_FLUSH);
    on_ring(2, IO_READ, 0, 500, 0);
    expect_bins(IO_READ, 0, 0, 1);
    device_stats_free(s);
}

/* ---- intervals ---- */

#define SECOND ((uint64_t)1000000000)

static struct interval_sum co_fn interval(unsigned index)
{
    struct interval_sum i;
    ck_assert_int_eq(device_stats_interval(s, index, &i), 0);
    return i;
}

CO_TEST(an_interval_tells_the_shortest_the_longest_and_the_average)
{
    static const uint32_t seconds[] = { 1, 0, 10 };
    struct interval_sum i;
    s = device_stats_new(true, false, seconds, 3);
    ck_assert_uint_eq(interval(0).seconds, 1);
    ck_assert_uint_eq(interval(1).seconds, 1); /* none at all makes no sense */
    ck_assert_uint_eq(interval(2).seconds, 10);
    ck_assert_int_eq(device_stats_interval(s, 3, &i), -EINVAL);
    i = interval(0);
    ck_assert(!i.min[IO_READ] && !i.max[IO_READ] && !i.average[IO_READ]);
    on_ring(1, IO_READ, 1, 100, 0);
    on_ring(2, IO_READ, 1, 400, 0);
    on_ring(2, IO_READ, 1, 103, 0);
    on_ring(2, IO_READ, 1, 7, -EIO); /* not accounted here */
    on_ring(1, IO_WRITE, 1, 50, 0);
    for (unsigned index = 0; index < 3; index++) {
        i = interval(index);
        ck_assert_uint_eq(i.min[IO_READ], 100);
        ck_assert_uint_eq(i.max[IO_READ], 400);
        ck_assert_uint_eq(i.average[IO_READ], 201);
        ck_assert_uint_eq(i.min[IO_WRITE], 50);
        ck_assert_uint_eq(i.max[IO_FLUSH], 0);
    }
    virtual_advance(2 * SECOND);
    ck_assert_uint_eq(interval(0).max[IO_READ], 0);
    ck_assert_uint_eq(interval(1).average[IO_READ], 0);
    ck_assert_uint_eq(interval(2).max[IO_READ], 400);
    virtual_advance(10 * SECOND);
    ck_assert_uint_eq(interval(2).max[IO_READ], 0);
    device_stats_free(s);
}

/* Three requests of half a second each, one after the other, are one and a half at work on average in a
 * second that is over. */
CO_TEST(an_interval_tells_the_queue_depth)
{
    static const uint32_t seconds[] = { 2 };
    s = device_stats_new(true, true, seconds, 1);
    virtual_advance(4 * SECOND);
    uint64_t since = ring_now();
    virtual_advance(SECOND / 2);
    for (unsigned i = 0; i < 3; i++)
        device_done(s, IO_WRITE, 512, since, 0);
    virtual_advance(SECOND / 2 - 1);
    /* The window began at 3 s, now it is almost 5 s. */
    double depth = interval(0).queue_depth[IO_WRITE];
    ck_assert_double_gt(depth, 0.7499);
    ck_assert_double_lt(depth, 0.7501);
    ck_assert_double_eq(interval(0).queue_depth[IO_READ], 0);
    device_stats_free(s);
}

CO_TEST(what_is_done_at_once_is_counted_together)
{
    static const uint32_t seconds[] = { 10 };
    s = device_stats_new(true, true, seconds, 1);
    set(IO_WRITE, bounds, 2);
    device_done_at_once(s, IO_WRITE, 3, 4096, 50);
    on_ring(1, IO_WRITE, 512, 350, 0);
    ck_assert_uint_eq(sum().done.operations[IO_WRITE], 4);
    ck_assert_uint_eq(sum().done.bytes[IO_WRITE], 4096 + 512);
    ck_assert_uint_eq(sum().time[IO_WRITE], 3 * 50 + 350);
    ck_assert(sum().has_idle);
    ck_assert_uint_eq(interval(0).min[IO_WRITE], 50);
    ck_assert_uint_eq(interval(0).max[IO_WRITE], 350);
    ck_assert_uint_eq(interval(0).average[IO_WRITE], (3 * 50 + 350) / 4);
    expect_bins(IO_WRITE, 0, 3, 1);
    device_stats_free(s);
}

/* ---- nodes ---- */

static struct root *x;

static int co_fn use(void *arg)
{
    uint8_t buf[512] = { 0 };
    const struct span v = { .p = buf, .len = sizeof buf };
    struct operation o;
    (void)arg;
    operation_enter(&o, x);
    int r = io_read(&o, root_edge(x), 0, &v, 1, 0) | io_write(&o, root_edge(x), 512, &v, 1, 0) |
            io_write(&o, root_edge(x), 2048, &v, 1, 0) | io_zero(&o, root_edge(x), 4096, 1024, 0) |
            io_discard(&o, root_edge(x), 0, 8192) | io_flush(&o, root_edge(x));
    operation_end(&o);
    return r;
}

CO_TEST(a_node_counts_what_reaches_it_on_any_ring)
{
    struct node *n = add("driver=null-co,node-name=n,discard=unmap");
    struct node *r = add("driver=raw,node-name=r,file=n,offset=4096,discard=unmap");
    x = root_on("x", ROOT_EXPORT, r, PERM_READ | PERM_WRITE, PERM_ALL);
    for (unsigned ring = 0; ring < 3; ring++)
        ck_assert_int_eq(ring_call(ring_started(ring), use, NULL), 0);
    ck_assert_int_eq(ring_call(ring_started(1), use, NULL), 0);
    struct node *const nodes[] = { r, n };
    for (unsigned i = 0; i < 2; i++) {
        struct io_counters c;
        node_stats_sum(nodes[i], &c);
        ck_assert_uint_eq(c.operations[IO_READ], 4);
        ck_assert_uint_eq(c.bytes[IO_READ], 4 * 512);
        ck_assert_uint_eq(c.operations[IO_WRITE], 4 * 3);
        ck_assert_uint_eq(c.bytes[IO_WRITE], 4 * 2048);
        ck_assert_uint_eq(c.operations[IO_UNMAP], 4);
        ck_assert_uint_eq(c.bytes[IO_UNMAP], 4 * 8192);
        ck_assert_uint_eq(c.operations[IO_FLUSH], 4);
        ck_assert_uint_eq(c.bytes[IO_FLUSH], 0);
        ck_assert_uint_eq(c.operations[IO_ZONE_APPEND], 0);
        ck_assert_uint_eq(nodes[i]->stats.highest_write_end, i ? 4096 + 5120 : 5120);
    }
    root_drop(x);
}

START_TEST(sums_take_in_every_member)
{
    struct io_counters all = { 0 }, from;
    for (unsigned kind = 0; kind < IO_KINDS; kind++) {
        from.bytes[kind] = 1 + kind;
        from.operations[kind] = 100 + kind;
        from.merged[kind] = 1000 + kind;
    }
    io_counters_sum(&all, &from);
    io_counters_sum(&all, &from);
    for (unsigned kind = 0; kind < IO_KINDS; kind++) {
        ck_assert_uint_eq(all.bytes[kind], 2 * from.bytes[kind]);
        ck_assert_uint_eq(all.operations[kind], 2 * from.operations[kind]);
        ck_assert_uint_eq(all.merged[kind], 2 * from.merged[kind]);
    }
    _Atomic uint64_t most = 5;
    raise_to(&most, 4);
    ck_assert_uint_eq(most, 5);
    raise_to(&most, 6);
    ck_assert_uint_eq(most, 6);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = { each_kind_has_its_own_counters_and_rings_are_added_up,
                                   many_at_once_are_told_apart,
                                   account_invalid_and_account_failed,
                                   a_histogram_counts_all_that_ended,
                                   what_is_done_at_once_is_counted_together,
                                   new_boundaries_begin_anew_and_none_take_it_away,
                                   an_interval_tells_the_shortest_the_longest_and_the_average,
                                   an_interval_tells_the_queue_depth,
                                   a_node_counts_what_reaches_it_on_any_ring,
                                   sums_take_in_every_member,
                                   NULL };
    return run_tests("stats", tests);
}
