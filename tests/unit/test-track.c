/* SPDX-License-Identifier: MIT */
/*
 * Overlap tracking on virtual rings, in every order of steps that a few
 * preemptions allow: who overlaps a serialising request is never inside with
 * it, whoever doesn't is not held up, and all come to their ends.
 */
#include "tests/unit/io-fixture.h"

#include "block/track.h"

enum { MIB = 1 << 20, MAX = 5 };

struct request {
    unsigned ring;
    uint64_t offset, len;
    bool serialising;
    unsigned then; /* 1 + the index of a request that this one makes inside, on another table */
};

static struct tracked_requests *tables[2];
static const struct request *requests;
static unsigned request_count, nested, ended;
static struct {
    bool inside;
    unsigned table;
} state[MAX];
static bool violated;
static unsigned met[MAX][MAX]; /* how often two were inside at once, over all runs */

static bool overlap(const struct request *a, const struct request *b)
{
    return a->offset < b->offset + b->len && b->offset < a->offset + a->len;
}

static void enter_checked(unsigned i, unsigned table)
{
    state[i].inside = true;
    state[i].table = table;
    for (unsigned j = 0; j < request_count; j++) {
        if (j == i || !state[j].inside || state[j].table != table)
            continue;
        met[i][j]++;
        if (overlap(&requests[i], &requests[j]) &&
            (requests[i].serialising || requests[j].serialising))
            violated = true;
    }
}

static void co_fn act(unsigned i, unsigned table)
{
    const struct request *q = &requests[i];
    struct tracked t;
    track_begin(tables[table], &t, q->offset, q->len, q->serialising);
    enter_checked(i, table);
    co_pause();
    if (q->then)
        act(q->then - 1, table + 1);
    state[i].inside = false;
    track_end(&t);
    ended++;
}

static void actor(void *arg)
{
    act((unsigned)(uintptr_t)arg, 0);
}

static void setup(void)
{
    for (unsigned i = 0; i < 2; i++) {
        tracked_requests_free(tables[i]);
        tables[i] = tracked_requests_new();
    }
    memset(state, 0, sizeof state);
    ended = 0;
    for (unsigned i = 0; i < request_count - nested; i++)
        virtual_spawn(requests[i].ring, actor, (void *)(uintptr_t)i, "request");
}

static bool all_well(void)
{
    return !violated && ended == request_count;
}

static long explore(const struct request *list, unsigned count, unsigned inner)
{
    requests = list;
    request_count = count;
    nested = inner;
    violated = false;
    memset(met, 0, sizeof met);
    long runs = virtual_explore_bounded(2, setup, all_well, 20000, 2);
    for (unsigned i = 0; i < 2; i++) {
        tracked_requests_free(tables[i]);
        tables[i] = NULL;
    }
    return runs;
}

START_TEST(serialising_keeps_others_out)
{
    static const struct request list[] = {
        { 0, 0, 4096, true, 0 },
        { 1, 2048, 4096, false, 0 },
        { 2, 4000, 100, true, 0 },
        { 1, 8192, 512, false, 0 },
    };
    ck_assert_int_gt(explore(list, 4, 0), 10);
    ck_assert_uint_eq(met[0][1] + met[1][0] + met[0][2] + met[2][0] + met[1][2] + met[2][1], 0);
    ck_assert_uint_gt(met[0][3] + met[3][0], 0); /* no overlap: together */
}
END_TEST

START_TEST(plain_ones_pass_each_other)
{
    static const struct request list[] = {
        { 0, 0, 4096, false, 0 },
        { 1, 0, 4096, false, 0 },
        { 2, 100, 4096, false, 0 },
    };
    ck_assert_int_gt(explore(list, 3, 0), 10);
    ck_assert_uint_gt(met[0][1] + met[1][0], 0);
    ck_assert_uint_gt(met[1][2] + met[2][1], 0);
}
END_TEST

/* Long requests that meet in several shards, some of them all, begun on different ends. */
START_TEST(many_shards)
{
    static const struct request list[] = {
        { 0, 0, 40ull * MIB, true, 0 },
        { 1, 15ull * MIB, 2ull * MIB, true, 0 },
        { 2, 16ull * MIB - 1, 2, false, 0 },
        { 1, 39ull * MIB, 3ull * MIB, true, 0 },
    };
    ck_assert_int_gt(explore(list, 4, 0), 10);
    ck_assert_uint_eq(met[0][1] + met[1][0] + met[0][3] + met[3][0] + met[1][2] + met[2][1], 0);
    ck_assert_uint_gt(met[1][3] + met[3][1], 0);
}
END_TEST

/* A range above, then one below: as in a chain.  No order of steps makes a circle of waiters. */
START_TEST(two_tables)
{
    static const struct request list[] = {
        { 0, 0, 4096, true, 4 }, { 1, 0, 8192, true, 5 }, { 2, 4096, 4096, false, 0 },
        { 0, 0, 4096, true, 0 }, { 1, 0, 4096, true, 0 },
    };
    ck_assert_int_gt(explore(list, 5, 2), 10);
}
END_TEST

/* Who came first goes first: a stream of plain requests does not starve a serialising one. */
START_TEST(in_order_of_arrival)
{
    static const struct request list[] = {
        { 0, 0, 4096, false, 0 },
        { 0, 0, 4096, true, 0 },
        { 0, 0, 4096, false, 0 },
    };
    requests = list;
    request_count = 3;
    nested = 0;
    violated = false;
    memset(met, 0, sizeof met);
    virtual_rings_init(1);
    setup();
    ck_assert(virtual_run());
    ck_assert(all_well());
    ck_assert_uint_eq(met[2][0] + met[0][2], 0); /* the third did not overtake the second */
    virtual_rings_exit();
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        serialising_keeps_others_out,
        plain_ones_pass_each_other,
        many_shards,
        two_tables,
        in_order_of_arrival,
        NULL,
    };
    return run_tests("track", tests);
}
