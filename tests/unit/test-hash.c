/* SPDX-License-Identifier: MIT */
/* The table by string key: against a plain array as the model. */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

enum { KEYS = 500 };

START_TEST(empty_table_answers)
{
    struct hash h = { 0 };

    ck_assert_ptr_null(hash_get(&h, "x"));
    ck_assert_ptr_null(hash_remove(&h, "x"));
    hash_free(&h);
}
END_TEST

START_TEST(taken_key_is_refused_and_kept)
{
    struct hash h = { 0 };
    int a, b;

    ck_assert_int_eq(hash_put(&h, "k", &a), 0);
    ck_assert_int_eq(hash_put(&h, "k", &b), -EEXIST);
    ck_assert_ptr_eq(hash_get(&h, "k"), &a);
    hash_free(&h);
}
END_TEST

START_TEST(empty_key_is_a_key)
{
    struct hash h = { 0 };
    int a, b;

    ck_assert_int_eq(hash_put(&h, "", &a), 0);
    ck_assert_int_eq(hash_put(&h, "x", &b), 0);
    ck_assert_ptr_eq(hash_remove(&h, ""), &a);
    ck_assert_ptr_null(hash_get(&h, ""));
    ck_assert_ptr_null(hash_remove(&h, ""));
    ck_assert_int_eq(hash_put(&h, "", &a), 0);
    ck_assert_ptr_eq(hash_get(&h, ""), &a);
    hash_free(&h);
}
END_TEST

START_TEST(random_steps_agree_with_a_model)
{
    static char keys[KEYS][16];
    bool in[KEYS] = { 0 };
    struct hash h = { 0 };
    size_t used = 0;

    for (int i = 0; i < KEYS; i++)
        snprintf(keys[i], sizeof keys[i], "n%d", i);
    srandom(7);
    for (int step = 0; step < 100000; step++) {
        /* The range in use wanders, so that the table grows and shrinks. */
        int limit = 1 + step / 100 % KEYS, i = (int)(random() % limit);

        if (random() % 2) {
            ck_assert_int_eq(hash_put(&h, keys[i], keys[i]), in[i] ? -EEXIST : 0);
            used += !in[i];
            in[i] = true;
        } else {
            ck_assert_ptr_eq(hash_remove(&h, keys[i]), in[i] ? keys[i] : NULL);
            used -= in[i];
            in[i] = false;
        }
        ck_assert_uint_eq(h.used, used);
        ck_assert(!h.size || h.used + h.deleted < h.size);
        i = (int)(random() % KEYS);
        ck_assert_ptr_eq(hash_get(&h, keys[i]), in[i] ? keys[i] : NULL);
    }
    hash_free(&h);
    ck_assert_uint_eq(h.used, 0);
}
END_TEST

START_TEST(sparse_table_shrinks)
{
    static char keys[KEYS][16];
    struct hash h = { 0 };

    for (int i = 0; i < KEYS; i++) {
        snprintf(keys[i], sizeof keys[i], "n%d", i);
        ck_assert_int_eq(hash_put(&h, keys[i], keys[i]), 0);
    }
    size_t full = h.size;
    for (int i = 1; i < KEYS; i++)
        hash_remove(&h, keys[i]);
    ck_assert_uint_lt(h.size, full / 8);
    ck_assert_ptr_eq(hash_get(&h, keys[0]), keys[0]);
    hash_remove(&h, keys[0]);
    ck_assert_ptr_null(h.slots);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hash");
    TCase *t = tcase_create("hash");

    suite_add_tcase(s, t);
    tcase_add_test(t, empty_table_answers);
    tcase_add_test(t, taken_key_is_refused_and_kept);
    tcase_add_test(t, empty_key_is_a_key);
    tcase_add_test(t, random_steps_agree_with_a_model);
    tcase_add_test(t, sparse_table_shrinks);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
