/* SPDX-License-Identifier: MIT */
/*
 * Option rows: JSON and command line text to C values and back, and the words
 * of refusals, most of which were measured on qemu-storage-daemon 7.2.
 */
#include <check.h>
#include <errno.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "tests/unit/row-sample.h"
#include "uring/co.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* What the C value that @text gives prints, or the message that refuses @text. */
static char *again(const struct row_type *type, const char *text)
{
    autoerr err = { 0 };
    union {
        struct sample_node node;
        struct row_choice choice;
        char bytes[256];
    } v, copy;

    memset(&v, 0xaa, sizeof v);
    ck_assert_uint_le(type->size, sizeof v);
    int r = row_parse_text(type, text, "driver", &v, &err);
    ck_assert_int_eq(r, err.code);
    if (r < 0) {
        for (size_t i = 0; i < type->size; i++)
            ck_assert_int_eq(((char *)&v)[i], 0); /* nothing is left behind */
        return strdup(err.msg);
    }
    ck_assert_int_eq(row_copy(type, &v, &copy), 0);
    ck_assert(row_equal(type, &v, &copy));
    row_release(type, &v);
    char *out = row_text(type, &copy);
    row_release(type, &copy);
    row_release(type, &copy);
    return out;
}

static void check_rows(const char *const rows[][2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        autofree char *got = again(&sample_node, rows[i][0]);

        ck_assert_msg(!strcmp(got, rows[i][1]), "%s\n gave %s\n not  %s", rows[i][0], got,
                      rows[i][1]);
    }
}

#define NULL_DEFAULTS                                                                              \
    "\"read-zeroes\": true, \"chunk\": 65536, \"ratio\": 0.5, \"mode\": \"unmap\"}"

START_TEST(json_makes_values)
{
    static const char *const rows[][2] = {
        { "{'driver':'null-co'}", "{\"driver\": \"null-co\", " NULL_DEFAULTS },
        { "{'driver':'plain','node-name':'p'}", "{\"driver\": \"plain\", \"node-name\": \"p\"}" },
        { "{'driver':'null-co','size':-9223372036854775808,'latency-ns':18446744073709551615,"
          "'read-zeroes':false,'chunk':0,'ratio':3,'level':-128,'mode':'off'}",
          "{\"driver\": \"null-co\", \"size\": -9223372036854775808, "
          "\"latency-ns\": 18446744073709551615, \"read-zeroes\": false, \"chunk\": 0, "
          "\"ratio\": 3, \"level\": -128, \"mode\": \"off\"}" },
        { "{'driver':'raw','file':'x'}", "{\"driver\": \"raw\", \"file\": \"x\"}" },
        { "{'driver':'raw','file':{'driver':'plain','read-only':true}}",
          "{\"driver\": \"raw\", \"file\": {\"driver\": \"plain\", \"read-only\": true}}" },
        { "{'file':'f','backing':null,'driver':'qcow2','overlap-check':'all'}",
          "{\"driver\": \"qcow2\", \"file\": \"f\", \"backing\": null, \"overlap-check\": "
          "\"all\"}" },
        { "{'file':'f','driver':'qcow2','overlap-check':{'main-header':false}}",
          "{\"driver\": \"qcow2\", \"file\": \"f\", "
          "\"overlap-check\": {\"template\": \"none\", \"main-header\": false}}" },
        { "{'driver':'quorum','vote-threshold':1,'children':['a',{'driver':'plain'}],"
          "'servers':[{'type':'unix','path':'/p'}],'ints':[1,-1],'words':['','x']}",
          "{\"driver\": \"quorum\", \"vote-threshold\": 1, \"children\": [\"a\", {\"driver\": "
          "\"plain\"}], \"servers\": [{\"type\": \"unix\", \"path\": \"/p\"}], "
          "\"ints\": [1, -1], \"words\": [\"\", \"x\"]}" },
        { "{'driver':'quorum','vote-threshold':1,'children':[]}",
          "{\"driver\": \"quorum\", \"vote-threshold\": 1, \"children\": []}" },
        { "{'driver':'nbd','server':{'type':'inet','host':'h','port':'1','to':65535},"
          "'other':{'type':'unix','path':'p'},'reconnect-delay':4294967295,'any':[{'x':1.5}],"
          "'nothing':null}",
          "{\"driver\": \"nbd\", \"server\": {\"type\": \"inet\", \"host\": \"h\", \"port\": "
          "\"1\", \"to\": 65535}, \"other\": {\"type\": \"unix\", \"path\": \"p\"}, "
          "\"export\": \"default\", \"reconnect-delay\": 4294967295, \"any\": [{\"x\": 1.5}], "
          "\"nothing\": null}" },
    };

    check_rows(rows, COUNT(rows));
}
END_TEST

#define NBD    "{'driver':'nbd','server':{'type':'inet','host':'a','port':'7'"
#define QUORUM "{'driver':'quorum','vote-threshold':1,'children':"

START_TEST(json_refusals)
{
    static const char *const rows[][2] = {
        { "{}", "Parameter 'driver' is missing" },
        { "{'driver':'nope'}", "Parameter 'driver' does not accept value 'nope'" },
        { "{'driver':''}", "Parameter 'driver' does not accept value ''" },
        { "{'driver':7}", "Invalid parameter type for 'driver', expected: string" },
        { "{'driver':'plain','node-name':null}",
          "Invalid parameter type for 'node-name', expected: string" },
        { "{'driver':'plain','node-name':'a\\u0000b'}",
          "Parameter 'node-name' expects a string without null characters" },
        { "{'driver':'plain','x':1}", "Parameter 'x' is unexpected" },
        { "{'driver':'plain','file':'x'}", "Parameter 'file' is unexpected" },
        { "{'driver':'null-co','read-only':1}",
          "Invalid parameter type for 'read-only', expected: boolean" },
        { "{'driver':'null-co','size':'1M'}",
          "Invalid parameter type for 'size', expected: integer" },
        { "{'driver':'null-co','size':1.5}",
          "Invalid parameter type for 'size', expected: integer" },
        { "{'driver':'null-co','size':1.0}",
          "Invalid parameter type for 'size', expected: integer" },
        { "{'driver':'null-co','size':9223372036854775808}",
          "Invalid parameter type for 'size', expected: integer" },
        { "{'driver':'null-co','latency-ns':'x'}", "Parameter 'latency-ns' expects uint64" },
        { "{'driver':'null-co','latency-ns':1.5}", "Parameter 'latency-ns' expects uint64" },
        { "{'driver':'null-co','latency-ns':-1}", "Parameter 'latency-ns' expects uint64" },
        { "{'driver':'null-co','latency-ns':18446744073709551616}",
          "Parameter 'latency-ns' expects uint64" },
        { "{'driver':'null-co','chunk':-1}", "Parameter 'chunk' expects uint64" },
        { "{'driver':'null-co','chunk':'64K'}", "Parameter 'chunk' expects uint64" },
        { "{'driver':'null-co','ratio':'x'}",
          "Invalid parameter type for 'ratio', expected: number" },
        { "{'driver':'null-co','level':128}", "Parameter 'level' expects int8_t" },
        { "{'driver':'null-co','level':-129}", "Parameter 'level' expects int8_t" },
        { "{'driver':'null-co','mode':''}", "Parameter 'mode' does not accept value ''" },
        { "{'driver':'raw'}", "Parameter 'file' is missing" },
        { "{'driver':'raw','file':7}", "Invalid parameter type for 'file', expected: BlockdevRef" },
        { "{'driver':'raw','file':null}",
          "Invalid parameter type for 'file', expected: BlockdevRef" },
        { "{'driver':'raw','file':[]}",
          "Invalid parameter type for 'file', expected: BlockdevRef" },
        { "{'driver':'raw','file':{}}", "Parameter 'file.driver' is missing" },
        { "{'driver':'raw','file':{'driver':'raw'}}", "Parameter 'file.file' is missing" },
        { "{'driver':'raw','file':{'driver':'plain','b':1}}", "Parameter 'file.b' is unexpected" },
        { "{'driver':'raw','file':{'driver':'zip'}}",
          "Parameter 'driver' does not accept value 'zip'" },
        { "{'driver':'qcow2','file':'x','overlap-check':{'template':'foo'}}",
          "Parameter 'template' does not accept value 'foo'" },
        { "{'driver':'qcow2','file':'x','overlap-check':7}",
          "Invalid parameter type for 'overlap-check', expected: OverlapChecks" },
        { QUORUM "7}", "Invalid parameter type for 'children', expected: array" },
        { QUORUM "[{'driver':'raw','file':{'driver':'raw'}}]}",
          "Parameter 'children[0].file.file' is missing" },
        { QUORUM "['x',{'driver':'plain','node-name':8}]}",
          "Invalid parameter type for 'children[1].node-name', expected: string" },
        { QUORUM "['x',8]}", "Invalid parameter type for 'children[1]', expected: BlockdevRef" },
        { QUORUM "[],'ints':[1,'x']}", "Invalid parameter type for 'ints[1]', expected: integer" },
        { "{'driver':'nbd','server':{}}", "Parameter 'server.type' is missing" },
        { "{'driver':'nbd','server':'x'}",
          "Invalid parameter type for 'server', expected: object" },
        { "{'driver':'nbd','server':{'type':'inet'}}", "Parameter 'server.host' is missing" },
        { "{'driver':'nbd','server':{'type':'zinet'}}",
          "Parameter 'type' does not accept value 'zinet'" },
        { NBD ",'to':'x'}}", "Parameter 'server.to' expects uint64" },
        { NBD ",'to':65536}}", "Parameter 'to' expects uint16_t" },
        { NBD ",'path':'x'}}", "Parameter 'server.path' is unexpected" },
        { NBD "},'reconnect-delay':-1}", "Parameter 'reconnect-delay' expects uint32_t" },
        { NBD "},'reconnect-delay':4294967296}", "Parameter 'reconnect-delay' expects uint32_t" },
        { NBD "},'nothing':0}", "Invalid parameter type for 'nothing', expected: null" },
        { "{", "JSON parse error, premature EOI" },
    };

    check_rows(rows, COUNT(rows));
}
END_TEST

START_TEST(text_makes_values)
{
    static const char *const rows[][2] = {
        { "driver=plain", "{\"driver\": \"plain\"}" },
        { "plain,", "{\"driver\": \"plain\"}" },
        { "plain,node-name=a,,b=c,read-only=y",
          "{\"driver\": \"plain\", \"node-name\": \"a,b=c\", \"read-only\": true}" },
        { "plain,node-name=", "{\"driver\": \"plain\", \"node-name\": \"\"}" },
        { "driver=raw,driver=plain", "{\"driver\": \"plain\"}" },
        { "null-co,size=0x10,latency-ns=18446744073709551615,read-zeroes=off,chunk=1.5M,"
          "ratio=-2.5e1,level=-0x80,mode=on",
          "{\"driver\": \"null-co\", \"size\": 16, \"latency-ns\": 18446744073709551615, "
          "\"read-zeroes\": false, \"chunk\": 1572864, \"ratio\": -25, \"level\": -128, "
          "\"mode\": \"on\"}" },
        { "raw,file=x", "{\"driver\": \"raw\", \"file\": \"x\"}" },
        { "raw,file=", "{\"driver\": \"raw\", \"file\": \"\"}" },
        { "file.driver=raw,driver=raw,file.file.driver=plain",
          "{\"driver\": \"raw\", \"file\": {\"driver\": \"raw\", \"file\": {\"driver\": "
          "\"plain\"}}}" },
        { "qcow2,file=x,backing=,overlap-check=cached",
          "{\"driver\": \"qcow2\", \"file\": \"x\", \"backing\": null, "
          "\"overlap-check\": \"cached\"}" },
        { "qcow2,file=x,backing=y,overlap-check.template=all",
          "{\"driver\": \"qcow2\", \"file\": \"x\", \"backing\": \"y\", "
          "\"overlap-check\": {\"template\": \"all\"}}" },
        { "quorum,vote-threshold=2,children.1.driver=plain,children.0=a,children.002=c,ints.0=5,"
          "children.2=d,servers.0.type=unix,servers.0.path=/x",
          "{\"driver\": \"quorum\", \"vote-threshold\": 2, \"children\": [\"a\", {\"driver\": "
          "\"plain\"}, \"d\"], \"servers\": [{\"type\": \"unix\", \"path\": \"/x\"}], "
          "\"ints\": [5]}" },
        { "nbd,server.type=inet,server.host=h,server.port=7,any.a.0=x,nothing=",
          "{\"driver\": \"nbd\", \"server\": {\"type\": \"inet\", \"host\": \"h\", \"port\": "
          "\"7\"}, \"export\": \"default\", \"any\": {\"a\": [\"x\"]}, \"nothing\": null}" },
    };

    check_rows(rows, COUNT(rows));
}
END_TEST

#define X32  "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X127 X32 X32 X32 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

START_TEST(text_refusals)
{
    static const char *const rows[][2] = {
        { "", "Parameter 'driver' is missing" },
        { ",", "Invalid parameter ''" },
        { "=x", "Invalid parameter ''" },
        { "plain,,x", "Invalid parameter ''" },
        { "driver=plain,,x=1", "Parameter 'driver' does not accept value 'plain,x=1'" },
        { "[]", "Parameter 'driver' does not accept value '[]'" },
        { " {}", "Parameter 'driver' does not accept value ' {}'" },
        { "a..b=x", "Invalid parameter 'a..b'" },
        { ".b=x", "Invalid parameter '.b'" },
        { "a.=x", "Invalid parameter 'a.'" },
        { "a b=x", "Invalid parameter 'a b'" },
        { "0=x", "Invalid parameter '0'" },
        { "9a=x", "Invalid parameter '9a'" },
        { "_a=x", "Invalid parameter '_a'" },
        { "a.0b=x", "Invalid parameter 'a.0b'" },
        { "a.-1=x", "Invalid parameter 'a.-1'" },
        { "plain,__org.foo_a=x", "Parameter '__org.foo_a' is unexpected" },
        { "plain," X127 "=x", "Parameter '" X127 "' is unexpected" },
        { "plain," X127 "x=x", "Parameter '" X127 "x' is too long" },
        { "plain,a." X127 "x=x", "Parameter fragment '" X127 "x' is too long" },
        { "driver=plain,read-only", "Expected '=' after parameter 'read-only'" },
        { "plain,x.y.z=1", "Parameter 'x' is unexpected" },
        { "plain,read-only=foo", "Parameter 'read-only' expects 'on' or 'off'" },
        { "plain,read-only=1", "Parameter 'read-only' expects 'on' or 'off'" },
        { "plain,read-only.x=on", "Parameters 'read-only.*' are unexpected" },
        { "driver.x=plain", "Parameters 'driver.*' are unexpected" },
        { "driver=plain,driver.x=1", "Parameters 'driver.*' used inconsistently" },
        { "raw,file.driver=plain,file=b", "Parameters 'file.*' used inconsistently" },
        { "null-co,size=abc", "Parameter 'size' expects integer" },
        { "null-co,size=1M", "Parameter 'size' expects integer" },
        { "null-co,size=9223372036854775808", "Parameter 'size' expects integer" },
        { "null-co,latency-ns=18446744073709551616", "Parameter 'latency-ns' expects integer" },
        { "null-co,latency-ns=-1", "Parameter 'latency-ns' expects integer" },
        { "null-co,latency-ns=", "Parameter 'latency-ns' expects integer" },
        { "null-co,chunk=abc", "Parameter 'chunk' expects size" },
        { "null-co,chunk=16E", "Parameter 'chunk' expects size" },
        { "null-co,chunk=1.5", "Parameter 'chunk' expects size" },
        { "null-co,ratio=nan", "Parameter 'ratio' expects number" },
        { "null-co,ratio=", "Parameter 'ratio' expects number" },
        { "null-co,ratio=1e999", "Parameter 'ratio' expects number" },
        { "null-co,level=x", "Parameter 'level' expects integer" },
        { "null-co,level=128", "Parameter 'level' expects int8_t" },
        { "null-co,level=-129", "Parameter 'level' expects int8_t" },
        { "null-co,level=99999999999999999999", "Parameter 'level' expects integer" },
        { "raw,file.driver=raw", "Parameter 'file.file' is missing" },
        { "raw,file.driver=plain,file.read-only=zz",
          "Parameter 'file.read-only' expects 'on' or 'off'" },
        { "raw,file.0=x", "Invalid parameter type for 'file', expected: BlockdevRef" },
        { "qcow2,file=x,overlap-check=foo",
          "Parameter 'overlap-check' does not accept value 'foo'" },
        { "quorum,vote-threshold=1,children.0=x,children.2=y", "Parameter 'children.1' missing" },
        { "quorum,children.2147483647=x", "Parameter 'children.0' missing" },
        { "quorum,children.99999999999999999999999=x", "Parameter 'children.0' missing" },
        { "quorum,children.0=x,children.a=x", "Parameters 'children.*' used inconsistently" },
        { "quorum,children.0=x,children.0.a=x", "Parameters 'children.0.*' used inconsistently" },
        { "quorum,vote-threshold=1,children=x",
          "Invalid parameter type for 'children', expected: array" },
        { "quorum,vote-threshold=1,children.a=x",
          "Invalid parameter type for 'children', expected: array" },
        { "quorum,vote-threshold=1,children.0.driver=raw",
          "Parameter 'children.0.file' is missing" },
        { "quorum,vote-threshold=1,children.0.driver=plain,children.0.bog=1",
          "Parameter 'children.0.bog' is unexpected" },
        { "nbd,server=x", "Invalid parameter type for 'server', expected: object" },
        { "nbd,server.type.x=x", "Parameters 'server.type.*' are unexpected" },
        { "nbd,server.type=inet,server.host=h,server.port=7,server.to=65536",
          "Parameter 'to' expects uint16_t" },
    };

    check_rows(rows, COUNT(rows));
}
END_TEST

/* --- C values ----------------------------------------------------------------------- */

START_TEST(c_values_are_where_the_rows_say)
{
    autoerr err = { 0 };
    struct sample_node n;

    ck_assert_int_eq(row_parse_text(&sample_node,
                                    "{'driver':'quorum','node-name':'q','vote-threshold':5,"
                                    "'children':['a',{'driver':'null-co','size':7}]}",
                                    NULL, &n, &err),
                     0);
    ck_assert_int_eq(n.driver, SAMPLE_QUORUM);
    ck_assert_str_eq(n.common.name, "q");
    ck_assert(!n.common.has_read_only);
    const struct sample_quorum *q = n.u;
    ck_assert_int_eq(q->threshold, 5);
    ck_assert_uint_eq(q->children.n, 2);
    const struct row_choice *c = q->children.v;
    ck_assert_ptr_eq(c[0].type, &row_str);
    ck_assert_str_eq(*(char **)c[0].value, "a");
    ck_assert_ptr_eq(c[1].type, &sample_node);
    const struct sample_null *inner = ((struct sample_node *)c[1].value)->u;
    ck_assert(inner->has_size && inner->size == 7);
    ck_assert(!inner->has_level && inner->read_zeroes && inner->chunk == 65536);
    ck_assert_int_eq(inner->mode, 3);
    row_release(&sample_node, &n);
    ck_assert_ptr_null(n.u);
}
END_TEST

START_TEST(no_object_is_an_empty_one)
{
    struct sample_common c = { .has_read_only = true };
    struct sample_node n;
    autoerr err = { 0 };

    ck_assert_int_eq(row_parse(&sample_common, NULL, &c, &err), 0);
    ck_assert(!c.has_read_only);
    ck_assert_int_eq(row_parse(&sample_node, NULL, &n, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "Parameter 'driver' is missing");
}
END_TEST

START_TEST(a_whole_number_equals_itself_read_back)
{
    static const char text[] = "{'driver': 'nbd', 'any': 1.0, "
                               "'server': {'type': 'unix', 'path': 'p'}}";
    struct sample_node a, b;
    autoerr err = { 0 };

    ck_assert_int_eq(row_parse_text(&sample_node, text, NULL, &a, &err), 0);
    autofree char *printed = row_text(&sample_node, &a);
    ck_assert_int_eq(row_parse_text(&sample_node, printed, NULL, &b, &err), 0);
    ck_assert(row_equal(&sample_node, &a, &b));
    row_release(&sample_node, &a);
    row_release(&sample_node, &b);
}
END_TEST

START_TEST(equality_is_that_of_what_prints)
{
    static const char *const texts[] = {
        "plain",
        "plain,node-name=a",
        "plain,read-only=off",
        "null-co",
        "null-co,size=1",
        "null-co,latency-ns=18446744073709551615",
        "raw,file=a",
        "raw,file.driver=plain",
        "quorum,vote-threshold=1,children.0=a",
        "quorum,vote-threshold=1,children.0=b",
    };

    for (unsigned i = 0; i < COUNT(texts); i++) {
        for (unsigned j = 0; j < COUNT(texts); j++) {
            struct sample_node a, b;
            autoerr err = { 0 };

            ck_assert_int_eq(row_parse_text(&sample_node, texts[i], "driver", &a, &err), 0);
            ck_assert_int_eq(row_parse_text(&sample_node, texts[j], "driver", &b, &err), 0);
            ck_assert_int_eq(row_equal(&sample_node, &a, &b), i == j);
            row_release(&sample_node, &a);
            row_release(&sample_node, &b);
        }
    }
}
END_TEST

START_TEST(lists_grow)
{
    struct row_list list = { 0 };

    for (int i = 0; i < 100; i++) {
        char **item = row_list_append(&row_str_list, &list);

        ck_assert_ptr_nonnull(item);
        ck_assert_ptr_null(*item);
        *item = strdup("x");
    }
    ck_assert_uint_eq(list.n, 100);
    row_release(&row_str_list, &list);
    ck_assert_ptr_null(list.v);
}
END_TEST

START_TEST(half_filled_results_print)
{
    struct sample_server s = { .type = 0 };
    struct sample_node bad = { .driver = 99 };
    autofree char *text = row_text(&sample_server, &s), *odd = row_text(&sample_node, &bad);

    ck_assert_str_eq(text, "{\"type\": \"inet\"}"); /* no branch was made */
    ck_assert_str_eq(odd, "{\"driver\": \"\"}");
    row_release(&sample_node, &bad);
    struct sample_address a = { .port = NULL };
    autofree char *unset = row_text(&sample_inet, &a);
    ck_assert_str_eq(unset, "{\"host\": \"\", \"port\": \"\"}");
}
END_TEST

START_TEST(enum_gaps_are_no_values)
{
    ck_assert_int_eq(row_enum_value(&sample_mode, ""), -1);
    ck_assert_int_eq(row_enum_value(&sample_mode, "on"), 2);
    ck_assert_int_eq(row_enum_value(&sample_mode, "o"), -1);
    ck_assert_str_eq(row_enum_name(&sample_mode, 3), "unmap");
    ck_assert_ptr_null(row_enum_name(&sample_mode, 1));
    ck_assert_ptr_null(row_enum_name(&sample_mode, 4));
    ck_assert_ptr_null(row_enum_name(&sample_mode, 400));
    ck_assert_ptr_null(row_enum_name(&sample_mode, -1));
}
END_TEST

START_TEST(tables_may_be_filled_in_later)
{
    static const char *values[3];
    static const struct row_type *branches[2];
    static const struct row_type kind = {
        .kind = ROW_ENUM, .name = "K", .size = sizeof(int), .values = values
    };
    static const struct row rows[] = { ROW_REQ(struct sample_server, "k", type, kind), ROW_END };
    static ROW_UNION_TYPE(late, "Late", struct sample_server, rows, "k", u, branches);
    struct sample_server s;
    autoerr err = { 0 };

    ck_assert_int_eq(row_parse_text(&late, "k=a,path=x", NULL, &s, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "Parameter 'k' does not accept value 'a'");
    values[0] = "a";
    branches[0] = &sample_unix;
    err_clear(&err);
    ck_assert_int_eq(row_parse_text(&late, "k=a,path=x", NULL, &s, &err), 0);
    ck_assert_str_eq(((struct sample_path *)s.u)->path, "x");
    row_release(&late, &s);
}
END_TEST

/* --- depth, memory, speed ------------------------------------------------------------ */

/* {"driver":"raw","file":{"driver":"raw",...}} of @depth levels. */
static char *deep_text(unsigned depth, bool dotted)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    for (unsigned i = 1; i < depth && !dotted; i++)
        fputs("{'driver':'raw','file':", f);
    for (unsigned i = 1; i < depth && dotted; i++) {
        for (unsigned j = 1; j < i; j++)
            fputs("file.", f);
        fputs("driver=raw,", f);
    }
    for (unsigned i = 1; i < depth && dotted; i++)
        fputs("file.", f);
    fputs(dotted ? "driver=plain" : "{'driver':'plain'}", f);
    for (unsigned i = 1; i < depth && !dotted; i++)
        fputs("}", f);
    fclose(f);
    return text;
}

static void *deep_values(void *arg)
{
    autofree char *fits = deep_text(128, false), *deep = deep_text(129, false);
    autofree char *text = deep_text(127, true), *long_text = deep_text(300, true);
    autofree char *a = again(&sample_node, fits), *b = again(&sample_node, deep);
    autofree char *c = again(&sample_node, text), *d = again(&sample_node, long_text);

    ck_assert_uint_gt(strlen(a), 3000);
    ck_assert_str_eq(b, "JSON nesting depth limit exceeded");
    ck_assert_uint_gt(strlen(c), 3000);
    ck_assert_int_eq(strncmp(d, "Invalid parameter 'file.file.", 29), 0);
    return arg;
}

START_TEST(deep_values_fit_on_a_coroutines_stack)
{
#ifdef __SANITIZE_THREAD__
    size_t stack = CO_STACK_BYTES + (1 << 20); /* its own data lies on the stack, too */
#else
    size_t stack = CO_STACK_BYTES;
#endif
    pthread_attr_t attr;
    pthread_t thread;

    pthread_attr_init(&attr);
    ck_assert_int_eq(pthread_attr_setstacksize(&attr, stack), 0);
    ck_assert_int_eq(pthread_create(&thread, &attr, deep_values, NULL), 0);
    pthread_join(thread, NULL);
    pthread_attr_destroy(&attr);
}
END_TEST

START_TEST(ten_thousand_options_are_quick)
{
    static const char text[] = "{'driver':'qcow2','node-name':'n','file':{'driver':'nbd','server':"
                               "{'type':'inet','host':'h','port':'1'}},'backing':{'driver':"
                               "'null-co','size':1048576,'latency-ns':5}}";
    struct timespec from, to;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    for (int i = 0; i < 10000; i++) {
        struct sample_node n;
        autoerr err = { 0 };

        ck_assert_int_eq(row_parse_text(&sample_node, text, NULL, &n, &err), 0);
        row_release(&sample_node, &n);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    double seconds = (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    seconds /= 5;
#endif
    ck_assert_double_lt(seconds, 2);
}
END_TEST

/* --- what is told about rows ---------------------------------------------------------- */

struct visits {
    const struct row_type *types[64];
    unsigned n;
};

static void count_visit(const struct row_type *type, void *arg)
{
    struct visits *v = arg;

    for (unsigned i = 0; i < v->n; i++)
        ck_assert_ptr_ne(v->types[i], type);
    ck_assert_uint_lt(v->n, COUNT(v->types));
    v->types[v->n++] = type;
}

START_TEST(every_type_is_visited_once)
{
    static const struct row_type *const want[] = {
        &sample_node,   &sample_driver, &row_str,        &row_bool,           &sample_null,
        &sample_format, &sample_ref,    &sample_qcow2,   &sample_ref_or_null, &sample_overlap,
        &sample_flags,  &sample_server, &sample_quorum,  &sample_refs,        &row_int_list,
        &sample_nbd,    &row_any,       &row_null,       &sample_inet,        &sample_unix,
        &row_int,       &row_uint16,    &sample_template
    };
    struct visits v = { .n = 0 };

    row_visit_types(&sample_node, count_visit, &v);
    ck_assert_ptr_eq(v.types[0], &sample_node);
    for (unsigned i = 0; i < COUNT(want); i++) {
        bool found = false;

        for (unsigned j = 0; j < v.n; j++)
            found |= v.types[j] == want[i];
        ck_assert_msg(found, "%s", want[i]->name ? want[i]->name : "a list");
    }
}
END_TEST

START_TEST(help_has_a_line_for_each_member)
{
    static const char *const want[] = {
        "driver=<Driver>",      "node-name=<text>",    "read-only=<on|off>",
        "with driver=null-co:", "size=<integer>",      "Bytes",
        "chunk=<size>",         "with driver=quorum:", "children=<list>",
        "(off, on, unmap)",
    };
    autofree char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    row_help(&sample_node, f);
    fclose(f);
    for (unsigned i = 0; i < COUNT(want); i++)
        ck_assert_msg(strstr(text, want[i]) != NULL, "no '%s' in:\n%s", want[i], text);
    ck_assert_ptr_null(strstr(text, "with driver=plain"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("row");
    TCase *t = tcase_create("row");

    suite_add_tcase(s, t);
    tcase_add_test(t, json_makes_values);
    tcase_add_test(t, json_refusals);
    tcase_add_test(t, text_makes_values);
    tcase_add_test(t, text_refusals);
    tcase_add_test(t, c_values_are_where_the_rows_say);
    tcase_add_test(t, no_object_is_an_empty_one);
    tcase_add_test(t, equality_is_that_of_what_prints);
    tcase_add_test(t, lists_grow);
    tcase_add_test(t, half_filled_results_print);
    tcase_add_test(t, enum_gaps_are_no_values);
    tcase_add_test(t, a_whole_number_equals_itself_read_back);
    tcase_add_test(t, tables_may_be_filled_in_later);
    tcase_add_test(t, deep_values_fit_on_a_coroutines_stack);
    tcase_add_test(t, ten_thousand_options_are_quick);
    tcase_add_test(t, every_type_is_visited_once);
    tcase_add_test(t, help_has_a_line_for_each_member);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
