/* SPDX-License-Identifier: MIT */
/* ringblk-img resize. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "block/create.h"
#include "tools/img/img.h"

enum { LONG_PREALLOCATION = LONG_OWN, LONG_SHRINK, PIECE = 1 << 20 };

/* "10G", or "+1G" and "-1G" from what it is; 0, or -EINVAL with the error printed. */
static int wanted_size(const char *text, uint64_t now, uint64_t *out)
{
    char sign = *text == '+' || *text == '-' ? *text : 0;
    uint64_t size;

    if (parse_size(text + !!sign, &size) < 0 || size > INT64_MAX) {
        img_error("Parameter 'size' expects a non-negative number below 2^64\n"
                  "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
                  "and exabytes, respectively.");
        return -EINVAL;
    }
    if ((sign == '-' && size >= now) || (!sign && size == 0) ||
        (sign == '+' && size > INT64_MAX - now)) {
        img_error(sign == '+' ? "New image size is too large" : "New image size must be positive");
        return -EINVAL;
    }
    *out = sign == '+' ? now + size : sign == '-' ? now - size : size;
    return 0;
}

static int co_fn write_zeroes(struct image *i, uint64_t at, uint64_t end)
{
    autofree void *zeroes = calloc(1, PIECE);
    int r = zeroes ? 0 : -ENOMEM;

    for (; at < end && r == 0; at += PIECE)
        r = image_write(i, at, zeroes, end - at < PIECE ? end - at : PIECE);
    return r;
}

/* Give the bytes past @from space; when there is none the image gets its old size back. */
static int co_fn preallocate(struct image *i, uint64_t from, int how, struct err *err)
{
    uint64_t size = image_size(i);
    autoerr unused = { 0 };
    int r = how == PREALLOC_FULL ? write_zeroes(i, from, size)
                                 : image_zero(i, from, size - from, false);

    if (r == 0)
        return 0;
    (void)io_resize(i->node, from, &unused);
    return err_set_errno(err, r, "Could not preallocate new data");
}

static int co_fn resize(struct image *i, const struct common *c, const char *text, bool shrink,
                        int preallocation)
{
    uint64_t now = image_size(i), size;
    autoerr err = { 0 };

    if (wanted_size(text, now, &size) < 0)
        return IMG_FAILED;
    if (size <= now && preallocation != PREALLOC_OFF)
        return img_error("Preallocation can only be used for growing images");
    if (preallocation == PREALLOC_METADATA)
        return img_error("Unsupported preallocation mode: metadata");
    if (size < now && !shrink) {
        img_error("Use the --shrink option to perform a shrink operation.");
        return img_error("warning: Shrinking an image will delete all data beyond the shrunken "
                         "image's end. Before performing such an operation, make sure there is no "
                         "important data there.");
    }
    if (io_resize(i->node, size, &err) < 0 ||
        (preallocation != PREALLOC_OFF && preallocate(i, now, preallocation, &err) < 0))
        return img_error("%s", err.msg);
    if (!c->quiet)
        printf("Image resized.\n");
    return IMG_OK;
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = {
        OPTION_OBJECT,
        OPTION_IMAGE_OPTS,
        { "preallocation", required_argument, NULL, LONG_PREALLOCATION },
        { "shrink", no_argument, NULL, LONG_SHRINK },
        { 0 },
    };
    struct common c = { .mode.writable = true };
    bool shrink = false;
    int preallocation = PREALLOC_OFF, code, status;
    struct image i;
    autoerr err = { 0 };

    /* The size may look like an option: -1G. */
    const char *size = argc > 2 ? argv[argc - 1] : NULL;
    while ((code = common_next(&c, argc - !!size, argv, "f:q", longs)) >= 0) {
        if (code == LONG_SHRINK)
            shrink = true;
        else if ((preallocation = row_enum_value(&row_preallocation, optarg)) < 0)
            return img_error("Invalid preallocation mode '%s'", optarg);
    }
    if (code == IMG_STOP)
        return IMG_FAILED;
    if (!size || optind >= argc - 1)
        return img_usage("Not enough arguments");
    if (optind != argc - 2)
        return img_usage("Expecting image file name and size");
    if (image_open(&i, argv[optind], &c.mode, &err) < 0)
        return img_error("%s", err.msg);
    status = resize(&i, &c, size, shrink, preallocation);
    code = image_close(&i);
    return code < 0 ? img_error("Could not flush '%s': %s", argv[optind], strerror(-code)) : status;
}

const struct img_command img_resize = {
    .name = "resize",
    .usage = "[--object OBJECT] [--image-opts] [-f FORMAT] [--preallocation=MODE]\n"
             "       [-q] [--shrink] FILE [+|-]SIZE",
    .run = run,
};
