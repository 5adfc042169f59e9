/* SPDX-License-Identifier: MIT */
/* The shell's history: where it is, that it keeps what was typed, that it does not grow for ever. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "tools/ctl-history.h"

static char folder[] = "/tmp/test-ctl-history.XXXXXX";

static void set_up(void)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void tear_down(void)
{
    autofree char *command = NULL;

    ck_assert_int_gt(asprintf(&command, "rm -rf %s", folder), 0);
    ck_assert_int_eq(system(command), 0);
}

static unsigned mode_of(const char *path)
{
    struct stat st;

    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_mode & 0777;
}

static void count(const char *line, void *arg)
{
    unsigned *next = arg, number;

    ck_assert_int_eq(sscanf(line, "line %u", &number), 1);
    if (*next)
        ck_assert_uint_eq(number, *next);
    *next = number + 1;
}

START_TEST(kept_in_the_state_folder)
{
    autofree char *path = NULL, *want = NULL;
    autoerr err = { 0 };
    unsigned next = 0;

    ck_assert_int_gt(asprintf(&want, "%s/.local/state/ringblk/history", folder), 0);
    unsetenv("XDG_STATE_HOME");
    setenv("HOME", folder, 1);
    path = ctl_history_path(&err);
    ck_assert_str_eq(path, want);
    ck_assert_int_eq(ctl_history_load(path, count, &next, &err), 0);
    ck_assert_uint_eq(next, 0);
    for (unsigned i = 1; i <= 3; i++) {
        char line[32];
        snprintf(line, sizeof(line), "line %u", i);
        ck_assert_int_eq(ctl_history_append(path, line, &err), 0);
    }
    ck_assert_int_eq(ctl_history_load(path, count, &next, &err), 0);
    ck_assert_uint_eq(next, 4);
    ck_assert_uint_eq(mode_of(path), 0600);
    *strrchr(path, '/') = 0;
    ck_assert_uint_eq(mode_of(path), 0700);
}
END_TEST

START_TEST(xdg_state_home_wins)
{
    autofree char *path = NULL, *want = NULL;
    autoerr err = { 0 };

    ck_assert_int_gt(asprintf(&want, "%s/ringblk/history", folder), 0);
    setenv("XDG_STATE_HOME", folder, 1);
    path = ctl_history_path(&err);
    ck_assert_str_eq(path, want);
}
END_TEST

START_TEST(old_lines_go)
{
    enum { LINES = 2 * CTL_HISTORY_MAX + 1 };
    autofree char *path = NULL;
    autoerr err = { 0 };
    struct stat st;
    unsigned next = 0;

    setenv("XDG_STATE_HOME", folder, 1);
    path = ctl_history_path(&err);
    for (unsigned i = 1; i <= LINES; i++) {
        char line[32];
        snprintf(line, sizeof(line), "line %u", i);
        ck_assert_int_eq(ctl_history_append(path, line, &err), 0);
    }
    /* The first load cuts the file, the second one sees what is left: the last ones, in order. */
    for (unsigned i = 0; i < 2; i++) {
        next = 0;
        ck_assert_int_eq(ctl_history_load(path, count, &next, &err), 0);
        ck_assert_uint_eq(next, LINES + 1);
    }
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_size, CTL_HISTORY_MAX * (off_t)strlen("line 2000\n"));
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(nowhere)
{
    autoerr err = { 0 };

    unsetenv("XDG_STATE_HOME");
    unsetenv("HOME");
    ck_assert_ptr_null(ctl_history_path(&err));
    ck_assert_str_eq(err.msg, "neither XDG_STATE_HOME nor HOME is set");
    err_clear(&err);
    setenv("HOME", "/dev/null", 1);
    ck_assert_ptr_null(ctl_history_path(&err));
    ck_assert_str_eq(err.msg, "cannot make the folder /dev/null/.local: Not a directory");
    err_clear(&err);
    ck_assert_int_eq(ctl_history_append("/dev/null/x", "line", &err), -ENOTDIR);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl-history");
    TCase *t = tcase_create("ctl-history");

    suite_add_tcase(s, t);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, kept_in_the_state_folder);
    tcase_add_test(t, xdg_state_home_wins);
    tcase_add_test(t, old_lines_go);
    tcase_add_test(t, nowhere);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
