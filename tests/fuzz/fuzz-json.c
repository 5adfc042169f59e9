/* SPDX-License-Identifier: MIT */
/*
 * JSON text: no crash; what was taken prints as ASCII that is taken again and
 * prints the same, and is the one value that a stream of it gives; and a
 * stream gives the same values and errors however it is cut into pieces.
 */
#include <json-c/json.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The reader must see the value @text where the parser does: in @data and an end of line. */
static void check_reader(const char *data, size_t size, const char *text)
{
    struct json_reader r = { 0 };
    struct json_object *value;
    size_t used, more = 0;
    autoerr err = { 0 };

    int result = json_reader_feed(&r, data, size, &used, &value, &err);
    if (!result)
        result = json_reader_feed(&r, "\n", 1, &more, &value, &err);
    char *again = result == 1 ? json_text(value) : NULL;
    if (!again || strcmp(again, text))
        abort();
    free(again);
    json_object_put(value);
    json_reader_free(&r);
}

static void check_text(const char *data, size_t size)
{
    struct json_object *value, *again;
    autoerr err = { 0 };

    if (json_parse(data, size, &value, &err) < 0) {
        if (!err.msg || value)
            abort();
        return;
    }
    char *text = json_text(value);
    for (const char *p = text; *p; p++) {
        if (*p < 0x20 || *p == 0x7f)
            abort();
    }
    check_reader(data, size, text);
    if (json_parse(text, strlen(text), &again, &err) < 0)
        abort();
    char *second = json_text(again);
    if (strcmp(text, second))
        abort();
    free(text);
    free(second);
    json_object_put(value);
    json_object_put(again);
}

/* A number that tells the values and errors of the stream, fed in pieces of @step bytes. */
static uint64_t stream(const char *data, size_t size, size_t step)
{
    struct json_reader r = { 0 };
    uint64_t sum = 0;

    for (size_t at = 0; at < size;) {
        size_t n = size - at < step ? size - at : step, used;
        struct json_object *value;
        autoerr err = { 0 };
        int result = json_reader_feed(&r, data + at, n, &used, &value, &err);
        char *text = result > 0 ? json_text(value) : NULL;

        if (used > n || (!result && used != n) || (result < 0) != (err.msg != NULL))
            abort();
        for (const char *p = text ? text : err.msg; p && *p; p++)
            sum = sum * 31 + (uint8_t)*p;
        if (result) /* pieces without a result don't count */
            sum = sum * 31 + 1;
        free(text);
        json_object_put(value);
        at += used;
    }
    json_reader_free(&r);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;

    check_text(text, size);
    if (stream(text, size, 1) != stream(text, size, size ? size : 1) ||
        stream(text, size, 3) != stream(text, size, 7))
        abort();
    return 0;
}
