/* SPDX-License-Identifier: MIT */
/* qmp/schema.c: the schema of a few commands of every kind of type, to the letter. */
#include <check.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "qmp/qmp.h"

static const char *const kinds[] = { "none", "", "x-some", NULL };
static ROW_ENUM_TYPE(kind_type, "Kind", kinds);

static const struct row some_rows[] = {
    ROW_OPT(struct row_list, "more", v, row_str, .deprecated = true), ROW_END
};
static const char *const features[] = { "quick", NULL };
static ROW_STRUCT_TYPE(some_type, "Some", struct row_list, some_rows, .features = features);

static const struct row base_rows[] = { ROW_REQ(struct row_choice, "kind", type, kind_type),
                                        ROW_END };
static const struct row_type *const branches[] = { NULL, NULL, &some_type };
static const struct row_type union_type = {
    .kind = ROW_UNION, .name = "Union", .rows = base_rows, .tag = "kind", .branches = branches
};

static const struct row_type *const choices[] = { &row_str, &row_uint32, &some_type, NULL };
static ROW_ALTERNATE_TYPE(choice_type, "Choice", choices);
static ROW_LIST_TYPE(sizes_type, row_size);
static ROW_LIST_TYPE(ints_type, row_int8);
static ROW_LIST_TYPE(unions_type, union_type);

static const struct row in_line_rows[] = { ROW_REQ(struct row_list, "x-first", v, row_bool),
                                           ROW_END };
static ROW_STRUCT_TYPE(in_line_type, "InLine", struct row_list, in_line_rows);
static const struct row args_rows[] = {
    ROW_BASE(struct row_list, v, in_line_type),
    ROW_OPT(struct row_list, "choice", v, choice_type),
    ROW_REQ(struct row_list, "sizes", v, sizes_type),
    ROW_REQ(struct row_list, "ints", v, ints_type),
    ROW_END,
};
static ROW_STRUCT_TYPE(args_type, "Args", struct row_list, args_rows);

static const struct qmp_command table[] = {
    { .name = "one", .args = &args_type, .result = &unions_type, .flags = QMP_ALLOW_OOB },
    { .name = "x-two", .flags = QMP_DEPRECATED },
    { 0 },
};
static const struct event_type event = { .name = "E", .data = &some_type };

static const char *const want[] = {
    "{\"name\": \"one\", \"meta-type\": \"command\", \"arg-type\": \"0\", \"ret-type\": \"[2]\", "
    "\"allow-oob\": true}",
    "{\"name\": \"x-two\", \"meta-type\": \"command\", \"arg-type\": \"3\", \"ret-type\": \"3\", "
    "\"features\": [\"deprecated\", \"unstable\"]}",
    "{\"name\": \"E\", \"meta-type\": \"event\", \"arg-type\": \"4\"}",
    "{\"name\": \"0\", \"meta-type\": \"object\", \"members\": ["
    "{\"name\": \"x-first\", \"type\": \"bool\", \"features\": [\"unstable\"]}, "
    "{\"name\": \"choice\", \"type\": \"5\", \"default\": null}, "
    "{\"name\": \"sizes\", \"type\": \"[int]\"}, {\"name\": \"ints\", \"type\": \"[int]\"}]}",
    "{\"name\": \"[2]\", \"meta-type\": \"array\", \"element-type\": \"2\"}",
    "{\"name\": \"2\", \"meta-type\": \"object\", \"members\": [{\"name\": \"kind\", \"type\": "
    "\"7\"}], \"tag\": \"kind\", \"variants\": [{\"case\": \"none\", \"type\": \"3\"}, "
    "{\"case\": \"x-some\", \"type\": \"4\"}]}",
    "{\"name\": \"3\", \"meta-type\": \"object\", \"members\": []}",
    "{\"name\": \"4\", \"meta-type\": \"object\", \"members\": [{\"name\": \"more\", \"type\": "
    "\"str\", \"default\": null, \"features\": [\"deprecated\"]}], \"features\": [\"quick\"]}",
    "{\"name\": \"5\", \"meta-type\": \"alternate\", \"members\": [{\"type\": \"str\"}, "
    "{\"type\": \"int\"}, {\"type\": \"4\"}]}",
    "{\"name\": \"[int]\", \"meta-type\": \"array\", \"element-type\": \"int\"}",
    "{\"name\": \"7\", \"meta-type\": \"enum\", \"members\": [{\"name\": \"none\"}, "
    "{\"name\": \"x-some\", \"features\": [\"unstable\"]}], \"values\": [\"none\", \"x-some\"]}",
    "{\"name\": \"str\", \"meta-type\": \"builtin\", \"json-type\": \"string\"}",
};

START_TEST(every_kind_of_type)
{
    static const struct event_type *const events[] = { &event, NULL };
    autoerr err = { 0 };
    event_register(events);
    ck_assert_int_eq(qmp_register(table, &err), 0);
    struct json_object *schema = qmp_schema();
    size_t n = sizeof(want) / sizeof(want[0]);
    ck_assert_uint_eq(json_object_array_length(schema), n + 5); /* the built-in types but str */
    for (size_t i = 0; i < n; i++) {
        autofree char *text = json_text(json_object_array_get_idx(schema, i));
        ck_assert_str_eq(text, want[i]);
    }
    json_object_put(schema);
    qmp_unregister_all();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("schema");
    TCase *t = tcase_create("schema");
    tcase_add_test(t, every_kind_of_type);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
