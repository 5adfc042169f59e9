/* SPDX-License-Identifier: MIT */
/* When a ring waits awake: only after a row of short waits, and never twice in vain. */
#include <check.h>
#include <stdlib.h>

#include "uring/spin.h"

START_TEST(a_new_ring_sleeps)
{
    struct spin s = { 0 };

    ck_assert(!spin_worth(&s));
}
END_TEST

START_TEST(short_sleeps_in_a_row_make_it_worthwhile)
{
    struct spin s = { 0 };

    for (unsigned i = 0; i < SPIN_SHORT_SLEEPS; i++) {
        ck_assert(!spin_worth(&s));
        spin_learn(&s, SPIN_NS);
    }
    for (unsigned i = 0; i < 1000; i++) { /* each wait that ended early enough is one more reason */
        ck_assert(spin_worth(&s));
        spin_learn(&s, 1);
    }
}
END_TEST

START_TEST(one_wait_in_vain_ends_it)
{
    struct spin s = { 0 };

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SPIN_SHORT_SLEEPS; i++) {
            ck_assert(!spin_worth(&s));
            spin_learn(&s, 1000);
        }
        ck_assert(spin_worth(&s));
        spin_learn(&s, SPIN_NS + 1);
        ck_assert(!spin_worth(&s));
    }
}
END_TEST

START_TEST(a_light_load_never_makes_it_worthwhile)
{
    struct spin s = { 0 };

    for (unsigned i = 0; i < 1000; i++) {
        spin_learn(&s, i % SPIN_SHORT_SLEEPS ? 1000 : 100 * 1000);
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
    tcase_add_test(t, short_sleeps_in_a_row_make_it_worthwhile);
    tcase_add_test(t, one_wait_in_vain_ends_it);
    tcase_add_test(t, a_light_load_never_makes_it_worthwhile);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
