/* SPDX-License-Identifier: MIT */
/*
 * Option rows from any text, JSON or dotted: no crash, no leak, nothing left
 * behind by an error; what was taken prints as JSON that is taken again and
 * gives an equal value, and so does its copy.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/row-sample.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct sample_node *node)
{
    struct sample_node copy, again;
    char *text = row_text(&sample_node, node);
    autoerr err = { 0 };

    /* A command line may hold bytes that are not UTF-8 (file names), which JSON can't repeat. */
    if (!text || row_parse_text(&sample_node, text, NULL, &again, &err) < 0 ||
        (!strstr(text, "\\uFFFD") && !row_equal(&sample_node, node, &again)))
        abort();
    if (row_copy(&sample_node, node, &copy) < 0 || !row_equal(&sample_node, node, &copy))
        abort();
    row_release(&sample_node, &again);
    row_release(&sample_node, &copy);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sample_node node, zero;
    char *text = malloc(size + 1);
    autoerr err = { 0 };

    memcpy(text, data, size);
    text[size] = 0;
    memset(&node, 0xaa, sizeof node);
    memset(&zero, 0, sizeof zero);
    int r = row_parse_text(&sample_node, text, "driver", &node, &err);
    if (r != err.code || (r < 0 && memcmp(&node, &zero, sizeof node)))
        abort();
    if (!r)
        check_again(&node);
    row_release(&sample_node, &node);
    free(text);
    return 0;
}
