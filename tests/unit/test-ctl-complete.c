/* SPDX-License-Identifier: MIT */
/* What may stand at the end of a line, by a schema that has one of each kind of type. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "tools/ctl-complete.h"

static const char schema_text[] =
    "[{'name': 'add', 'meta-type': 'command', 'arg-type': '0', 'ret-type': '9'},"
    "{'name': 'block-export-del', 'meta-type': 'command', 'arg-type': '8', 'ret-type': '9'},"
    "{'name': 'block_resize', 'meta-type': 'command', 'arg-type': '7', 'ret-type': '9'},"
    "{'name': 'EVENT', 'meta-type': 'event', 'arg-type': '9'},"
    "{'name': '0', 'meta-type': 'object', 'tag': 'driver', 'members': ["
    "  {'name': 'driver', 'type': '1'}, {'name': 'read-only', 'type': 'bool'},"
    "  {'name': 'cache', 'type': '2'}, {'name': 'node-name', 'type': 'str'}],"
    "  'variants': [{'case': 'file', 'type': '3'}, {'case': 'raw', 'type': '4'}]},"
    "{'name': '1', 'meta-type': 'enum', 'values': ['file', 'raw'],"
    "  'members': [{'name': 'file'}, {'name': 'raw'}]},"
    "{'name': '2', 'meta-type': 'object', 'members': [{'name': 'direct', 'type': 'bool'}]},"
    "{'name': '3', 'meta-type': 'object', 'members': [{'name': 'filename', 'type': 'str'}]},"
    "{'name': '4', 'meta-type': 'object', 'members': ["
    "  {'name': 'file', 'type': '5'}, {'name': 'children', 'type': '[5]'},"
    "  {'name': 'sizes', 'type': '[int]'}]},"
    "{'name': '5', 'meta-type': 'alternate', 'members': [{'type': '0'}, {'type': 'str'}]},"
    "{'name': '[5]', 'meta-type': 'array', 'element-type': '5'},"
    "{'name': '[int]', 'meta-type': 'array', 'element-type': 'int'},"
    "{'name': '7', 'meta-type': 'object', 'members': ["
    "  {'name': 'node-name', 'type': 'str'}, {'name': 'size', 'type': 'int'}]},"
    "{'name': '8', 'meta-type': 'object', 'members': [{'name': 'id', 'type': 'str'}]},"
    "{'name': '9', 'meta-type': 'object', 'members': []},"
    "{'name': 'bool', 'meta-type': 'builtin', 'json-type': 'boolean'},"
    "{'name': 'int', 'meta-type': 'builtin', 'json-type': 'int'},"
    "{'name': 'str', 'meta-type': 'builtin', 'json-type': 'string'}]";

static struct json_object *parsed(const char *text)
{
    struct json_object *out;
    autoerr err = { 0 };

    ck_assert_msg(json_parse(text, strlen(text), &out, &err) == 0, "%s: %s", text, err.msg);
    return out;
}

static struct json_object *ask(const char *command, void *arg)
{
    (void)arg;
    if (strcmp(command, "query-named-block-nodes") == 0)
        return parsed("[{'node-name': 'disk2'}, {'node-name': 'disk1'}, {}, 1]");
    ck_assert_str_eq(command, "query-block-exports");
    return parsed("[{'id': 'e'}]");
}

/* @want: the candidates with bars between, behind what of the line they do not replace. */
static void expect(const char *described, const char *line, const char *want)
{
    static const char *const builtins[] = { "exit", "help", NULL };
    struct json_object *list = parsed(described);
    struct ctl_schema schema;
    struct ctl_completion c = { .schema = &schema, .builtins = builtins, .ask = ask };
    autofree char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    ck_assert_int_eq(ctl_schema_init(&schema, list), 0);
    json_object_put(list);
    ck_assert_int_eq(ctl_complete(&c, line), 0);
    fprintf(f, "%.*s", (int)c.start, line);
    for (size_t i = 0; i < c.count; i++) {
        fprintf(f, "%s%s", i ? "|" : "", c.words[i]);
        ck_assert_int_eq(strncmp(c.words[i], c.words[0], c.common), 0);
    }
    fclose(f);
    ck_assert_str_eq(text, want);
    ctl_completion_free(&c);
    ctl_schema_free(&schema);
}

static const struct {
    const char *line, *want;
} cases[] = {
    /* commands */
    { "", "add |block-export-del |block_resize |exit |help " },
    { "  bl", "  block-export-del |block_resize " },
    { "block_r", "block_resize " },
    { "E", "" },
    { "help a", "help add " },
    { "help e", "help " },
    { "nope x", "nope " },
    /* keys */
    { "block_resize ", "block_resize node-name=|size=" },
    { "block_resize node-name=x ", "block_resize node-name=x size=" },
    { "block_resize size=1,n", "block_resize size=1,node-name=" },
    { "add ", "add cache.|driver=|node-name=|read-only=" },
    { "add cache.", "add cache.direct=" },
    { "add f", "add " },
    { "add driver=file f", "add driver=file filename=" },
    { "add driver=raw,f", "add driver=raw,file.|file=" },
    { "add driver=raw file.",
      "add driver=raw file.cache.|file.driver=|file.node-name=|file.read-only=" },
    { "add driver=raw file.driver=file file.f", "add driver=raw file.driver=file file.filename=" },
    { "add driver=raw children.", "add driver=raw children.0.|children.0=" },
    { "add driver=raw children.0=a children.1.driver=file children.",
      "add driver=raw children.0=a children.1.driver=file children.2.|children.2=" },
    { "add driver=raw children.1.cache.d", "add driver=raw children.1.cache.direct=" },
    { "add driver=raw sizes.", "add driver=raw sizes.0=" },
    { "add nope.x", "add " },
    { "add read-only.x", "add " },
    /* values */
    { "add driver=", "add driver=file|raw" },
    { "add driver=r", "add driver=raw" },
    { "add read-only=o", "add read-only=off|on" },
    { "add driver=raw file=", "add driver=raw file=disk1|disk2" },
    { "add driver=raw children.0=disk1,children.1=d",
      "add driver=raw children.0=disk1,children.1=disk1|disk2" },
    { "block_resize node-name=", "block_resize node-name=disk1|disk2" },
    { "block_resize size=", "block_resize size=" },
    { "block_resize nope=", "block_resize nope=" },
    { "block-export-del id=", "block-export-del id=e" },
    { "add driver=file,filename=", "add driver=file,filename=" },
    /* nothing is known inside of quotes and JSON */
    { "{\"exe", "{\"exe" },
    { "block_resize node-name='", "block_resize node-name='" },
};

START_TEST(ends_of_lines)
{
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        expect(schema_text, cases[i].line, cases[i].want);
}
END_TEST

START_TEST(any_schema)
{
    expect("null", "a", "");
    expect("null", "a b", "a ");
    expect("[1, {}, {'name': 5}, {'name': 'a', 'meta-type': 'command', 'arg-type': 'a'}]", "a ",
           "a ");
    /* Types that lead to themselves or nowhere. */
    expect("[{'name': 'a', 'meta-type': 'command', 'arg-type': 'o'},"
           "{'name': 'o', 'meta-type': 'object', 'tag': 5, 'variants': 5, 'members': ["
           "  {'name': 'o', 'type': 'o'}, {'name': 'l', 'type': 'l'}, {'type': 'o'}, {'name': 'n', "
           "'type': 'n'}]},"
           "{'name': 'l', 'meta-type': 'array', 'element-type': 'l'}]",
           "a o.l.0.1.", "a o.l.0.1.0.");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl-complete");
    TCase *t = tcase_create("ctl-complete");

    suite_add_tcase(s, t);
    tcase_add_test(t, ends_of_lines);
    tcase_add_test(t, any_schema);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
