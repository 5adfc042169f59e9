/* SPDX-License-Identifier: MIT */
/* block/interval.c: which requests a query sees, against a plain list of all that ever ended. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "block/interval.h"

#define HALF ((uint64_t)500000000)

START_TEST(time_is_cut_in_halves)
{
    ck_assert_uint_eq(interval_half(0, 1), 1);
    ck_assert_uint_eq(interval_half(HALF - 1, 1), 1);
    ck_assert_uint_eq(interval_half(HALF, 1), 2);
    ck_assert_uint_eq(interval_half(HALF * 60 - 1, 60), 1);
    ck_assert_uint_eq(interval_half(HALF * 60, 60), 2);
    ck_assert_uint_eq(interval_half(HALF * UINT32_MAX, UINT32_MAX), 2);
    /* What is shown began with the half before. */
    ck_assert_uint_eq(interval_elapsed(0, 1), HALF);
    ck_assert_uint_eq(interval_elapsed(HALF - 1, 1), 2 * HALF - 1);
    ck_assert_uint_eq(interval_elapsed(HALF, 1), HALF);
    ck_assert_uint_eq(interval_elapsed(HALF * 11 + 7, 10), HALF * 11 + 7);
}
END_TEST

static struct latencies shown(const struct interval_stats *s, uint64_t half, enum io_kind kind)
{
    struct latencies kinds[IO_KINDS] = { 0 };
    interval_merge(s, half, kinds);
    return kinds[kind];
}

static void expect(struct latencies l, uint64_t count, uint64_t sum, uint64_t min, uint64_t max)
{
    ck_assert_uint_eq(l.count, count);
    ck_assert_uint_eq(l.sum, sum);
    ck_assert_uint_eq(l.min, min);
    ck_assert_uint_eq(l.max, max);
}

START_TEST(a_request_is_shown_for_half_an_interval_at_least_and_one_at_most)
{
    struct interval_stats s = { 0 };
    interval_add(&s, 5, IO_READ, 30);
    interval_add(&s, 5, IO_READ, 10);
    interval_add(&s, 5, IO_WRITE, 7);
    expect(shown(&s, 5, IO_READ), 2, 40, 10, 30);
    expect(shown(&s, 6, IO_READ), 2, 40, 10, 30);
    expect(shown(&s, 6, IO_WRITE), 1, 7, 7, 7);
    expect(shown(&s, 6, IO_FLUSH), 0, 0, 0, 0);
    expect(shown(&s, 7, IO_READ), 0, 0, 0, 0);
    /* The half after sees both, the one after that only the younger. */
    interval_add(&s, 6, IO_READ, 50);
    expect(shown(&s, 6, IO_READ), 3, 90, 10, 50);
    expect(shown(&s, 7, IO_READ), 1, 50, 50, 50);
    expect(shown(&s, 8, IO_READ), 0, 0, 0, 0);
    /* After a long silence nothing old comes back. */
    interval_add(&s, 106, IO_READ, 3);
    expect(shown(&s, 106, IO_READ), 1, 3, 3, 3);
    expect(shown(&s, 107, IO_READ), 1, 3, 3, 3);
}
END_TEST

START_TEST(the_first_half_is_shown_too)
{
    struct interval_stats s = { 0 };
    expect(shown(&s, 1, IO_READ), 0, 0, 0, 0);
    interval_add(&s, 1, IO_READ, 9);
    expect(shown(&s, 1, IO_READ), 1, 9, 9, 9);
    expect(shown(&s, 2, IO_READ), 1, 9, 9, 9);
    expect(shown(&s, 3, IO_READ), 0, 0, 0, 0);
}
END_TEST

START_TEST(rings_are_added_up)
{
    struct interval_stats rings[3] = { 0 };
    struct latencies kinds[IO_KINDS] = { 0 };
    interval_add(&rings[0], 4, IO_WRITE, 0); /* no time at all is a latency, too */
    interval_add(&rings[1], 3, IO_WRITE, 20);
    interval_add(&rings[2], 3, IO_WRITE, 10);
    interval_add(&rings[2], 4, IO_FLUSH, 5);
    for (unsigned i = 0; i < 3; i++)
        interval_merge(&rings[i], 4, kinds);
    expect(kinds[IO_WRITE], 3, 30, 0, 20);
    expect(kinds[IO_FLUSH], 1, 5, 5, 5);
}
END_TEST

enum { REQUESTS = 5000 };

/* One latency among many, from the list of all. */
static struct latencies by_list(const uint64_t *ages, const uint64_t *latencies, unsigned count,
                                uint64_t from)
{
    struct latencies l = { 0 };
    for (unsigned i = 0; i < count; i++) {
        if (ages[i] < from)
            continue;
        l.min = l.count && l.min < latencies[i] ? l.min : latencies[i];
        l.max = l.max > latencies[i] ? l.max : latencies[i];
        l.sum += latencies[i];
        l.count++;
    }
    return l;
}

START_TEST(at_any_time_the_same_as_the_list_of_all)
{
    const char *given = getenv("RINGBLK_SEED");
    uint32_t seconds = 1 + 3 * (uint32_t)_i;
    struct interval_stats s = { 0 };
    uint64_t ages[REQUESTS], latencies[REQUESTS], age = 0;
    unsigned seen = 0;
    srand48(given ? atol(given) : getpid());
    for (unsigned i = 0; i < REQUESTS; i++) {
        /* Mostly in quick succession, now and then after a pause. */
        uint64_t pause = drand48() < 0.02 ? 3 * HALF * seconds : HALF * seconds / 20;
        age += (uint64_t)(drand48() * (double)pause);
        ages[i] = age;
        latencies[i] = (uint64_t)(drand48() * 1e9);
        interval_add(&s, interval_half(age, seconds), IO_READ, latencies[i]);
        uint64_t asked = age + (uint64_t)(drand48() * (double)(HALF * seconds * (i % 3)));
        uint64_t elapsed = interval_elapsed(asked, seconds);
        struct latencies l = by_list(ages, latencies, i + 1, asked > elapsed ? asked - elapsed : 0);
        expect(shown(&s, interval_half(asked, seconds), IO_READ), l.count, l.sum, l.min, l.max);
        ck_assert_uint_le(elapsed, 2 * HALF * seconds);
        seen += l.count > 1;
    }
    ck_assert_uint_gt(seen, REQUESTS / 10);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("interval");
    TCase *c = tcase_create("interval");
    suite_add_tcase(s, c);
    tcase_add_test(c, time_is_cut_in_halves);
    tcase_add_test(c, a_request_is_shown_for_half_an_interval_at_least_and_one_at_most);
    tcase_add_test(c, the_first_half_is_shown_too);
    tcase_add_test(c, rings_are_added_up);
    tcase_add_loop_test(c, at_any_time_the_same_as_the_list_of_all, 0, 4);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
