/* SPDX-License-Identifier: MIT */
/*
 * Guessing formats from any bytes, and the guard of guessed images: nothing is
 * read past the end; a write is let through exactly when what it makes of an
 * image would be guessed raw again, however the write is cut into pieces.
 *
 * Input: two bytes of offset, one of cutting, two of length; the write; the image.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "block/node.h"
#include "block/probe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PREFIX = 5 };

/* A copy that ends where its memory ends, so that reading on is seen. */
static uint8_t *exactly(const uint8_t *p, size_t length)
{
    uint8_t *copy = malloc(length ? length : 1);

    if (length)
        memcpy(copy, p, length);
    return copy;
}

static void check_guess(const uint8_t *p, size_t length)
{
    uint8_t *bytes = exactly(p, length), image[2 * NODE_GUARD_BYTES] = { 0 };
    const char *guess = probe_format(bytes, length);

    /* What lies behind the first 2 KiB does not count; zeroes may complete a signature. */
    if (length >= NODE_GUARD_BYTES) {
        memcpy(image, p, NODE_GUARD_BYTES);
        if (strcmp(guess, probe_format(image, sizeof(image))))
            abort();
    }
    free(bytes);
}

static void check_guard(uint64_t offset, size_t cut, const uint8_t *p, size_t length,
                        const uint8_t *before, size_t before_length)
{
    uint8_t present[NODE_GUARD_BYTES] = { 0 }, *bytes = exactly(p, length);
    uint8_t *after = calloc(1, NODE_GUARD_BYTES + offset + length);
    size_t known = before_length < sizeof(present) ? before_length : sizeof(present);

    memcpy(present, before, known);
    memcpy(after, present, sizeof(present));
    if (length)
        memcpy(after + offset, bytes, length);
    cut = cut < length ? cut : length;
    struct span v[2] = { { .p = bytes, .len = cut }, { .p = bytes + cut, .len = length - cut } };
    bool allowed = probe_write_allowed(present, offset, v, 2);
    bool raw = !strcmp(probe_format(after, NODE_GUARD_BYTES), "raw");
    /* What does not touch the first bytes is never refused. */
    if (allowed != (raw || offset >= NODE_GUARD_BYTES))
        abort();
    free(bytes);
    free(after);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < PREFIX)
        return 0;
    uint64_t offset = (data[0] | data[1] << 8) & 0x0fff;
    size_t length = (size_t)(data[3] | data[4] << 8), cut = data[2], have = size - PREFIX;

    if (length > have)
        length = have;
    check_guess(data + PREFIX, have);
    check_guard(offset, cut, data + PREFIX, length, data + PREFIX + length, have - length);
    return 0;
}
