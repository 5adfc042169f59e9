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
static unsigned order_used;

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

static void budget_main(void)
{
    void *p[10];

    pool_set_budget(10 * 4096);
    for (int i = 0; i < 10; i++)
        ck_assert_ptr_nonnull(p[i] = buffer_get(4096));
    ck_assert_ptr_null(buffer_get(1));
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
    void *huge = buffer_get(1 << 20); /* larger than the whole budget: alone it may */
    ck_assert_ptr_nonnull(huge);
    ck_assert_ptr_null(buffer_get(1));
    buffer_put(huge, 1 << 20);
}

START_TEST(the_budget)
{
    run_co(budget_main);
}
END_TEST

enum { PAGE = 4096, ACCOUNTS = 100 };

/* However many hold whatever they may have, the next one has its own. */
static void accounts_main(void)
{
    struct pool_account a[ACCOUNTS] = { { .own = 2 * PAGE } };
    unsigned first = 0, all = 0;

    pool_set_budget(64 * PAGE);
    for (int i = 0; i < ACCOUNTS; i++) {
        a[i].own = 2 * PAGE;
        while (account_may(&a[i], PAGE)) {
            ck_assert_ptr_nonnull(account_get(&a[i], PAGE));
            all++;
            first += i == 0;
        }
        ck_assert_ptr_null(account_get(&a[i], PAGE));
        ck_assert_uint_ge(a[i].held, a[i].own);
    }
    ck_assert_uint_eq(first, 2 + 21); /* 21 are half of the 43 that it leaves */
    ck_assert_uint_le(all, 2 * ACCOUNTS + 64);
    void *p = buffer_get(PAGE); /* a little is left to those without an account */
    ck_assert_ptr_nonnull(p);
    buffer_put(p, PAGE);
}

START_TEST(no_account_starves_the_others)
{
    run_co(accounts_main);
}
END_TEST

static void balance_main(void)
{
    struct pool_account a = { .own = 3 * PAGE };

    pool_set_budget(10 * PAGE);
    void *own = account_get(&a, 2 * PAGE), *both = account_get_anyway(&a, 8 * PAGE);
    ck_assert_uint_eq(a.held, 10 * PAGE); /* 7 of them in the budget */
    ck_assert_ptr_null(account_get(&a, PAGE));
    void *rest[3];
    for (int i = 0; i < 3; i++)
        ck_assert_ptr_nonnull(rest[i] = buffer_get(PAGE));
    ck_assert_ptr_null(buffer_get(PAGE));
    co_start(waits_small, NULL, "small");
    co_pause();
    ck_assert_uint_eq(order_used, 0);
    account_put(&a, own, 2 * PAGE); /* the others are its own now, as far as they go */
    co_sleep(NS_PER_MS);
    ck_assert_str_eq(order, "s");
    account_put(&a, both, 8 * PAGE);
    account_put(&a, NULL, PAGE);
    ck_assert_uint_eq(a.held, 0);
    for (int i = 0; i < 3; i++)
        buffer_put(rest[i], PAGE);
    void *all = buffer_get(8 * PAGE);
    ck_assert_ptr_nonnull(all);
    ck_assert_ptr_nonnull(rest[0] = buffer_get(2 * PAGE));
    buffer_put(all, 8 * PAGE);
    buffer_put(rest[0], 2 * PAGE);
}

START_TEST(an_account_pays_beyond_its_own)
{
    run_co(balance_main);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pool");
    TCase *t = tcase_create("pool");

    tcase_add_checked_fixture(t, rings_up, rings_down);
    tcase_add_test(t, sizes_and_reuse);
    tcase_add_test(t, the_budget);
    tcase_add_test(t, no_account_starves_the_others);
    tcase_add_test(t, an_account_pays_beyond_its_own);
    suite_add_tcase(s, t);
    return run_suite(s);
}
