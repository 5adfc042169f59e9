/* SPDX-License-Identifier: MIT */
/* Buffers: sizes, alignment, reuse, the budget and who waits for it. */
#include <errno.h>
#include <string.h>

#include "tests/unit/ring-fixture.h"
#include "uring/await.h"
#include "uring/pool.h"

static void sizes(void)
{
    static const size_t lens[] = { 1,       4095,    4096,       4097,           65536,
                                   65537,   1 << 20, BUFFER_MAX, BUFFER_MAX + 1, BUFFER_MAX * 2,
                                   1000000, 8192,    8191 };

    pool_set_budget((size_t)1 << 30);
    for (unsigned i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        unsigned char *p = buffer_get(lens[i]);
        ck_assert_ptr_nonnull(p);
        ck_assert_uint_eq((uintptr_t)p % BUFFER_ALIGN, 0);
        p[0] = p[lens[i] - 1] = 1;
        buffer_put(p, lens[i]);
    }
    buffer_put(NULL, 5);
    void *p = buffer_get(5000);
    buffer_put(p, 5000);
    ck_assert_ptr_eq(buffer_get(8192), p); /* same class, last used first */
    buffer_put(p, 8192);
    ck_assert(pool_has_idle(this_ring));
    pool_trim();
    pool_trim();
    ck_assert(!pool_has_idle(this_ring));
}

START_TEST(sizes_and_reuse)
{
    run_co(sizes);
}
END_TEST

static char order[8];
static unsigned order_used, notified;

static void waits_big(void *arg)
{
    (void)arg;
    void *p = buffer_wait(8 << 12);
    order[order_used++] = 'b';
    buffer_put(p, 8 << 12);
}

static void waits_small(void *arg)
{
    (void)arg;
    void *p = buffer_wait(4096);
    order[order_used++] = 's';
    buffer_put(p, 4096);
}

static void came_back(struct pool_waiter *w)
{
    (void)w;
    ck_assert(!pool_tight());
    notified++;
}

static void budget_main(void)
{
    void *p[10];
    struct pool_waiter w = { .fn = came_back }, forgotten = { .fn = came_back };

    pool_set_budget(10 * 4096);
    pool_forget(&forgotten); /* never waited: fine */
    for (int i = 0; i < 10; i++)
        ck_assert_ptr_nonnull(p[i] = buffer_get(4096));
    ck_assert(pool_tight());
    ck_assert_ptr_null(buffer_get(1));
    pool_notify(&w);
    pool_notify(&forgotten);
    pool_forget(&forgotten);
    co_start(waits_big, NULL, "big");
    co_start(waits_small, NULL, "small");
    co_pause();
    buffer_put(p[9], 4096);
    co_pause();
    ck_assert_uint_eq(order_used, 0);  /* room for the second, who waits behind the first */
    ck_assert_ptr_null(buffer_get(1)); /* and nobody passes them */
    for (int i = 0; i < 9; i++)
        buffer_put(p[i], 4096);
    co_sleep(NS_PER_MS);
    ck_assert_str_eq(order, "bs");
    ck_assert_uint_eq(notified, 1);
    ck_assert(!pool_tight());
    void *huge = buffer_get(1 << 20); /* larger than the whole budget: alone it may */
    ck_assert_ptr_nonnull(huge);
    ck_assert_ptr_null(buffer_get(1));
    buffer_put(huge, 1 << 20);
    pool_notify(&w); /* not tight: soon */
    co_sleep(NS_PER_MS);
    ck_assert_uint_eq(notified, 2);
}

START_TEST(the_budget)
{
    run_co(budget_main);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pool");
    TCase *t = tcase_create("pool");

    tcase_add_checked_fixture(t, rings_up, rings_down);
    tcase_add_test(t, sizes_and_reuse);
    tcase_add_test(t, the_budget);
    suite_add_tcase(s, t);
    return run_suite(s);
}
