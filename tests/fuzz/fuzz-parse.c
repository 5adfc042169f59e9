/* SPDX-License-Identifier: MIT */
/*
 * Numbers and sizes out of any text: no crash, and what parses as a plain
 * decimal number parses as the same number of bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[64];
    uint64_t number, bytes;
    int64_t signed_number;
    bool flag;

    if (size >= sizeof(text))
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    parse_i64(text, &signed_number);
    parse_bool(text, &flag);
    int r = parse_size(text, &bytes);
    if (strspn(text, "0123456789") == strlen(text) && parse_u64(text, &number) == 0 &&
        (r || bytes != number))
        abort();
    return 0;
}
