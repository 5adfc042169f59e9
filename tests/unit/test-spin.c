/* SPDX-License-Identifier: MIT */
/* When a ring waits awake: only while short waits are the rule. */
#include <check.h>
#include <stdlib.h>

#include "uring/spin.h"

START_TEST(a_new_ring_sleeps)
{
    struct spin s = { 0 };

    ck_assert(!spin_worth(&s));
}
END_TEST

START_TEST(short_waits_make_it_worthwhile)
{
    struct spin s = { 0 };

    for (unsigned i = 0; i < SPIN_REASONS; i++) {
        ck_assert(!spin_worth(&s));
        spin_learn(&s, SPIN_SHORT_NS);
    }
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert(spin_worth(&s));
        spin_learn(&s, 1);
    }
}
END_TEST

/* After however many short waits. */
START_TEST(a_few_waits_in_vain_end_it)
{
    struct spin s = { 0 };
    unsigned in_vain = 0;

    for (unsigned i = 0; i < 100000; i++)
        spin_learn(&s, 1000);
    for (; spin_worth(&s); in_vain++)
        spin_learn(&s, SPIN_SHORT_NS + 1);
    ck_assert_uint_gt(in_vain, 1);
    ck_assert_uint_le(in_vain, 4);
}
END_TEST

START_TEST(a_busy_client_may_be_slow_now_and_then)
{
    struct spin s = { 0 };

    for (unsigned i = 1; i < 10000; i++) {
        spin_learn(&s, i % 50 ? 1000 : 1000 * 1000);
        ck_assert(i < 2 * SPIN_REASONS_MAX || spin_worth(&s));
    }
}
END_TEST

START_TEST(a_light_load_never_makes_it_worthwhile)
{
    struct spin s = { 0 };

    for (unsigned i = 0; i < 1000; i++) {
        spin_learn(&s, i % SPIN_REASONS ? 1000 : SPIN_SHORT_NS + 1);
        ck_assert(!spin_worth(&s));
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("spin");
    TCase *t = tcase_create("all");

    suite_add_tcase(s, t);
    tcase_add_test(t, a_new_ring_sleeps);
    tcase_add_test(t, short_waits_make_it_worthwhile);
    tcase_add_test(t, a_few_waits_in_vain_end_it);
    tcase_add_test(t, a_busy_client_may_be_slow_now_and_then);
    tcase_add_test(t, a_light_load_never_makes_it_worthwhile);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
