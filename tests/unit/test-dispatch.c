/* SPDX-License-Identifier: MIT */
/* qmp/dispatch.c: the table of commands, and what stands between a request and its command. */
#include <check.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "qmp/qmp.h"

struct sample {
    char *name;
    int64_t n;
};

static const struct row sample_rows[] = { ROW_REQ(struct sample, "name", name, row_str),
                                          ROW_OPT(struct sample, "n", n, row_int, .fallback = "7"),
                                          ROW_END };
static ROW_STRUCT_TYPE(sample_type, "Sample", struct sample, sample_rows);

static unsigned runs;

static int same_back(struct monitor *m, void *args, void *result, struct err *err)
{
    struct sample *a = args, *r = result;
    (void)m, (void)err;
    ck_assert_ptr_null(r->name); /* zeroed */
    runs++;
    r->name = take_ptr(&a->name);
    r->n = a->n + 1;
    return 0;
}

/* Leaves a result behind that must be released. */
static int fail_late(struct monitor *m, void *args, void *result, struct err *err)
{
    same_back(m, args, result, err);
    return err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENOENT, "no such thing");
}

static int nothing(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m, (void)args, (void)result, (void)err;
    runs++;
    return 0;
}

static int printed(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m, (void)args, (void)err;
    *(struct json_object **)result = json_object_new_string("as it is");
    return 0;
}

/* The older form has "called" in place of "name". */
static int adapt(struct json_object **args, struct err *err)
{
    struct json_object *v;
    if (json_object_object_get_ex(*args, "refuse", NULL))
        return err_set(err, -EINVAL, "refused");
    if (json_object_object_get_ex(*args, "called", &v)) {
        struct json_object *fresh = json_object_new_object();
        json_object_object_add(fresh, "name", json_object_get(v));
        json_object_put(*args);
        *args = fresh;
    }
    return 0;
}

static const struct qmp_command table[] = {
    { .name = "m", .args = &sample_type, .result = &sample_type, .run = same_back },
    { .name = "z", .run = nothing },
    { .name = "b", .args = &sample_type, .result = &sample_type, .run = fail_late },
    { 0 },
};
static const struct qmp_command more[] = {
    { .name = "c", .args = &sample_type, .result = &sample_type, .adapt = adapt, .run = same_back },
    { .name = "a", .result = &sample_type, .flags = QMP_PRINTED, .run = printed },
    { .name = "any", .result = &row_any, .run = nothing },
    { 0 },
};

static void up(void)
{
    autoerr err = { 0 };
    runs = 0;
    ck_assert_int_eq(qmp_register(table, &err), 0);
    ck_assert_int_eq(qmp_register(more, &err), 0);
}

/* The result as text, or the error's. */
static char *execute(const char *name, const char *text)
{
    struct json_object *args = NULL, *out = NULL;
    autoerr err = { 0 };
    if (text)
        ck_assert_int_eq(json_parse(text, strlen(text), &args, &err), 0);
    char *answer;
    if (qmp_execute(qmp_find(name), NULL, args, &out, &err) == 0) {
        ck_assert_int_eq(err.code, 0);
        answer = json_text(out);
        json_object_put(out);
    } else {
        ck_assert_int_ne(err.code, 0);
        ck_assert_ptr_null(out);
        ck_assert(asprintf(&answer, "%s: %s", err_class_name(err.class), err.msg) > 0);
    }
    if (text) { /* it stayed ours, and as it was */
        struct json_object *again;
        ck_assert_int_eq(json_parse(text, strlen(text), &again, &err), 0);
        ck_assert(json_object_equal(args, again));
        json_object_put(again);
        ck_assert_int_eq(json_object_put(args), 1);
    }
    return answer;
}

#define check(name, args, want)                                                                    \
    do {                                                                                           \
        autofree char *answer_ = execute(name, args);                                              \
        ck_assert_str_eq(answer_, want);                                                           \
    } while (0)

START_TEST(the_table_is_sorted_and_has_each_name_once)
{
    static const char *const names[] = { "a", "any", "b", "c", "m", "z", NULL };
    const struct qmp_command *c = NULL;
    for (unsigned i = 0; names[i]; i++) {
        c = qmp_next(c);
        ck_assert_str_eq(c->name, names[i]);
        ck_assert_ptr_eq(qmp_find(names[i]), c);
    }
    ck_assert_ptr_null(qmp_next(c));
    ck_assert_ptr_null(qmp_find(""));
    ck_assert_ptr_null(qmp_find("aa"));
    ck_assert_ptr_null(qmp_find("zz"));

    autoerr err = { 0 };
    ck_assert_int_eq(qmp_register(table, &err), -EEXIST);
    ck_assert_str_eq(err.msg, "The command m is registered twice");
    qmp_unregister_all();
    ck_assert_ptr_null(qmp_next(NULL));
    ck_assert_ptr_null(qmp_find("m"));
}
END_TEST

START_TEST(arguments_are_checked_before_the_command_runs)
{
    check("m", "{'name':'x','n':1}", "{\"name\": \"x\", \"n\": 2}");
    check("m", "{'name':'x'}", "{\"name\": \"x\", \"n\": 8}");
    runs = 0;
    check("m", "{}", "GenericError: Parameter 'name' is missing");
    check("m", NULL, "GenericError: Parameter 'name' is missing");
    check("m", "{'name':'x','n':'1'}",
          "GenericError: Invalid parameter type for 'n', expected: integer");
    check("m", "{'name':'x','y':1}", "GenericError: Parameter 'y' is unexpected");
    check("z", "{'y':1}", "GenericError: Parameter 'y' is unexpected");
    ck_assert_uint_eq(runs, 0);
    check("z", NULL, "{}");
    check("z", "{}", "{}");
    ck_assert_uint_eq(runs, 2);
}
END_TEST

START_TEST(errors_keep_their_class)
{
    check("b", "{'name':'x'}", "DeviceNotFound: no such thing");
}
END_TEST

START_TEST(older_forms_are_rewritten_first)
{
    check("c", "{'called':'x'}", "{\"name\": \"x\", \"n\": 8}");
    check("c", "{'name':'x','n':1}", "{\"name\": \"x\", \"n\": 2}");
    runs = 0;
    check("c", "{'refuse':1}", "GenericError: refused");
    ck_assert_uint_eq(runs, 0);
}
END_TEST

START_TEST(results_that_are_json_already)
{
    check("a", NULL, "\"as it is\"");
    check("any", NULL, "null");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dispatch");
    TCase *t = tcase_create("dispatch");
    tcase_add_checked_fixture(t, up, qmp_unregister_all);
    tcase_add_test(t, the_table_is_sorted_and_has_each_name_once);
    tcase_add_test(t, arguments_are_checked_before_the_command_runs);
    tcase_add_test(t, errors_keep_their_class);
    tcase_add_test(t, older_forms_are_rewritten_first);
    tcase_add_test(t, results_that_are_json_already);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
