/* SPDX-License-Identifier: MIT */
/* Latency histograms: which bin a value falls into, and which boundaries are refused. */
#include <check.h>
#include <errno.h>

#include "base/histogram.h"

START_TEST(boundaries_belong_to_the_bin_above)
{
    static const uint64_t b[] = { 10, 50, 100 };
    struct histogram h;

    ck_assert_int_eq(histogram_init(&h, b, 3), 0);
    static const uint64_t v[] = { 0, 9, 10, 49, 50, 99, 100, UINT64_MAX };
    for (unsigned i = 0; i < 8; i++)
        histogram_add(&h, v[i]);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(h.bins[i], 2);
    histogram_free(&h);
    ck_assert_ptr_null(h.bins);
    histogram_add(&h, 1); /* a histogram that is off counts nothing */
    histogram_free(&h);
}
END_TEST

START_TEST(bad_boundaries_are_refused)
{
    static const uint64_t zero[] = { 0, 1 }, same[] = { 1, 1 }, down[] = { 1, 3, 2 };
    struct histogram h;

    ck_assert_int_eq(histogram_init(&h, zero, 2), -EINVAL);
    ck_assert_int_eq(histogram_init(&h, same, 2), -EINVAL);
    ck_assert_int_eq(histogram_init(&h, down, 3), -EINVAL);
    ck_assert_int_eq(histogram_init(&h, zero, 0), -EINVAL);
    ck_assert_ptr_null(h.bins);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("histogram");
    TCase *t = tcase_create("histogram");

    suite_add_tcase(s, t);
    tcase_add_test(t, boundaries_belong_to_the_bin_above);
    tcase_add_test(t, bad_boundaries_are_refused);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
