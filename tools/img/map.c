/* SPDX-License-Identifier: MIT */
/* ringblk-img map: which parts of an image hold data, and where they lie. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/img/img.h"

struct piece {
    uint64_t start;
    struct extent e;
};

struct output {
    bool json, any;
    int status;
};

enum { SHOWN = EXTENT_DATA | EXTENT_ZERO | EXTENT_ALLOCATED | EXTENT_OFFSET | EXTENT_COMPRESSED };

/* Do the two lie one after the other in all respects? */
static bool joins(const struct piece *a, const struct piece *b)
{
    if ((a->e.flags & SHOWN) != (b->e.flags & SHOWN) || a->e.depth != b->e.depth ||
        a->e.node != b->e.node)
        return false;
    return !(a->e.flags & EXTENT_OFFSET) || a->e.offset + a->e.len == b->e.offset;
}

static const char *word(bool is)
{
    return is ? "true" : "false";
}

static void print_json(struct output *o, const struct piece *p)
{
    const unsigned f = p->e.flags;

    printf("%s{ \"start\": %" PRIu64 ", \"length\": %" PRIu64
           ", \"depth\": %u, \"present\": %s, \"zero\": %s, \"data\": %s",
           o->any ? ",\n" : "[", p->start, p->e.len, p->e.depth,
           word(f & (EXTENT_DATA | EXTENT_ALLOCATED)), word(f & EXTENT_ZERO),
           word(f & EXTENT_DATA));
    if (f & EXTENT_OFFSET)
        printf(", \"offset\": %" PRIu64, p->e.offset);
    putchar('}');
    o->any = true;
}

static void print_line(struct output *o, const struct piece *p)
{
    autofree char *name = NULL;

    if (!(p->e.flags & EXTENT_DATA) || p->e.flags & EXTENT_ZERO)
        return;
    if (!(p->e.flags & EXTENT_OFFSET)) {
        o->status = img_error("File contains external, encrypted or compressed clusters.");
        return;
    }
    name = node_filename(p->e.node);
    printf("%#-16" PRIx64 "%#-16" PRIx64 "%#-16" PRIx64 "%s\n", p->start, p->e.len, p->e.offset,
           name ? name : "");
}

static void print(struct output *o, const struct piece *p)
{
    if (!p->e.len)
        return;
    if (o->json)
        print_json(o, p);
    else
        print_line(o, p);
}

static int co_fn walk(struct image *i, uint64_t at, uint64_t end, struct output *o)
{
    struct piece last = { 0 }, next;

    if (!o->json)
        printf("%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
    for (; at < end && o->status == IMG_OK; at += next.e.len) {
        int r = image_status(i, at, end - at, &next.e);
        if (r < 0)
            return img_error("Failed to read image metadata: %s", strerror(-r));
        next.start = at;
        if (last.e.len && joins(&last, &next)) {
            last.e.len += next.e.len;
            continue;
        }
        print(o, &last);
        last = next;
    }
    if (o->status == IMG_OK)
        print(o, &last);
    if (o->json)
        puts(o->any ? "]" : "[]");
    return o->status;
}

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = { OPTION_OBJECT,
                                           OPTION_IMAGE_OPTS,
                                           OPTION_OUTPUT,
                                           OPTION_FORCE_SHARE,
                                           { "start-offset", required_argument, NULL, 's' },
                                           { "max-length", required_argument, NULL, 'l' },
                                           { 0 } };
    struct common c = { 0 };
    uint64_t start = 0, max = UINT64_MAX;
    struct image i;
    autoerr err = { 0 };
    int code;

    while ((code = common_next(&c, argc, argv, "f:s:l:U", longs)) >= 0)
        if (img_parse(code == 's' ? "start offset" : "max length", optarg, 0, INT64_MAX,
                      code == 's' ? &start : &max) < 0)
            return IMG_FAILED;
    if (code == IMG_STOP)
        return IMG_FAILED;
    if (optind != argc - 1)
        return img_usage("Expecting one image file name");
    if (image_open(&i, argv[optind], &c.mode, &err) < 0)
        return img_error("%s", err.msg);
    uint64_t end = image_size(&i);
    if (start < end && max < end - start)
        end = start + max;
    struct output o = { .json = c.json };
    int status = walk(&i, start, end, &o);
    image_close(&i);
    return status;
}

const struct img_command img_map = {
    .name = "map",
    .usage = "[--object OBJECT] [--image-opts] [-f FORMAT] [-s OFFSET] [-l LENGTH]\n"
             "       [--output=human|json] [-U] FILE",
    .run = run,
};
