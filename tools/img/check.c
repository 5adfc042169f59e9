/* SPDX-License-Identifier: MIT */
/* ringblk-img check: a raw image has no tables that could be wrong. */
#include <string.h>

#include "tools/img/img.h"

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = { OPTION_OBJECT,
                                           OPTION_IMAGE_OPTS,
                                           OPTION_OUTPUT,
                                           OPTION_FORCE_SHARE,
                                           { "repair", required_argument, NULL, 'r' },
                                           { 0 } };
    struct common c = { 0 };
    struct image i;
    autoerr err = { 0 };
    int code;

    while ((code = common_next(&c, argc, argv, "f:r:T:qU", longs)) >= 0) {
        if (strcmp(optarg, "leaks") && strcmp(optarg, "all"))
            return img_usage("--repair (-r) expects 'leaks' or 'all', not '%s'", optarg);
        c.mode.writable = true;
    }
    if (code == IMG_STOP)
        return IMG_FAILED;
    if (optind != argc - 1)
        return img_usage("Expecting one image file name");
    if (image_open(&i, argv[optind], &c.mode, &err) < 0)
        return img_error("%s", err.msg);
    image_close(&i);
    img_error("This image format does not support checks");
    return IMG_NO_CHECKS;
}

const struct img_command img_check = {
    .name = "check",
    .usage = "[--object OBJECT] [--image-opts] [-q] [-f FORMAT] [--output=human|json]\n"
             "       [-r leaks|all] [-T CACHE] [-U] FILE",
    .run = run,
};
