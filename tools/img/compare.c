/* SPDX-License-Identifier: MIT */
/*
 * ringblk-img compare.  What both images say is zero is not read; where one is
 * longer, its rest must be zero.  Exit status: 0 the same, 1 different, 2 an
 * image can't be opened, 3 its metadata or 4 its data can't be read.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/img/img.h"

enum { SAME, DIFFERENT, NOT_OPENED, NO_STATUS, NOT_READ };
enum { PIECE = 2 << 20 };

struct comparison {
    struct image a, b;
    struct common c;
    bool strict;
    uint8_t *of_a, *of_b; /* PIECE bytes each */
    struct progress progress;
};

static int say(const struct comparison *k, int status, const char *fmt, uint64_t at)
{
    if (!k->c.quiet) {
        printf(fmt, at);
        putchar('\n');
    }
    return status;
}

static int co_fn read_piece(struct image *i, uint64_t at, uint8_t *p, uint64_t len)
{
    int r = image_read(i, at, p, len);

    if (r < 0)
        img_error("Error while reading offset %" PRIu64 " of %s: %s", at, i->name, strerror(-r));
    return r;
}

static int co_fn status_of(struct image *i, uint64_t at, uint64_t len, struct extent *e)
{
    int r = image_status(i, at, len, e);

    if (r < 0)
        img_error("Sector allocation test failed for %s: %s", i->name, strerror(-r));
    return r;
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, uint64_t len)
{
    uint64_t i = 0;

    if (!memcmp(a, b, len)) /* as it is most of the time, and much faster */
        return len;
    while (i < len && a[i] == b[i])
        i++;
    return i;
}

static int mismatch(const struct comparison *k, uint64_t at)
{
    return say(k, DIFFERENT, "Content mismatch at offset %" PRIu64 "!", at);
}

/* Up to *@len bytes that both have; *@len becomes what was compared. */
static int co_fn compare_piece(struct comparison *k, uint64_t at, uint64_t *len)
{
    struct extent a, b;

    if (status_of(&k->a, at, *len, &a) < 0 || status_of(&k->b, at, *len, &b) < 0)
        return NO_STATUS;
    *len = a.len < b.len ? a.len : b.len;
    unsigned differ = (a.flags ^ b.flags) & ~(unsigned)EXTENT_OFFSET;
    if (k->strict && differ)
        return say(k, DIFFERENT, "Strict mode: Offset %" PRIu64 " block status mismatch!", at);
    if (a.flags & b.flags & EXTENT_ZERO)
        return SAME;
    *len = *len < PIECE ? *len : PIECE;
    if (read_piece(&k->a, at, k->of_a, *len) < 0 || read_piece(&k->b, at, k->of_b, *len) < 0)
        return NOT_READ;
    uint64_t same = first_difference(k->of_a, k->of_b, *len);
    return same < *len ? mismatch(k, at + same) : SAME;
}

/* The same of what only the longer one has. */
static int co_fn check_rest(struct comparison *k, struct image *longer, uint64_t at, uint64_t *len)
{
    struct extent e;

    if (status_of(longer, at, *len, &e) < 0)
        return NO_STATUS;
    *len = e.len;
    if (e.flags & EXTENT_ZERO || !(e.flags & (EXTENT_DATA | EXTENT_ALLOCATED)))
        return SAME;
    *len = *len < PIECE ? *len : PIECE;
    if (read_piece(longer, at, k->of_a, *len) < 0)
        return NOT_READ;
    memset(k->of_b, 0, *len);
    uint64_t zeroes = first_difference(k->of_a, k->of_b, *len);
    /* Here qemu-img tells the sector, not the byte. */
    return zeroes < *len ? mismatch(k, (at + zeroes) & ~UINT64_C(511)) : SAME;
}

static int co_fn compare(struct comparison *k)
{
    uint64_t size_a = image_size(&k->a), size_b = image_size(&k->b), at = 0, len;
    uint64_t both = size_a < size_b ? size_a : size_b, all = size_a + size_b - both;
    struct image *longer = size_a > size_b ? &k->a : &k->b;
    int status = SAME;

    if (k->strict && size_a != size_b)
        return say(k, DIFFERENT, "Strict mode: Image size mismatch!", 0);
    for (; at < both && status == SAME; at += len) {
        len = both - at;
        status = compare_piece(k, at, &len);
        progress_show(&k->progress, at + len, all);
    }
    if (status == SAME && size_a != size_b)
        say(k, SAME, "Warning: Image size mismatch!", 0);
    for (; at < all && status == SAME; at += len) {
        len = all - at;
        status = check_rest(k, longer, at, &len);
        progress_show(&k->progress, at + len, all);
    }
    if (status == SAME)
        say(k, SAME, "Images are identical.", 0);
    return status;
}

static int co_fn open_both(struct comparison *k, char **names, const char *second_format)
{
    struct image_mode mode = k->c.mode;
    autoerr err = { 0 };

    if (image_open(&k->a, names[0], &mode, &err) < 0) {
        img_error("%s", err.msg);
        return NOT_OPENED;
    }
    mode.format = second_format;
    if (image_open(&k->b, names[1], &mode, &err) < 0) {
        img_error("%s", err.msg);
        return NOT_OPENED;
    }
    k->of_a = image_buffer(PIECE);
    k->of_b = image_buffer(PIECE);
    return k->of_a && k->of_b ? SAME : (img_error("out of memory"), NOT_READ);
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = {
        OPTION_OBJECT, OPTION_IMAGE_OPTS, OPTION_FORCE_SHARE, { 0 }
    };
    struct comparison k = { 0 };
    const char *second_format = NULL;
    int code, status;

    while ((code = common_next(&k.c, argc, argv, "f:F:T:pqsU", longs)) >= 0) {
        if (code == 'F')
            second_format = optarg;
        else
            k.strict = true;
    }
    if (code == IMG_STOP)
        return NOT_OPENED;
    if (optind != argc - 2)
        return img_usage("Expecting two image file names");
    k.progress.on = k.c.progress && !k.c.quiet;
    status = open_both(&k, argv + optind, second_format);
    if (status == SAME)
        status = compare(&k);
    if (status == SAME || status == DIFFERENT)
        progress_end(&k.progress);
    image_close(&k.a);
    image_close(&k.b);
    free(k.of_a);
    free(k.of_b);
    return status;
}

const struct img_command img_compare = {
    .name = "compare",
    .usage = "[--object OBJECT] [--image-opts] [-f FORMAT] [-F FORMAT] [-T CACHE]\n"
             "       [-p] [-q] [-s] [-U] FILE1 FILE2",
    .run = run,
};
