/* SPDX-License-Identifier: MIT */
/* Vectors of spans: every cut of a small vector, zero detection at every length. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/span.h"

START_TEST(every_cut_of_a_vector)
{
    uint8_t bytes[16], got[16];
    struct span v[] = { { .p = bytes, .len = 5 },
                        { .p = bytes + 5 },
                        { .p = bytes + 5, .len = 1 },
                        { .p = bytes + 6, .len = 10 } };

    for (unsigned i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i + 1);
    ck_assert_uint_eq(span_bytes(v, 4), 16);
    for (unsigned skip = 0; skip <= 16; skip++) {
        for (unsigned len = 0; skip + len <= 16; len++) {
            struct span out[SPAN_MAX];
            unsigned n = span_cut(v, 4, skip, len, out);

            ck_assert_uint_le(n, 4);
            ck_assert_uint_eq(span_bytes(out, n), len);
            span_gather(out, n, got);
            ck_assert_int_eq(memcmp(got, bytes + skip, len), 0);
        }
    }
}
END_TEST

START_TEST(cutting_opaque_spans_moves_the_offset)
{
    struct span v[] = { { .len = 100, .buffer = 3, .offset = 1000 },
                        { .len = 50, .buffer = 4, .offset = 7 } };
    struct span out[SPAN_MAX];

    ck_assert_uint_eq(span_cut(v, 2, 90, 20, out), 2);
    ck_assert_ptr_null(out[0].p);
    ck_assert_uint_eq(out[0].len, 10);
    ck_assert_uint_eq(out[0].offset, 1090);
    ck_assert_uint_eq(out[0].buffer, 3);
    ck_assert_uint_eq(out[1].len, 10);
    ck_assert_uint_eq(out[1].offset, 7);
    ck_assert_uint_eq(out[1].buffer, 4);
    ck_assert(!span_is_zero(v, 2));
}
END_TEST

START_TEST(one_byte_anywhere_is_seen)
{
    for (size_t len = 0; len < 300; len++) {
        /* Exactly as long as needed, so that a read past the end is caught. */
        uint8_t *p = calloc(1, len + 1);

        p[len] = 1;
        ck_assert(bytes_are_zero(p, len));
        for (size_t i = 0; i < len; i++) {
            p[i] = 0x80;
            ck_assert(!bytes_are_zero(p, len));
            p[i] = 0;
        }
        free(p);
    }
}
END_TEST

START_TEST(fill_scatter_gather)
{
    uint8_t a[3], b[4], all[7];
    struct span v[] = { { .p = a, .len = 3 }, { .p = NULL, .len = 0 }, { .p = b, .len = 4 } };

    span_fill(v, 3, 0);
    ck_assert(span_is_zero(v, 3));
    span_scatter(v, 3, "abcdefg");
    ck_assert_mem_eq(a, "abc", 3);
    ck_assert_mem_eq(b, "defg", 4);
    ck_assert(!span_is_zero(v, 3));
    span_gather(v, 3, all);
    ck_assert_mem_eq(all, "abcdefg", 7);
    span_fill(v, 3, 0xee);
    span_gather(v, 3, all);
    ck_assert_mem_eq(all, "\xee\xee\xee\xee\xee\xee\xee", 7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("span");
    TCase *t = tcase_create("span");

    suite_add_tcase(s, t);
    tcase_add_test(t, every_cut_of_a_vector);
    tcase_add_test(t, cutting_opaque_spans_moves_the_offset);
    tcase_add_test(t, one_byte_anywhere_is_seen);
    tcase_add_test(t, fill_scatter_gather);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
