/* SPDX-License-Identifier: MIT */
/* Tables align by what a terminal shows; what it would obey is escaped. */
#include <check.h>
#include <locale.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "tools/ctl-table.h"

START_TEST(escapes)
{
    static const char *const rows[][2] = {
        { "plain", "plain" },
        { "a\x1b[2Jb\n", "a\\x1b[2Jb\\x0a" },
        { "\x7f", "\\x7f" },
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
        { "\xc2\x9b", "\\u{9b}" },
        { "\xe2\x80\xae", "\\u{202e}" },
        { "\xc3", "\\xc3" },
        { "\xc0\x80", "\\xc0\\x80" },
        { "\xed\xa0\x80", "\\xed\\xa0\\x80" },
        { "\xf5\x80\x80\x80", "\\xf5\\x80\\x80\\x80" },
        { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
        { "\xe2\x82", "\\xe2\\x82" },
    };

    for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        autofree char *text = ctl_escape(rows[i][0]);

        ck_assert_str_eq(text, rows[i][1]);
    }
}
END_TEST

START_TEST(columns)
{
    static const bool right[] = { false, true, false };
    struct ctl_table t = { .columns = 3, .right = right };
    static const char *const cells[] = { "NAME",
                                         "SIZE",
                                         "X",
                                         "gr\xc3\xbc\xc3\x9f"
                                         "e1",
                                         "5",
                                         "",
                                         "a",
                                         "123456",
                                         "y" };
    autofree char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    for (unsigned i = 0; i < 9; i++)
        ctl_table_add(&t, cells[i]);
    ck_assert_int_eq(ctl_table_print(&t, f), 0);
    ctl_table_clear(&t);
    fclose(f);
    ck_assert_str_eq(text, "NAME      SIZE  X\n"
                           "gr\xc3\xbc\xc3\x9f"
                           "e1       5\n"
                           "a       123456  y\n");
}
END_TEST

START_TEST(empty_columns)
{
    struct ctl_table t = { .columns = 3, .drop_empty = true };
    static const char *const cells[] = { "A", "NOTHING", "C", "a", "", "c", "", NULL, "longer" };
    autofree char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    for (unsigned i = 0; i < 9; i++)
        ctl_table_add(&t, cells[i]);
    ck_assert_int_eq(ctl_table_print(&t, f), 0);
    ctl_table_clear(&t);
    for (unsigned i = 0; i < 3; i++) /* a heading alone is whole */
        ctl_table_add(&t, cells[i]);
    ck_assert_int_eq(ctl_table_print(&t, f), 0);
    ctl_table_clear(&t);
    fclose(f);
    ck_assert_str_eq(text, "A  C\n"
                           "a  c\n"
                           "   longer\n"
                           "A  NOTHING  C\n");
}
END_TEST

static void expect_columns(size_t count, size_t width, const char *want)
{
    static char words[][8] = { "a", "bb", "ccc", "d", "e\x1b" };
    char *const list[] = { words[0], words[1], words[2], words[3], words[4] };
    autofree char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    ctl_print_columns(list, count, width, f);
    fclose(f);
    ck_assert_str_eq(text, want);
}

START_TEST(words_in_columns)
{
    expect_columns(5, 80, "a  bb  ccc  d  e\\x1b\n");
    expect_columns(5, 15, "a   ccc  e\\x1b\nbb  d\n");
    expect_columns(3, 0, "a\nbb\nccc\n");
    expect_columns(0, 80, "");
}
END_TEST

START_TEST(numbers)
{
    char text[CTL_NUMBER_MAX];

    ck_assert_str_eq(ctl_size_text(0, text), "0 B");
    ck_assert_str_eq(ctl_size_text(1023, text), "1023 B");
    ck_assert_str_eq(ctl_size_text(64 << 20, text), "64 MiB");
    ck_assert_str_eq(ctl_size_text(1.5 * (1 << 30), text), "1.50 GiB");
    ck_assert_str_eq(ctl_size_text(18446744073709551615.0, text), "16 EiB");
    ck_assert_str_eq(ctl_time_text(0, text), "-");
    ck_assert_str_eq(ctl_time_text(850, text), "850 ns");
    ck_assert_str_eq(ctl_time_text(12340, text), "12.3 us");
    ck_assert_str_eq(ctl_time_text(1.25e9, text), "1.25 s");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl-table");
    TCase *t = tcase_create("ctl-table");

    setlocale(LC_CTYPE, "C.UTF-8");
    suite_add_tcase(s, t);
    tcase_add_test(t, escapes);
    tcase_add_test(t, columns);
    tcase_add_test(t, empty_columns);
    tcase_add_test(t, words_in_columns);
    tcase_add_test(t, numbers);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
