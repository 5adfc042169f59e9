/* SPDX-License-Identifier: MIT */
/* Words become the arguments that a command's rows want, or what they look like. */
#include <check.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "tests/unit/row-sample.h"
#include "tools/ctl-arguments.h"

struct resize {
    char *name;
    int64_t size;
    bool force;
    double share;
    struct sample_server server;
    struct row_list list;
};

static const struct row resize_rows[] = {
    ROW_REQ(struct resize, "name", name, row_str),
    ROW_REQ(struct resize, "size", size, row_int),
    ROW_OPT(struct resize, "force", force, row_bool),
    ROW_OPT(struct resize, "share", share, row_number),
    ROW_REQ(struct resize, "server", server, sample_server),
    ROW_OPT(struct resize, "list", list, row_int_list),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_resize, "Resize", struct resize, resize_rows);

struct keeper {
    char *password;
    struct keeper *inner;
    struct row_list inners;
};

extern const struct row_type row_keeper;
static ROW_LIST_TYPE(row_keepers, row_keeper);
static const struct row keeper_rows[] = {
    ROW_OPT(struct keeper, "password", password, row_str, .secret = true),
    ROW_OPT(struct keeper, "inner", inner, row_keeper),
    ROW_OPT(struct keeper, "inners", inners, row_keepers),
    ROW_END,
};
ROW_STRUCT_TYPE(row_keeper, "Keeper", struct keeper, keeper_rows);

static void expect(const struct row_type *type, const char *line, const char *json)
{
    autofree char *text = NULL;
    struct json_object *out;
    autoerr err = { 0 };
    char **words;
    size_t n;

    ck_assert_int_eq(ctl_words(line, &words, &n, &err), 0);
    ck_assert_msg(ctl_arguments(type, words, n, &out, &err) == 0, "%s: %s", line, err.msg);
    text = json_text(out);
    ck_assert_str_eq(text, json);
    json_object_put(out);
    ctl_words_free(words);
}

START_TEST(by_rows)
{
    expect(&row_resize, "name=5 size=1G", "{\"name\": \"5\", \"size\": 1073741824}");
    expect(&row_resize, "name=true,size=0x10 force=on",
           "{\"name\": \"true\", \"size\": 16, \"force\": true}");
    expect(&row_resize, "size=huge force=maybe share=0.5",
           "{\"size\": \"huge\", \"force\": \"maybe\", \"share\": 0.5}");
    expect(&row_resize, "server.type=inet server.port=10809 server.to=10810",
           "{\"server\": {\"type\": \"inet\", \"port\": \"10809\", \"to\": 10810}}");
    expect(&row_resize, "list.0=1K list.1=2 new=7", "{\"list\": [1024, 2], \"new\": 7}");
    expect(&row_resize, "name=a,,b", "{\"name\": \"a,b\"}");
}
END_TEST

START_TEST(by_looks)
{
    expect(NULL, "a=1 b=-1.5 c=true d=1G e= f=18446744073709551615",
           "{\"a\": 1, \"b\": -1.5, \"c\": true, \"d\": \"1G\", \"e\": \"\", "
           "\"f\": 18446744073709551615}");
    expect(NULL, "a.b=x l.0=1 l.1=y", "{\"a\": {\"b\": \"x\"}, \"l\": [1, \"y\"]}");
    expect(NULL, "  {\"a\": [1, 2]}", "{\"a\": [1, 2]}");
    expect(NULL, "name='a b'\"c d\"", "{\"name\": \"a bc d\"}");
}
END_TEST

START_TEST(refused)
{
    static const char *const lines[] = { "size",  "=1",    "a=1 a.b=2", "{\"a\": 1",
                                         "{} {}", "l.1=x", "{'a': 1} b" };

    for (unsigned i = 0; i < sizeof(lines) / sizeof(*lines); i++) {
        struct json_object *out;
        autoerr err = { 0 };
        char **words;
        size_t n;

        ck_assert_int_eq(ctl_words(lines[i], &words, &n, &err), 0);
        ck_assert_msg(ctl_arguments(&row_resize, words, n, &out, &err) == -EINVAL, "%s", lines[i]);
        ck_assert_ptr_null(out);
        ck_assert_ptr_nonnull(err.msg);
        ctl_words_free(words);
    }
}
END_TEST

START_TEST(secrets)
{
    static const struct {
        const char *json;
        bool secret;
    } cases[] = {
        { "{'name': 'a', 'size': 5, 'server': {'type': 'inet', 'port': '1'}}", false },
        { "{'password': 'x'}", true },
        { "{'name': 'a', 'inner': {'password': 1}}", true },
        { "{'inners': [{}, {'password': 'x'}]}", true },
        { "{'inners': [{}, {'other': 'password'}], 'password_': 1}", false },
        { "['password']", false },
        { "null", false },
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct json_object *in;
        autoerr err = { 0 };

        ck_assert_int_eq(json_parse(cases[i].json, strlen(cases[i].json), &in, &err), 0);
        ck_assert_msg(ctl_tells_secret(&row_keeper, in) == cases[i].secret, "%s", cases[i].json);
        json_object_put(in);
    }
}
END_TEST

START_TEST(quotes)
{
    autoerr err = { 0 };
    char **words;
    size_t n;

    ck_assert_int_eq(ctl_words("a='b", &words, &n, &err), -EINVAL);
    ck_assert_int_eq((err_clear(&err), ctl_words(" \t ", &words, &n, &err)), 0);
    ck_assert_uint_eq(n, 0);
    ctl_words_free(words);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl-arguments");
    TCase *t = tcase_create("ctl-arguments");

    suite_add_tcase(s, t);
    tcase_add_test(t, by_rows);
    tcase_add_test(t, by_looks);
    tcase_add_test(t, refused);
    tcase_add_test(t, secrets);
    tcase_add_test(t, quotes);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
