/* SPDX-License-Identifier: MIT */
/* Errors of the control path: set, replaced, prefixed, moved, cleared. */
#include <check.h>
#include <errno.h>

#include "base/err.h"

START_TEST(set_returns_code_and_keeps_sentence)
{
    autoerr err = { 0 };

    ck_assert_int_eq(err_set(&err, -ENOENT, "cannot open '%s'", "a.img"), -ENOENT);
    ck_assert_int_eq(err.code, -ENOENT);
    ck_assert_int_eq(err.class, ERR_GENERIC);
    ck_assert_str_eq(err.msg, "cannot open 'a.img'");
}
END_TEST

START_TEST(setting_again_replaces_even_when_quoting_the_old)
{
    autoerr err = { 0 };

    err_set_class(&err, ERR_DEVICE_NOT_FOUND, -ENODEV, "no device");
    err_set(&err, -EIO, "late: %s", err.msg);
    ck_assert_str_eq(err.msg, "late: no device");
    ck_assert_int_eq(err.code, -EIO);
    ck_assert_int_eq(err.class, ERR_GENERIC);
}
END_TEST

START_TEST(errno_is_spelt_out)
{
    autoerr err = { 0 };

    ck_assert_int_eq(err_set_errno(&err, -EACCES, "Could not open '%s'", "x"), -EACCES);
    ck_assert_str_eq(err.msg, "Could not open 'x': Permission denied");
}
END_TEST

START_TEST(prefix_keeps_class_and_code)
{
    autoerr err = { 0 };

    err_set_class(&err, ERR_DEVICE_NOT_ACTIVE, -ESRCH, "gone");
    ck_assert_int_eq(err_prefix(&err, "job '%s'", "j"), -ESRCH);
    ck_assert_int_eq(err_prefix(&err, "cancel"), -ESRCH);
    ck_assert_int_eq(err.class, ERR_DEVICE_NOT_ACTIVE);
    ck_assert_str_eq(err.msg, "cancel: job 'j': gone");
}
END_TEST

START_TEST(prefix_of_an_unset_error_changes_nothing)
{
    autoerr err = { 0 };

    ck_assert_int_eq(err_prefix(&err, "context"), 0);
    ck_assert_ptr_null(err.msg);
}
END_TEST

START_TEST(move_empties_the_source)
{
    autoerr from = { 0 }, to = { 0 };

    err_set(&from, -EBUSY, "busy");
    ck_assert_int_eq(err_move(&to, &from), -EBUSY);
    ck_assert_ptr_null(from.msg);
    ck_assert_int_eq(from.code, 0);
    ck_assert_str_eq(to.msg, "busy");
}
END_TEST

START_TEST(clear_may_be_called_twice)
{
    struct err err = { 0 };

    err_set_class(&err, ERR_COMMAND_NOT_FOUND, -ENOENT, "x");
    err_clear(&err);
    err_clear(&err);
    ck_assert_int_eq(err.code, 0);
    ck_assert_int_eq(err.class, ERR_GENERIC);
}
END_TEST

START_TEST(a_code_that_is_no_error_still_makes_one)
{
    autoerr err = { 0 };

    ck_assert_int_lt(err_set(&err, 0, "odd"), 0);
    ck_assert_int_lt(err.code, 0);
}
END_TEST

START_TEST(classes_have_the_names_of_qmp)
{
    ck_assert_str_eq(err_class_name(ERR_GENERIC), "GenericError");
    ck_assert_str_eq(err_class_name(ERR_COMMAND_NOT_FOUND), "CommandNotFound");
    ck_assert_str_eq(err_class_name(ERR_DEVICE_NOT_ACTIVE), "DeviceNotActive");
    ck_assert_str_eq(err_class_name(ERR_DEVICE_NOT_FOUND), "DeviceNotFound");
    ck_assert_str_eq(err_class_name(ERR_KVM_MISSING_CAP), "KVMMissingCap");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("err");
    TCase *t = tcase_create("err");

    suite_add_tcase(s, t);
    tcase_add_test(t, set_returns_code_and_keeps_sentence);
    tcase_add_test(t, setting_again_replaces_even_when_quoting_the_old);
    tcase_add_test(t, errno_is_spelt_out);
    tcase_add_test(t, prefix_keeps_class_and_code);
    tcase_add_test(t, prefix_of_an_unset_error_changes_nothing);
    tcase_add_test(t, move_empties_the_source);
    tcase_add_test(t, clear_may_be_called_twice);
    tcase_add_test(t, a_code_that_is_no_error_still_makes_one);
    tcase_add_test(t, classes_have_the_names_of_qmp);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
