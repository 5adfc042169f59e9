/* SPDX-License-Identifier: MIT */
/*
 * ringblk-img dd.  As with qemu-img COUNT says how many blocks of the input
 * there are, those that SKIP leaves out included, and the output is made anew.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "tools/img/copy.h"

struct dd {
    struct common c;
    const char *input, *output, *output_format;
    uint64_t block, count, skip;
    bool has_count;
};

static int take_operand(struct dd *d, const char *operand)
{
    const char *value = strchr(operand, '=');
    uint64_t *number = NULL;
    size_t len = value ? (size_t)(value++ - operand) : strlen(operand);
    char name[8];

    if (!value || len >= sizeof(name))
        return img_error("unrecognized operand %s", operand);
    memcpy(name, operand, len);
    name[len] = '\0';
    if (!strcmp(name, "if"))
        d->input = value;
    else if (!strcmp(name, "of"))
        d->output = value;
    else if (!strcmp(name, "bs"))
        return img_parse("bs", value, 1, INT_MAX, &d->block) < 0 ? IMG_FAILED : IMG_OK;
    else if (!strcmp(name, "count"))
        number = &d->count;
    else if (!strcmp(name, "skip"))
        number = &d->skip;
    else
        return img_error("unrecognized operand %.*s", (int)len, operand);
    d->has_count |= number == &d->count;
    if (number && img_parse(name, value, 0, INT64_MAX, number) < 0)
        return IMG_FAILED;
    return IMG_OK;
}

/* What of the input is copied.  False: it ends before the first block that is wanted. */
static bool find_range(const struct dd *d, uint64_t size, struct copy *k)
{
    uint64_t limit, begin;
    bool reached;

    if (d->has_count && !__builtin_mul_overflow(d->count, d->block, &limit) && limit < size)
        size = limit;
    reached = !__builtin_mul_overflow(d->skip, d->block, &begin) && begin <= size;
    k->skip = reached ? begin : size;
    k->length = size - k->skip;
    return reached;
}

static int co_fn copy(const struct dd *d, struct copy_source *source)
{
    struct progress none = { 0 };
    struct image target;
    struct image_mode mode = { .format = d->output_format ? d->output_format : "raw",
                               .writable = true };
    struct copy k = {
        .sources = source,
        .source_count = 1,
        .target = &target,
        .target_is_zero = true,
        .sparse = 4096,
        .workers = 8,
        .progress = &none,
    };
    autoerr err = { 0 };

    bool reached = find_range(d, source->size, &k);
    if (image_make(d->output, mode.format, &k.length, NULL, true, &err) < 0)
        return img_error("%s: %s", d->output, err.msg);
    if (!reached) { /* a complaint, and an empty output: as dd does it */
        img_error("%s: cannot skip to specified offset", d->input);
        return IMG_OK;
    }
    if (image_open(&target, d->output, &mode, &err) < 0)
        return img_error("%s", err.msg);
    int failed = copy_run(&k), r = image_close(&target);
    if (!failed && r < 0)
        img_error("error while writing the last bytes: %s", strerror(-r));
    return failed || r < 0 ? IMG_FAILED : IMG_OK;
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = {
        OPTION_OBJECT, OPTION_IMAGE_OPTS, OPTION_FORCE_SHARE, { 0 }
    };
    struct dd d = { .block = 512 };
    struct copy_source source = { 0 };
    autoerr err = { 0 };
    int code;

    while ((code = common_next(&d.c, argc, argv, "f:O:U", longs)) >= 0)
        d.output_format = optarg;
    if (code == IMG_STOP)
        return IMG_FAILED;
    for (; optind < argc; optind++)
        if (take_operand(&d, argv[optind]) != IMG_OK)
            return IMG_FAILED;
    if (!d.input || !d.output)
        return img_error("Must specify both input and output files");
    if (image_open(&source.image, d.input, &d.c.mode, &err) < 0)
        return img_error("%s", err.msg);
    source.size = image_size(&source.image);
    int status = copy(&d, &source);
    image_close(&source.image);
    return status;
}

const struct img_command img_dd = {
    .name = "dd",
    .usage = "[--image-opts] [-U] [-f FORMAT] [-O FORMAT] [bs=SIZE] [count=BLOCKS]\n"
             "       [skip=BLOCKS] if=INPUT of=OUTPUT",
    .run = run,
};
