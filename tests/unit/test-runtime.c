/* SPDX-License-Identifier: MIT */
/* Where sockets are found: what is said wins over the environment, that over the runtime folder. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/runtime.h"

static void expect_path(const char *said, const char *path)
{
    AUTO(runtime_address_done) struct runtime_address a = { 0 };
    autoerr err = { 0 };

    ck_assert_int_eq(runtime_address(said, "TEST_SOCKET", "x.sock", false, &a, &err), 0);
    ck_assert_int_eq(a.address.type, ADDRESS_UNIX);
    ck_assert_str_eq(((struct unix_address *)a.address.u)->path, path);
}

START_TEST(order)
{
    setenv("TEST_SOCKET", "/from/environment", 1);
    expect_path("/said", "/said");
    expect_path("plain-name", "plain-name");
    expect_path("./a:b", "./a:b");
    expect_path(NULL, "/from/environment");
    setenv("TEST_SOCKET", "", 1);
    setenv("XDG_RUNTIME_DIR", "/some/folder", 1);
    expect_path(NULL, geteuid() ? "/some/folder/ringblk/x.sock" : "/run/ringblk/x.sock");
    ck_assert_int_ne(access("/some/folder", F_OK), 0);
}
END_TEST

START_TEST(network)
{
    AUTO(runtime_address_done) struct runtime_address a = { 0 };
    autoerr err = { 0 };

    ck_assert_int_eq(runtime_address("::1:10809", NULL, "x.sock", false, &a, &err), 0);
    ck_assert_int_eq(a.address.type, ADDRESS_INET);
    ck_assert_str_eq(a.inet.host, "::1");
    ck_assert_str_eq(a.inet.port, "10809");
}
END_TEST

START_TEST(folder)
{
    char base[] = "/tmp/test-runtime.XXXXXX";
    autofree char *made = NULL, *none = NULL;
    autoerr err = { 0 };
    struct stat st;

    if (geteuid() == 0)
        return; /* it is /run/ringblk, whatever the environment says */
    ck_assert_ptr_nonnull(mkdtemp(base));
    setenv("XDG_RUNTIME_DIR", base, 1);
    made = runtime_folder(true, &err);
    ck_assert_ptr_nonnull(made);
    ck_assert_int_eq(stat(made, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0700);
    rmdir(made);
    rmdir(base);
    unsetenv("XDG_RUNTIME_DIR");
    none = runtime_folder(true, &err);
    ck_assert_ptr_null(none);
    ck_assert_ptr_nonnull(strstr(err.msg, "XDG_RUNTIME_DIR"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("runtime");
    TCase *t = tcase_create("runtime");

    suite_add_tcase(s, t);
    tcase_add_test(t, order);
    tcase_add_test(t, network);
    tcase_add_test(t, folder);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
