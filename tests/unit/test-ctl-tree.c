/* SPDX-License-Identifier: MIT */
/* Graphs as trees: every node once, whatever the graph. */
#include <check.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "tools/ctl-json.h"
#include "tools/ctl-tree.h"

static struct json_object *parsed(const char *text)
{
    struct json_object *out;
    autoerr err = { 0 };

    ck_assert_msg(json_parse(text, strlen(text), &out, &err) == 0, "%s: %s", text, err.msg);
    return out;
}

static char *drawn(const char *nodes_text, const char *exports_text, bool lines)
{
    struct json_object *nodes = parsed(nodes_text), *exports = parsed(exports_text);
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    ck_assert_int_eq(ctl_tree_print(nodes, exports, lines, f), 0);
    fclose(f);
    json_object_put(nodes);
    json_object_put(exports);
    return text;
}

static void expect(const char *nodes, const char *exports, const char *picture)
{
    autofree char *text = drawn(nodes, exports, false);

    ck_assert_str_eq(text, picture);
}

/*
 *   top       mid2 (exported twice)
 *    |  \    /
 *   f1   base
 *         |
 *        f2
 */
static const char two_roots[] =
    "[{'node-name': 'f2', 'drv': 'file', 'ro': true, 'file': '/b', 'image': {'virtual-size': 512}},"
    "{'node-name': 'base', 'drv': 'raw', 'ro': true, 'file': '/b',"
    " 'children': [{'child': 'file', 'node-name': 'f2'}]},"
    "{'node-name': 'f1', 'drv': 'file', 'ro': false, 'file': '/t.qcow2'},"
    "{'node-name': 'top', 'drv': 'qcow2', 'ro': false, 'file': '/t.qcow2',"
    " 'children': [{'child': 'file', 'node-name': 'f1'},"
    "              {'child': 'backing', 'node-name': 'base'}]},"
    "{'node-name': 'mid2', 'drv': 'raw', 'ro': true,"
    " 'children': [{'child': 'file', 'node-name': 'base'}]}]";

START_TEST(shared_children_once)
{
    expect(two_roots, "[{'id': 'a', 'node-name': 'mid2'}, {'id': 'b', 'node-name': 'mid2'}]",
           "NODE                   DRIVER   SIZE  ACCESS  USED-BY             FILE\n"
           "top                    qcow2          rw\n"
           "|- file: f1            file           rw                          /t.qcow2\n"
           "`- backing: base       raw            ro\n"
           "   `- file: f2         file    512 B  ro                          /b\n"
           "mid2                   raw            ro      export a, export b\n"
           "`- file: base (above)\n");
}
END_TEST

START_TEST(lines)
{
    autofree char *text = drawn(two_roots, "[]", true);

    ck_assert_ptr_nonnull(strstr(text, "\n\xe2\x94\x9c\xe2\x94\x80 file: f1 "));
    ck_assert_ptr_nonnull(strstr(text, "\n   \xe2\x94\x94\xe2\x94\x80 file: f2 "));
}
END_TEST

START_TEST(any_graph)
{
    /* A cycle, a child of nobody's knowledge, a name twice, things that are no nodes. */
    expect("[{'node-name': 'a', 'children': [{'child': 'x', 'node-name': 'b'}]},"
           " {'node-name': 'b', 'children': [{'child': 'y', 'node-name': 'a'},"
           "                                 {'child': 'z', 'node-name': 'gone'}]},"
           " {'node-name': 'a', 'drv': 'second'}, 5, null, {}, {'node-name': 7}]",
           "[{'id': 'e', 'node-name': 'gone'}, {'node-name': 'a'}, 1]",
           "NODE                DRIVER  SIZE  ACCESS  USED-BY  FILE\n"
           "a\n"
           "`- x: b\n"
           "   |- y: a (above)\n"
           "   `- z: gone\n");
    expect("[]", "[]", "NODE  DRIVER  SIZE  ACCESS  USED-BY  FILE\n");
    expect("{}", "null", "NODE  DRIVER  SIZE  ACCESS  USED-BY  FILE\n");
}
END_TEST

START_TEST(long_chain_goes_on_at_the_edge)
{
    enum { LENGTH = 3000 };
    autofree char *nodes = NULL, *text = NULL;
    size_t size, count = 0, longest = 0;
    FILE *f = open_memstream(&nodes, &size);

    for (unsigned i = 0; i < LENGTH; i++)
        fprintf(f, "%s{'node-name': 'n%u', 'children': [{'child': 'below', 'node-name': 'n%u'}]}",
                i ? "," : "[", i, i + 1);
    fputc(']', f);
    fclose(f);
    text = drawn(nodes, "[]", false);
    for (const char *s = text, *end; (end = strchr(s, '\n')); s = end + 1, count++)
        if ((size_t)(end - s) > longest)
            longest = (size_t)(end - s);
    ck_assert_uint_ge(count, LENGTH);
    ck_assert_uint_lt(longest, 300);
    ck_assert_ptr_nonnull(strstr(text, " (below)\n"));
    ck_assert_ptr_nonnull(strstr(text, "below: n2999"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("ctl-tree");
    TCase *t = tcase_create("ctl-tree");

    setlocale(LC_CTYPE, "C.UTF-8");
    suite_add_tcase(s, t);
    tcase_add_test(t, shared_children_once);
    tcase_add_test(t, lines);
    tcase_add_test(t, any_graph);
    tcase_add_test(t, long_chain_goes_on_at_the_edge);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
