/* SPDX-License-Identifier: MIT */
/* ringblk-img measure: how much space a new image would take.  Raw images take what they hold. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tools/img/img.h"

enum { LONG_SIZE = LONG_OWN, SECTOR = 512 };

static int print(const struct common *c, uint64_t size)
{
    const char *form = c->json ? "{\n    \"required\": %" PRIu64
                                 ",\n    \"fully-allocated\": %" PRIu64 "\n}\n"
                               : "required size: %" PRIu64 "\nfully allocated size: %" PRIu64 "\n";

    printf(form, size, size);
    return IMG_OK;
}

static int co_fn size_of_image(const char *name, const struct common *c, uint64_t *size)
{
    struct image i;
    autoerr err = { 0 };

    if (image_open(&i, name, &c->mode, &err) < 0)
        return img_error("%s", err.msg);
    *size = image_size(&i);
    image_close(&i);
    return IMG_OK;
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = { OPTION_OBJECT,
                                           OPTION_IMAGE_OPTS,
                                           OPTION_OUTPUT,
                                           OPTION_FORCE_SHARE,
                                           { "size", required_argument, NULL, LONG_SIZE },
                                           { 0 } };
    struct common c = { 0 };
    const char *format = "raw";
    uint64_t size = 0;
    bool said = false;
    int code;

    while ((code = common_next(&c, argc, argv, "f:O:U", longs)) >= 0) {
        if (code == 'O')
            format = optarg;
        else if (img_parse("image size", optarg, 0, INT64_MAX, &size) < 0)
            return IMG_FAILED;
        said |= code == LONG_SIZE;
    }
    if (code == IMG_STOP)
        return IMG_FAILED;
    if (argc - optind > 1)
        return img_error("At most one filename argument is allowed.");
    if (said && optind < argc)
        return img_error("--size N cannot be used together with a filename.");
    if (!said && optind == argc)
        return img_error("Either --size N or one filename must be specified.");
    if (!driver_by_name(format))
        return img_error("Unknown file format '%s'", format);
    if (strcmp(format, "raw"))
        return img_error("Format driver '%s' does not support size measurement", format);
    if (!said && size_of_image(argv[optind], &c, &size) != IMG_OK)
        return IMG_FAILED;
    return print(&c, (size + SECTOR - 1) / SECTOR * SECTOR);
}

const struct img_command img_measure = {
    .name = "measure",
    .usage = "[--object OBJECT] [--image-opts] [-f FORMAT] [-O FORMAT]\n"
             "       [--output=human|json] [-U] --size N | FILE",
    .run = run,
};
