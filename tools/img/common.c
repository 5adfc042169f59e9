/* SPDX-License-Identifier: MIT */
/* Options that many subcommands take. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "crypto/object.h"
#include "qmp/qmp.h"
#include "tools/img/img.h"

int image_parse_cache(const char *text, struct image_mode *mode)
{
    static const struct {
        const char *name;
        bool direct, no_flush, writethrough;
    } modes[] = {
        { "none", true, false, false },         { "off", true, false, false },
        { "directsync", true, false, true },    { "writeback", false, false, false },
        { "writethrough", false, false, true }, { "unsafe", false, true, false },
    };

    for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        if (strcmp(modes[i].name, text))
            continue;
        mode->direct = modes[i].direct;
        mode->no_flush = modes[i].no_flush;
        mode->writethrough = modes[i].writethrough;
        return 0;
    }
    return -EINVAL;
}

static int co_fn add_object(const char *text)
{
    struct object_options o;
    autoerr err = { 0 };
    int r = row_parse_text(&row_object_options, text, "qom-type", &o, &err);

    if (r == 0) {
        r = qmp_object_add(&o, &err);
        row_release(&row_object_options, &o);
    }
    return r < 0 ? img_error("%s", err.msg) : IMG_OK;
}

static int take_output(struct common *c, const char *text)
{
    c->json = !strcmp(text, "json");
    if (c->json || !strcmp(text, "human"))
        return IMG_OK;
    return img_error("--output must be used with human or json as argument.");
}

/* -1: not a common option */
static int co_fn take(struct common *c, int code)
{
    switch (code) {
    case 'f': c->mode.format = optarg; return IMG_OK;
    case 'q': c->quiet = true; return IMG_OK;
    case 'p': c->progress = true; return IMG_OK;
    case 'U': c->mode.force_share = true; return IMG_OK;
    case 'T':
        if (image_parse_cache(optarg, &c->mode) < 0)
            return img_error("Invalid source cache option: %s", optarg);
        return IMG_OK;
    case LONG_OBJECT: return add_object(optarg);
    case LONG_IMAGE_OPTS: c->mode.described = true; return IMG_OK;
    case LONG_OUTPUT: return take_output(c, optarg);
    default: return -1;
    }
}

int co_fn common_next(struct common *c, int argc, char **argv, const char *shorts,
                      const struct option *longs)
{
    int code, taken;

    while ((code = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
        if (code == '?') {
            fprintf(stderr, "Try 'ringblk-img --help' for more information\n");
            return IMG_STOP;
        }
        taken = take(c, code);
        if (taken < 0)
            return code;
        if (taken != IMG_OK)
            return IMG_STOP;
    }
    return -1;
}
