/* SPDX-License-Identifier: MIT */
/* Statistics as tables: totals, and rates between two answers. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "tools/ctl-figures.h"

static struct json_object *parsed(const char *text)
{
    struct json_object *out;
    autoerr err = { 0 };

    ck_assert_msg(json_parse(text, strlen(text), &out, &err) == 0, "%s: %s", text, err.msg);
    return out;
}

/* What stands between columns becomes one bar: how they align is the table's own test. */
static char *with_bars(char *text)
{
    char *to = text;

    for (const char *from = text; *from;) {
        size_t blanks = strspn(from, " ");

        *to++ = blanks > 1 ? '|' : *from;
        from += blanks > 1 ? blanks : 1;
    }
    *to = 0;
    return text;
}

static void expect(const char *before_text, const char *after_text, double seconds, const char *key,
                   const char *table)
{
    struct json_object *before = before_text ? parsed(before_text) : NULL;
    struct json_object *after = parsed(after_text);
    autofree char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    ck_assert_int_eq(ctl_figures_print(before, after, seconds, key, f), 0);
    fclose(f);
    ck_assert_str_eq(with_bars(text), table);
    json_object_put(before);
    json_object_put(after);
}

static const char first[] =
    "[{'device': 'a', 'stats': {'rd_operations': 10, 'rd_bytes': 40960, 'rd_total_time_ns': 0,"
    " 'flush_operations': 1, 'flush_total_time_ns': 2500000, 'failed_wr_operations': 1,"
    " 'invalid_rd_operations': 2, 'invalid_unmap_operations': 1}},"
    " {'device': 'b', 'stats': {'wr_operations': 100, 'wr_bytes': 1048576,"
    " 'wr_total_time_ns': 100}}]";
static const char second[] =
    "[{'device': 'new', 'stats': {'rd_operations': 4, 'rd_bytes': 4096, 'rd_total_time_ns': 8000}},"
    " {'device': 'a', 'stats': {'rd_operations': 2010, 'rd_bytes': 8232960,"
    " 'rd_total_time_ns': 6000000000, 'flush_operations': 1, 'flush_total_time_ns': 2500000,"
    " 'failed_wr_operations': 1, 'invalid_rd_operations': 2, 'invalid_unmap_operations': 1}},"
    " {'device': 'b', 'stats': {'wr_operations': 2, 'wr_bytes': 1024, 'wr_total_time_ns': 2}}]";

START_TEST(totals)
{
    expect(NULL, first, 0, "device",
           "EXPORT|READS|READ|WRITES|WRITTEN|FLUSHES|DISCARDS|FAILED|REFUSED"
           "|READ-TIME|WRITE-TIME|FLUSH-TIME\n"
           "a|10|40 KiB|0|0 B|1|0|1|3|0 ns|2.50 ms\n"
           "b|0|0 B|100|1 MiB|0|0|0|0|1 ns\n");
}
END_TEST

#define RATES                                                                                      \
    "EXPORT|READS/s|READ|WRITES/s|WRITTEN|FLUSHES/s|DISCARDS/s|FAILED/s|REFUSED/s|IN-FLIGHT"

START_TEST(rates)
{
    /* b's counters went back: it is another b, which began with zero, as `new` did. */
    expect(first, second, 2, "device",
           RATES "|READ-TIME|WRITE-TIME\n"
                 "new|2.0|2 KiB/s|0|0 B/s|0|0|0|0|0.0|2 us\n"
                 "a|1000|3.91 MiB/s|0|0 B/s|0|0|0|0|3.0|3 ms\n"
                 "b|0|0 B/s|1.0|512 B/s|0|0|0|0|0.0|1 ns\n");
}
END_TEST

START_TEST(nodes)
{
    expect(NULL, "[{'node-name': 'n', 'stats': {'unmap_operations': 7, 'rd_total_time_ns': 5}}]", 0,
           "node-name",
           "NODE|READS|READ|WRITES|WRITTEN|FLUSHES|DISCARDS\n"
           "n|0|0 B|0|0 B|0|7\n");
}
END_TEST

START_TEST(anything)
{
    expect("{}",
           "[1, {'device': 5}, {'device': 'x'}, {'device': 'y', 'stats': []}, {'device': 'z',"
           " 'stats': {'rd_operations': 'many', 'wr_operations': -5, 'rd_bytes': null}}]",
           1, "device",
           RATES "\n"
                 "x|0|0 B/s|0|0 B/s|0|0|0|0|0.0\n"
                 "y|0|0 B/s|0|0 B/s|0|0|0|0|0.0\n"
                 "z|0|0 B/s|-5|0 B/s|0|0|0|0|0.0\n");
    expect(NULL, "null", 0, "device",
           "EXPORT|READS|READ|WRITES|WRITTEN|FLUSHES|DISCARDS|FAILED|REFUSED"
           "|READ-TIME|WRITE-TIME|FLUSH-TIME\n");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl-figures");
    TCase *t = tcase_create("ctl-figures");

    suite_add_tcase(s, t);
    tcase_add_test(t, totals);
    tcase_add_test(t, rates);
    tcase_add_test(t, nodes);
    tcase_add_test(t, anything);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
