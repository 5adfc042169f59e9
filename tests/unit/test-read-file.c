/* SPDX-License-Identifier: MIT */
/* crypto/read-file.c: whole small files, and nothing else. */
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "crypto/read-file.h"
#include "tests/unit/ring-fixture.h"

static char path[] = "/tmp/test-read-file.XXXXXX";

static void put(const void *bytes, size_t len)
{
    FILE *f = fopen(path, "w");

    ck_assert_uint_eq(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void refused(const char *name, const char *reason)
{
    autoerr err = { 0 };
    char *out;
    size_t len;

    ck_assert_int_lt(read_file(name, 8, &out, &len, &err), 0);
    ck_assert_msg(strstr(err.msg, reason) && strstr(err.msg, name), "%s", err.msg);
}

START_TEST(the_limit_is_what_still_fits)
{
    static const char eight[9] = { '1', '2', '3', '4', 0, '6', '7', '8', 0 };
    autoerr err = { 0 };
    char *out;
    size_t len;

    put(eight, 8);
    ck_assert_int_eq(read_file(path, 8, &out, &len, &err), 0);
    ck_assert_uint_eq(len, 8);
    ck_assert_int_eq(memcmp(out, eight, 9), 0);
    free(out);
    put("", 0);
    ck_assert_int_eq(read_file(path, 8, &out, &len, &err), 0);
    ck_assert_uint_eq(len, 0);
    free(out);
    put("123456789", 9);
    refused(path, "larger than 8 bytes");
}
END_TEST

START_TEST(what_is_no_file_is_refused_at_once)
{
    refused("/nonexistent/file", "No such file");
    refused("/dev/zero", "no regular file");
    refused("/", "no regular file");
    remove(path);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    refused(path, "no regular file");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("read-file");
    TCase *t = tcase_create("all");
    int fd = mkstemp(path), failed;

    close(fd);
    tcase_add_test(t, the_limit_is_what_still_fits);
    tcase_add_test(t, what_is_no_file_is_refused_at_once);
    suite_add_tcase(s, t);
    failed = run_suite(s);
    remove(path);
    return failed;
}
