/* SPDX-License-Identifier: MIT */
/* JSON: what is taken and refused, with which words; text out; a stream cut into values. */
#include <check.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* @text parsed and printed again, or the message that refuses it. */
static char *again(const char *text, size_t len)
{
    autoerr err = { 0 };
    struct json_object *value;

    if (json_parse(text, len, &value, &err) < 0) {
        ck_assert_int_lt(err.code, 0);
        ck_assert_ptr_null(value);
        return strdup(err.msg);
    }
    ck_assert_ptr_null(err.msg);
    char *out = json_text(value);
    json_object_put(value);
    return out;
}

static void check_rows(const char *const rows[][2], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        autofree char *got = again(rows[i][0], strlen(rows[i][0]));

        ck_assert_msg(!strcmp(got, rows[i][1]), "%s gave %s instead of %s", rows[i][0], got,
                      rows[i][1]);
    }
}

START_TEST(values_come_out_as_qemu_prints_them)
{
    static const char *const rows[][2] = {
        { " { } ", "{}" },
        { "[]", "[]" },
        { "null", "null" },
        { "[true,false,null]", "[true, false, null]" },
        { "{'a':{'b':[1,{}]},\"c\":'d'}", "{\"a\": {\"b\": [1, {}]}, \"c\": \"d\"}" },
        { "'it\\'s \"x\"'", "\"it's \\\"x\\\"\"" },
        { "\"\\/\\b\\f\\n\\r\\t\\\\\"", "\"/\\b\\f\\n\\r\\t\\\\\"" },
        { "\"\xc3\xa9\\u20ac\\ud83d\\ude00\xf0\x9f\x98\x80\x7f\"",
          "\"\\u00E9\\u20AC\\uD83D\\uDE00\\uD83D\\uDE00\\u007F\"" },
        { "\"a\\u0000b\"", "\"a\\u0000b\"" },
        { "9223372036854775807", "9223372036854775807" },
        { "9223372036854775808", "9223372036854775808" },
        { "18446744073709551615", "18446744073709551615" },
        { "-9223372036854775808", "-9223372036854775808" },
        { "-0", "0" },
        { "-0E3", "-0.0" },
        { "0.1", "0.1" },
        { "1e3", "1000" },
        { "1.5E-3", "0.0015" },
        { "18446744073709551616", "1.8446744073709552e+19" },
        { "-9223372036854775809", "-9.223372036854776e+18" },
    };

    check_rows(rows, COUNT(rows));
}
END_TEST

START_TEST(refusals_have_the_familiar_words)
{
    static const char *const rows[][2] = {
        { "", "Expecting a JSON value" },
        { " \n", "Expecting a JSON value" },
        { "{} {}", "Expecting at most one JSON value" },
        { "{}}", "Expecting at most one JSON value" },
        { "{", "JSON parse error, premature EOI" },
        { "[1,", "JSON parse error, premature EOI" },
        { "{\"execute\":}", "JSON parse error, expecting value" },
        { "}", "JSON parse error, expecting value" },
        { "{]", "JSON parse error, expecting value" },
        { "[}", "JSON parse error, expecting value" },
        { "[1,]", "JSON parse error, expecting value" },
        { "{\"a\":1,}", "JSON parse error, expecting value" },
        { "{,}", "JSON parse error, expecting value" },
        { "{\"a\" 1}", "JSON parse error, missing : in object pair" },
        { "{1:2}", "JSON parse error, key is not a string in object" },
        { "[1 2]", "JSON parse error, expected separator in list" },
        { "{\"a\":0x1}", "JSON parse error, expected separator in dict" },
        { "{\"a\":1,\"a\":2}", "JSON parse error, duplicate key" },
        { "{\"a\\u0000b\":1}", "JSON parse error, null character in a key" },
        { "nope", "JSON parse error, invalid keyword 'nope'" },
        { "tru", "JSON parse error, invalid keyword 'tru'" },
        { "01", "JSON parse error, stray '01'" },
        { "[-]", "JSON parse error, stray '-]'" },
        { "[1.]", "JSON parse error, stray '1.]'" },
        { "1e", "JSON parse error, stray '1e'" },
        { "[.5]", "JSON parse error, stray '.'" },
        { "[+1]", "JSON parse error, stray '+'" },
        { "NaN", "JSON parse error, stray 'N'" },
        { "-Infinity", "JSON parse error, stray '-I'" },
        { "/* c */ 1", "JSON parse error, stray '/'" },
        { "1e999", "JSON parse error, number out of range" },
        { "\"a", "JSON parse error, stray '\"a'" },
        { "\"a\\", "JSON parse error, stray '\"a\\'" },
        { "\"a\tb\"", "JSON parse error, stray '\"a\t'" },
        { "\"\\x\"", "JSON parse error, invalid escape sequence in string" },
        { "\"\\u12\"", "JSON parse error, \\u12 is not a valid Unicode character" },
        { "\"\\u12g4\"", "JSON parse error, \\u12g4 is not a valid Unicode character" },
        { "\"\\ud800\"", "JSON parse error, \\ud800 is not a valid Unicode character" },
        { "\"\\udc00x\"", "JSON parse error, \\udc00 is not a valid Unicode character" },
        { "\"\\ud83d\\ud83d\"", "JSON parse error, \\ud83d is not a valid Unicode character" },
        { "\"\\uffff\"", "JSON parse error, \\uffff is not a valid Unicode character" },
        { "\"\xc0\x80\"", "JSON parse error, invalid UTF-8 sequence in string" },
        { "\"\xc3\"", "JSON parse error, invalid UTF-8 sequence in string" },
        { "\"\xed\xa0\x80\"", "JSON parse error, invalid UTF-8 sequence in string" },
        { "\"\xf4\x90\x80\x80\"", "JSON parse error, invalid UTF-8 sequence in string" },
        { "\"\xe2\x82\"", "JSON parse error, invalid UTF-8 sequence in string" },
        { "\"\x80\"", "JSON parse error, invalid UTF-8 sequence in string" },
    };

    check_rows(rows, COUNT(rows));
}
END_TEST

START_TEST(no_byte_is_read_past_the_text)
{
    static const char text[] = "{\"a\": [1.5e+3, \"\\ud83d\\ude00\xf0\x9f\x98\x80\", true, -7]}";

    for (size_t len = 0; len < sizeof text - 1; len++) {
        char *exact = malloc(len ? len : 1); /* the sanitizer knows where it ends */

        memcpy(exact, text, len);
        free(again(exact, len));
        free(exact);
    }
}
END_TEST

START_TEST(depth_has_a_limit)
{
    char *text = malloc(2 * JSON_DEPTH_MAX + 3);
    size_t n = JSON_DEPTH_MAX;

    memset(text, '[', n);
    memset(text + n, ']', n);
    char *out = again(text, 2 * n);
    ck_assert_uint_eq(strlen(out), 2 * n);
    free(out);
    memset(text, '[', n + 1);
    memset(text + n + 1, ']', n + 1);
    out = again(text, 2 * n + 2);
    ck_assert_str_eq(out, "JSON nesting depth limit exceeded");
    free(out);
    free(text);
}
END_TEST

START_TEST(tokens_have_a_limit)
{
    size_t n = 2 * (size_t)JSON_TOKENS_MAX;
    char *text = malloc(n);

    for (size_t i = 0; i < n; i += 2)
        memcpy(text + i, i ? ",1" : "[1", 2);
    char *out = again(text, n);
    ck_assert_str_eq(out, "JSON token count limit exceeded");
    free(out);
    free(text);
}
END_TEST

START_TEST(what_json_cannot_say_prints_safely)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "nan", json_object_new_double(0.0 / 0.0));
    json_object_object_add(o, "bad", json_object_new_string("a\xff\xc3(\xed\xa0\x80"));
    autofree char *text = json_text(o), *null = json_text(NULL);
    ck_assert_str_eq(text, "{\"nan\": null, \"bad\": \"a\\uFFFD\\uFFFD(\\uFFFD\\uFFFD\\uFFFD\"}");
    ck_assert_str_eq(null, "null");
    json_object_put(o);
}
END_TEST

/* --- the stream ----------------------------------------------------------------- */

/* Feed @text in pieces of @step bytes; append each value and each error, and ";" after it. */
static char *stream(const char *text, size_t len, size_t step)
{
    struct json_reader r = { 0 };
    char *all = NULL;
    size_t size;
    FILE *f = open_memstream(&all, &size);

    for (size_t at = 0; at < len;) {
        size_t n = len - at < step ? len - at : step, used = 0;
        struct json_object *value;
        autoerr err = { 0 };
        char *exact = malloc(n);

        memcpy(exact, text + at, n);
        int result = json_reader_feed(&r, exact, n, &used, &value, &err);
        free(exact);
        ck_assert_uint_le(used, n);
        ck_assert(result || used == n);
        at += used;
        if (result > 0) {
            autofree char *out = json_text(value);
            fprintf(f, "%s;", out);
        } else if (result < 0) {
            ck_assert_int_eq(result, err.code);
            fprintf(f, "!%s;", err.msg);
        }
        json_object_put(value);
    }
    json_reader_free(&r);
    fclose(f);
    return all;
}

static void check_stream(const char *text, const char *want)
{
    for (size_t step = 1; step < 40; step++) {
        autofree char *got = stream(text, strlen(text), step);

        ck_assert_msg(!strcmp(got, want), "%s in steps of %zu gave %s", text, step, got);
    }
}

START_TEST(a_stream_is_cut_into_values)
{
    check_stream("{\"a\":1}{\"b\":[2]}\r\n [] 7 \"x\" true\nnull{}",
                 "{\"a\": 1};{\"b\": [2]};[];7;\"x\";true;null;{};");
    check_stream("{\"a\":\"}\\\"]{\",'b':'}\\'\"'}[1]",
                 "{\"a\": \"}\\\"]{\", \"b\": \"}'\\\"\"};[1];");
    check_stream("{\n\t\"a\"\n:\n1\n}\n", "{\"a\": 1};");
    check_stream("{\"unfinished\": [", "");
}
END_TEST

START_TEST(a_bad_value_costs_one_error_and_the_next_is_read)
{
    check_stream("{\"a\":}{}", "!JSON parse error, expecting value;{};");
    check_stream("}{}", "!JSON parse error, expecting value;{};");
    check_stream("]]{}",
                 "!JSON parse error, expecting value;!JSON parse error, expecting value;{};");
    check_stream(",{}", "!JSON parse error, expecting value;{};");
    check_stream("{\"a\":01}{}", "!JSON parse error, stray '01';{};");
    check_stream("{\"a\":%,\"b\":[\"}]\",2]}{}", "!JSON parse error, stray '%';{};");
    check_stream("{\"a\":(\n{}", "!JSON parse error, stray '(';{};");
    check_stream("{\"a\":\"x\n{}", "!JSON parse error, stray '\"x\n';{};");
    check_stream("{\"a\":\"x\ty\", \"b\":\"}\"}{}", "!JSON parse error, stray '\"x\t';{};");
}
END_TEST

START_TEST(control_bytes_make_it_start_afresh)
{
    check_stream("{\"a\": [[\xff{}", "!JSON parse error, stray '\xff';{};");
    check_stream("{\"a\": \"b\xff{}", "!JSON parse error, stray '\"b\xff';{};");
    check_stream("{\"a\": \x01{}", "!JSON parse error, stray '\x01';{};");
    check_stream("\xff{}", "!JSON parse error, stray '\xff';{};");
    check_stream("[%[[[\xfe{}", "!JSON parse error, stray '%';{};");
    autofree char *got = stream("[\0{}", 4, 9);
    ck_assert_str_eq(got, "!JSON parse error, stray '';{};");
}
END_TEST

START_TEST(too_deep_is_refused_once_and_skipped)
{
    size_t n = 3000;
    char *text = malloc(2 * n + 50);

    memset(text, '[', n);
    memset(text + n, ']', n);
    /* a command hidden inside what is skipped is not obeyed, whatever line it is on */
    memcpy(text + n, "\n{\"x\":1}\n", 9);
    memset(text + n + 9, ']', n);
    strcpy(text + 2 * n + 9, "{\"y\":2}");
    autofree char *got = stream(text, strlen(text), 4096);
    ck_assert_str_eq(got, "!JSON nesting depth limit exceeded;{\"y\": 2};");
    free(text);
}
END_TEST

START_TEST(too_many_tokens_are_refused_once_and_skipped)
{
    size_t n = 2 * (size_t)JSON_TOKENS_MAX;
    char *text = malloc(n + 20);

    for (size_t i = 0; i < n; i += 2)
        memcpy(text + i, i ? ",1" : "[1", 2);
    strcpy(text + n, "]\n{}");
    autofree char *got = stream(text, strlen(text), 1 << 16);
    ck_assert_str_eq(got, "!JSON token count limit exceeded;{};");
    free(text);
}
END_TEST

START_TEST(too_many_bytes_are_refused_once_and_skipped)
{
    size_t n = JSON_BYTES_MAX;
    char *text = malloc(n + 20);

    memset(text, 'x', n);
    memcpy(text, "[\"", 2);
    strcpy(text + n, "]x\"]{}");
    autofree char *got = stream(text, n + 6, 1 << 20);
    ck_assert_str_eq(got, "!JSON token size limit exceeded;{};");
    free(text);
}
END_TEST

START_TEST(a_broken_escape_in_skipped_text_ends_with_its_string)
{
    check_stream("{\"a\":%\"x\\\"}\"}{}", "!JSON parse error, stray '%';{};");
    check_stream("{\"a\":%\"x\\\\\"}{}", "!JSON parse error, stray '%';{};");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");

    suite_add_tcase(s, t);
    tcase_add_test(t, values_come_out_as_qemu_prints_them);
    tcase_add_test(t, refusals_have_the_familiar_words);
    tcase_add_test(t, no_byte_is_read_past_the_text);
    tcase_add_test(t, depth_has_a_limit);
    tcase_add_test(t, tokens_have_a_limit);
    tcase_add_test(t, what_json_cannot_say_prints_safely);
    tcase_add_test(t, a_stream_is_cut_into_values);
    tcase_add_test(t, a_bad_value_costs_one_error_and_the_next_is_read);
    tcase_add_test(t, control_bytes_make_it_start_afresh);
    tcase_add_test(t, too_deep_is_refused_once_and_skipped);
    tcase_add_test(t, too_many_tokens_are_refused_once_and_skipped);
    tcase_add_test(t, too_many_bytes_are_refused_once_and_skipped);
    tcase_add_test(t, a_broken_escape_in_skipped_text_ends_with_its_string);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
