/* SPDX-License-Identifier: MIT */
/* Numbers, sizes and switches out of text: values, ends of ranges, refusals. */
#include <check.h>
#include <errno.h>

#include "base/parse.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

START_TEST(unsigned_numbers)
{
    static const struct {
        const char *text;
        int r;
        uint64_t v;
    } rows[] = {
        { "0", 0, 0 },
        { "18446744073709551615", 0, UINT64_MAX },
        { "18446744073709551616", -ERANGE, 7 },
        { "99999999999999999999999", -ERANGE, 7 },
        { "0xffffffffffffffff", 0, UINT64_MAX },
        { "0x10000000000000000", -ERANGE, 7 },
        { "0Xa", 0, 10 },
        { "010", 0, 10 },
        { "", -EINVAL, 7 },
        { "0x", -EINVAL, 7 },
        { "0xg", -EINVAL, 7 },
        { "-1", -EINVAL, 7 },
        { "+1", -EINVAL, 7 },
        { " 1", -EINVAL, 7 },
        { "1 ", -EINVAL, 7 },
        { "1a", -EINVAL, 7 },
        { "99999999999999999999999x", -EINVAL, 7 },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        uint64_t v = 7;

        ck_assert_msg(parse_u64(rows[i].text, &v) == rows[i].r, "'%s'", rows[i].text);
        ck_assert_msg(v == rows[i].v, "'%s'", rows[i].text);
    }
}
END_TEST

START_TEST(signed_numbers)
{
    static const struct {
        const char *text;
        int r;
        int64_t v;
    } rows[] = {
        { "-9223372036854775808", 0, INT64_MIN },
        { "-9223372036854775809", -ERANGE, 7 },
        { "9223372036854775807", 0, INT64_MAX },
        { "9223372036854775808", -ERANGE, 7 },
        { "-0", 0, 0 },
        { "-0x10", 0, -16 },
        { "-", -EINVAL, 7 },
        { "--1", -EINVAL, 7 },
        { "", -EINVAL, 7 },
        { "1.0", -EINVAL, 7 },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        int64_t v = 7;

        ck_assert_msg(parse_i64(rows[i].text, &v) == rows[i].r, "'%s'", rows[i].text);
        ck_assert_msg(v == rows[i].v, "'%s'", rows[i].text);
    }
}
END_TEST

START_TEST(sizes)
{
    static const struct {
        const char *text;
        int r;
        uint64_t v;
    } rows[] = {
        { "512", 0, 512 },
        { "512B", 0, 512 },
        { "64k", 0, 65536 },
        { "64M", 0, 64 << 20 },
        { "1.5G", 0, 3ull << 29 },
        { "0.0001K", 0, 0 },
        { "1T", 0, 1ull << 40 },
        { "1P", 0, 1ull << 50 },
        { "15E", 0, 15ull << 60 },
        { "15.999999999999999999999E", 0, 0xfffffffffffffffe },
        { "16E", -ERANGE, 7 },
        { "18446744073709551615", 0, UINT64_MAX },
        { "18446744073709551616", -ERANGE, 7 },
        { "18446744073709551616M", -ERANGE, 7 },
        { "0x1000", 0, 4096 },
        { "0x1000M", -EINVAL, 7 },
        { "0x1.0", -EINVAL, 7 },
        { "1.0", 0, 1 },
        { "1.5", -EINVAL, 7 },
        { "1.5B", -EINVAL, 7 },
        { "1.M", -EINVAL, 7 },
        { ".5M", -EINVAL, 7 },
        { "1MB", -EINVAL, 7 },
        { "1MiB", -EINVAL, 7 },
        { "-1M", -EINVAL, 7 },
        { "M", -EINVAL, 7 },
        { "", -EINVAL, 7 },
        { "1 M", -EINVAL, 7 },
        { "1Z", -EINVAL, 7 },
    };

    for (unsigned i = 0; i < COUNT(rows); i++) {
        uint64_t v = 7;

        ck_assert_msg(parse_size(rows[i].text, &v) == rows[i].r, "'%s'", rows[i].text);
        ck_assert_msg(v == rows[i].v, "'%s' gave %llu", rows[i].text, (unsigned long long)v);
    }
}
END_TEST

START_TEST(switches)
{
    static const char *const on[] = { "on", "yes", "true", "y" },
                             *const off[] = { "off", "no", "false", "n" },
                             *const bad[] = { "", "ON", "1", "0", "onn", "o", "enable" };
    bool v;

    for (unsigned i = 0; i < 4; i++) {
        v = false;
        ck_assert(!parse_bool(on[i], &v) && v);
        v = true;
        ck_assert(!parse_bool(off[i], &v) && !v);
    }
    for (unsigned i = 0; i < COUNT(bad); i++)
        ck_assert_int_eq(parse_bool(bad[i], &v), -EINVAL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("parse");
    TCase *t = tcase_create("parse");

    suite_add_tcase(s, t);
    tcase_add_test(t, unsigned_numbers);
    tcase_add_test(t, signed_numbers);
    tcase_add_test(t, sizes);
    tcase_add_test(t, switches);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
