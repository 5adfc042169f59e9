/* SPDX-License-Identifier: MIT */
/*
 * ringblk-img info: what the daemon's query-named-block-nodes says of the
 * image, as JSON or in lines for people.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "qmp/qmp.h"
#include "tools/img/img.h"

/* The ImageInfo of a node: a new reference; NULL with err set. */
static struct json_object *co_fn image_info(const struct node *n, struct err *err)
{
    struct json_object *all = NULL, *name, *image = NULL;

    if (qmp_execute(qmp_find("query-named-block-nodes"), NULL, NULL, &all, err) < 0)
        return NULL;
    for (size_t i = 0; i < json_object_array_length(all); i++) {
        struct json_object *one = json_object_array_get_idx(all, i);
        if (json_object_object_get_ex(one, "node-name", &name) &&
            !strcmp(json_object_get_string(name), n->name))
            json_object_object_get_ex(one, "image", &image);
    }
    json_object_get(image);
    json_object_put(all);
    if (!image)
        err_set(err, -ENOENT, "the node is gone");
    return image;
}

/* An image and, with @all, what lies below it, each without the next inside. */
static struct json_object *chain_of(struct json_object *image, bool all)
{
    struct json_object *list = json_object_new_array(), *below;

    while (image) {
        below = NULL;
        if (json_object_object_get_ex(image, "backing-image", &below))
            json_object_get(below);
        json_object_object_del(image, "backing-image");
        json_object_array_add(list, image);
        if (!all) {
            json_object_put(below);
            below = NULL;
        }
        image = below;
    }
    return list;
}

/* ---- for people ---- */

/* Three digits and a binary prefix. */
static void print_bytes(const char *label, int64_t bytes, bool exact)
{
    static const char *const prefixes[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
    double value = (double)bytes;
    unsigned i = 0;

    for (; value >= 1000 && i < 6; i++)
        value /= 1024;
    printf("%s: %0.3g %sB", label, value, prefixes[i]);
    if (exact)
        printf(" (%lld bytes)", (long long)bytes);
    putchar('\n');
}

static void print_image(struct json_object *image)
{
    struct json_object *v;

    if (json_object_object_get_ex(image, "filename", &v))
        printf("image: %s\n", json_object_get_string(v));
    if (json_object_object_get_ex(image, "format", &v))
        printf("file format: %s\n", json_object_get_string(v));
    if (json_object_object_get_ex(image, "virtual-size", &v))
        print_bytes("virtual size", json_object_get_int64(v), true);
    if (json_object_object_get_ex(image, "actual-size", &v))
        print_bytes("disk size", json_object_get_int64(v), false);
    else
        printf("disk size: unavailable\n");
}

static void print_chain(struct json_object *list)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        if (i > 0)
            putchar('\n');
        print_image(json_object_array_get_idx(list, i));
    }
}

/* ---- the command ---- */

enum { LONG_CHAIN = LONG_OWN };

static int co_fn run(int argc, char **argv)
{
    static const struct option longs[] = { OPTION_OBJECT,
                                           OPTION_IMAGE_OPTS,
                                           OPTION_OUTPUT,
                                           OPTION_FORCE_SHARE,
                                           { "backing-chain", no_argument, NULL, LONG_CHAIN },
                                           { 0 } };
    struct common c = { 0 };
    bool chain = false;
    struct image i;
    autoerr err = { 0 };
    int code;

    while ((code = common_next(&c, argc, argv, "f:U", longs)) >= 0)
        chain = true;
    if (code == IMG_STOP)
        return IMG_FAILED;
    if (optind != argc - 1)
        return img_usage("Expecting one image file name");
    if (image_open(&i, argv[optind], &c.mode, &err) < 0)
        return img_error("%s", err.msg);
    struct json_object *image = image_info(i.node, &err);
    image_close(&i);
    if (!image)
        return img_error("%s", err.msg);
    struct json_object *list = chain_of(image, chain);
    if (c.json)
        puts(json_object_to_json_string_ext(chain ? list : json_object_array_get_idx(list, 0),
                                            JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                JSON_C_TO_STRING_NOSLASHESCAPE));
    else
        print_chain(list);
    json_object_put(list);
    return IMG_OK;
}

const struct img_command img_info = {
    .name = "info",
    .usage = "[--object OBJECT] [--image-opts] [-f FORMAT] [--output=human|json]\n"
             "       [--backing-chain] [-U] FILE",
    .run = run,
};
