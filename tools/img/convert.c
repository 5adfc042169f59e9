/* SPDX-License-Identifier: MIT */
/* ringblk-img convert: one or more images, one after the other, into a new or an existing one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/img/copy.h"

enum { LONG_TARGET_OPTS = LONG_OWN, LONG_TARGET_IS_ZERO, LONG_SALVAGE };

struct conversion {
    struct common c;
    struct copy copy;
    struct image target;
    struct image_mode target_mode;
    char *options; /* -o */
    const char *backing;
    bool existing, compress, sparse_said;
    struct progress progress;
};

static int take_sparse(struct conversion *v, const char *text)
{
    uint64_t size;

    if (img_parse("buffer size for sparse output", text, 0, INT64_MAX, &size) < 0)
        return IMG_FAILED;
    if (size % 512 || size > COPY_PIECE * 8)
        return img_error("Invalid buffer size for sparse output specified. Valid sizes are "
                         "multiples of 512 up to %d. Select 0 to disable sparse detection (fully "
                         "allocates output).",
                         COPY_PIECE * 8);
    v->copy.sparse = (uint32_t)size;
    v->sparse_said = true;
    return IMG_OK;
}

static int take_workers(struct conversion *v, const char *text)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*end || end == text || n < 1 || n > COPY_WORKERS_MAX)
        return img_error("Invalid number of coroutines. Allowed number of coroutines is between 1 "
                         "and %d",
                         COPY_WORKERS_MAX);
    v->copy.workers = (unsigned)n;
    return IMG_OK;
}

static int take_cache(struct conversion *v, const char *text)
{
    if (image_parse_cache(text, &v->target_mode) < 0)
        return img_error("Invalid cache option: %s", text);
    return IMG_OK;
}

static int take(struct conversion *v, int code)
{
    switch (code) {
    case 'O': v->target_mode.format = optarg; return IMG_OK;
    case 'B':
    case 'b': v->backing = optarg; return IMG_OK;
    case 'C': v->copy.offload = true; return IMG_OK;
    case 'c': v->compress = true; return IMG_OK;
    case 'n': v->existing = true; return IMG_OK;
    case 'o': return image_add_options(&v->options, optarg);
    case 'S': return take_sparse(v, optarg);
    case 'm': return take_workers(v, optarg);
    case 't': return take_cache(v, optarg);
    case 'r':
        return img_parse("rate limit", optarg, 0, INT64_MAX, &v->copy.rate) < 0 ? IMG_FAILED
                                                                                : IMG_OK;
    case LONG_TARGET_OPTS: v->target_mode.described = true; return IMG_OK;
    case LONG_TARGET_IS_ZERO: v->copy.target_is_zero = true; return IMG_OK;
    case LONG_SALVAGE: v->copy.salvage = true; return IMG_OK;
    default: return IMG_OK; /* -W: writes are never held back to come in order */
    }
}

/* Options that don't go together. */
static int check(const struct conversion *v)
{
    if (v->copy.offload && v->sparse_said)
        return img_error("Cannot enable copy offloading when -S is used");
    if (v->copy.offload && v->compress)
        return img_error("Cannot enable copy offloading when -c is used");
    if (v->target_mode.described && !v->existing)
        return img_error("--target-image-opts requires use of -n flag");
    if (v->target_mode.described && v->target_mode.format)
        return img_error("--target-image-opts and -O are mutually exclusive");
    if (v->copy.target_is_zero && !v->existing)
        return img_error("--target-is-zero requires use of -n flag");
    if (v->existing && v->options)
        img_error("warning: -o has no effect when skipping image creation");
    return IMG_OK;
}

static int co_fn open_sources(struct conversion *v, char **names)
{
    struct copy *k = &v->copy;
    autoerr err = { 0 };

    for (unsigned i = 0; i < k->source_count; i++) {
        struct copy_source *s = &k->sources[i];
        if (image_open(&s->image, names[i], &v->c.mode, &err) < 0)
            return img_error("%s", err.msg);
        s->size = image_size(&s->image);
        if (s->size > INT64_MAX - k->length)
            return img_error("The images are too large together");
        k->length += s->size;
    }
    return IMG_OK;
}

static int co_fn open_target(struct conversion *v, const char *name)
{
    struct image_mode *mode = &v->target_mode;
    const struct driver *d;
    autoerr err = { 0 };

    if (!mode->format && !mode->described)
        mode->format = "raw";
    d = mode->format ? driver_by_name(mode->format) : NULL;
    if (mode->format && !d)
        return img_error("Unknown file format '%s'", mode->format);
    if (v->backing && d && !(d->flags & DRIVER_HAS_BACKING))
        return img_error("Backing file not supported for file format '%s'", d->name);
    if (v->compress)
        return img_error("Compression not supported for this file format");
    if (!v->existing && image_make(name, mode->format, &v->copy.length, v->options, true, &err) < 0)
        return img_error("%s: error while converting %s: %s", name, mode->format, err.msg);
    if (image_open(&v->target, name, mode, &err) < 0)
        return img_error("%s", err.msg);
    if (image_size(&v->target) < v->copy.length)
        return img_error("output file is smaller than input file");
    v->copy.target = &v->target;
    v->copy.target_is_zero |= !v->existing;
    return IMG_OK;
}

static int co_fn convert(struct conversion *v, char **names)
{
    if (open_sources(v, names) != IMG_OK || open_target(v, names[v->copy.source_count]) != IMG_OK)
        return IMG_FAILED;
    progress_show(&v->progress, 0, v->copy.length);
    if (copy_run(&v->copy) < 0)
        return IMG_FAILED;
    progress_end(&v->progress);
    return IMG_OK;
}

/* What was written counts only once it is flushed. */
static int co_fn finish(struct conversion *v, int status)
{
    int r = image_close(&v->target);

    if (r < 0 && status == IMG_OK)
        status = img_error("error while writing the last bytes: %s", strerror(-r));
    for (unsigned i = 0; i < v->copy.source_count; i++)
        image_close(&v->copy.sources[i].image);
    free(v->copy.sources);
    free(v->options);
    return status;
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = {
        OPTION_OBJECT,
        OPTION_IMAGE_OPTS,
        OPTION_FORCE_SHARE,
        { "target-image-opts", no_argument, NULL, LONG_TARGET_OPTS },
        { "target-is-zero", no_argument, NULL, LONG_TARGET_IS_ZERO },
        { "salvage", no_argument, NULL, LONG_SALVAGE },
        { 0 },
    };
    struct conversion v = {
        .copy = { .workers = 8, .sparse = 4096, .progress = &v.progress },
        .target_mode = { .writable = true, .no_flush = true },
    };
    int code, status = IMG_OK;

    while (status == IMG_OK &&
           (code = common_next(&v.c, argc, argv, "f:O:B:CcF:no:pqS:t:T:m:r:UW", longs)) >= 0)
        status = take(&v, code);
    if (status != IMG_OK || code == IMG_STOP)
        return finish(&v, IMG_FAILED);
    if (v.options && (!strcmp(v.options, "help") || !strcmp(v.options, "?")))
        return finish(&v, image_options_help(v.target_mode.format ? v.target_mode.format : "raw",
                                             optind < argc));
    if (argc - optind < 2)
        return finish(&v, img_error("Must specify image file name"));
    v.progress.on = v.c.progress && !v.c.quiet;
    v.copy.quiet = v.c.quiet;
    v.copy.sources = calloc((size_t)(argc - optind), sizeof(*v.copy.sources));
    if (!v.copy.sources)
        return finish(&v, img_error("out of memory"));
    v.copy.source_count = (unsigned)(argc - optind - 1);
    status = check(&v);
    return finish(&v, status == IMG_OK ? convert(&v, argv + optind) : status);
}

const struct img_command img_convert = {
    .name = "convert",
    .usage = "[--object OBJECT] [--image-opts] [--target-image-opts] [--target-is-zero]\n"
             "       [-U] [-C] [-p] [-q] [-n] [-f FORMAT] [-t CACHE] [-T CACHE] [-O FORMAT]\n"
             "       [-o OPTIONS] [-S SIZE] [-r RATE] [-m COROUTINES] [-W] [--salvage]\n"
             "       FILE [FILE...] TARGET",
    .run = run,
};
