/* SPDX-License-Identifier: MIT */
/* qmp/text.c: lines for programs, indented ones for people. */
#include <check.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "qmp/text.h"

static void check(const char *in, bool pretty, const char *want)
{
    struct json_object *value;
    autoerr err = { 0 };
    size_t len;
    ck_assert_int_eq(json_parse(in, strlen(in), &value, &err), 0);
    autofree char *text = qmp_text(value, pretty, &len);
    ck_assert_str_eq(text, want);
    ck_assert_uint_eq(len, strlen(want));
    json_object_put(value);
}

START_TEST(one_line)
{
    check("{'return':{}}", false, "{\"return\": {}}\r\n");
    check("[1,'a,b',{}]", false, "[1, \"a,b\", {}]\r\n");
    check("null", false, "null\r\n");
}
END_TEST

START_TEST(many_lines)
{
    check("{'a':{},'b':[]}", true, "{\r\n    \"a\": {},\r\n    \"b\": []\r\n}\r\n");
    check("[1,{'x':'y'}]", true, "[\r\n    1,\r\n    {\r\n        \"x\": \"y\"\r\n    }\r\n]\r\n");
    check("1", true, "1\r\n");
}
END_TEST

/* What looks like structure inside of strings is none. */
START_TEST(strings_stay_whole)
{
    check("['a, b','{[,]}','\\\\','\\\"}']", true,
          "[\r\n    \"a, b\",\r\n    \"{[,]}\",\r\n    \"\\\\\",\r\n    \"\\\"}\"\r\n]\r\n");
}
END_TEST

/* Past some depth lines are not indented further. */
START_TEST(deep_values_do_not_explode)
{
    enum { DEPTH = 500 };
    char in[2 * DEPTH + 2];
    struct json_object *value;
    autoerr err = { 0 };
    size_t len;
    memset(in, '[', DEPTH);
    in[DEPTH] = '1';
    memset(in + DEPTH + 1, ']', DEPTH);
    ck_assert_int_eq(json_parse(in, sizeof(in) - 1, &value, &err), 0);
    autofree char *text = qmp_text(value, true, &len);
    ck_assert_uint_lt(len, 2 * DEPTH * 70);
    json_object_put(value);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("text");
    TCase *t = tcase_create("text");
    tcase_add_test(t, one_line);
    tcase_add_test(t, many_lines);
    tcase_add_test(t, strings_stay_whole);
    tcase_add_test(t, deep_values_do_not_explode);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
