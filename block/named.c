/* SPDX-License-Identifier: MIT */
/* Files by their plain names: see the header. */
#include "block/named.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "block/driver.h"
#include "block/node.h"
#include "block/options.h"
#include "uring/ring.h"

/* key=value text writes a comma as two. */
static char *double_commas(const char *text)
{
    char *out = malloc(2 * strlen(text) + 1), *p = out;

    for (; out && *text; text++) {
        *p++ = *text;
        if (*text == ',')
            *p++ = ',';
    }
    if (out)
        *p = '\0';
    return out;
}

struct look {
    const char *path;
    bool device;
};

static int is_device(void *arg)
{
    struct look *l = arg;
    struct stat st;

    l->device = stat(l->path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
    return 0;
}

char *co_fn local_file_text(const char *prefix, const char *filename)
{
    struct look look = { .path = filename };
    autofree char *escaped = double_commas(filename);
    char *text = NULL;

    ring_block(is_device, &look);
    if (!escaped || asprintf(&text, "%sdriver=%s,%sfilename=%s", prefix,
                             look.device ? "host_device" : "file", prefix, escaped) < 0)
        return NULL;
    return text;
}

/* The length of "nbd" in "nbd:...": what a colon that comes before any slash ends; 0: there is none. */
static size_t scheme_length(const char *name)
{
    size_t length = strcspn(name, ":/");

    return name[length] == ':' ? length : 0;
}

/* The path of @name seen from the folder of @beside; malloc'd. */
static char *place(const char *name, const struct node *beside, struct err *err)
{
    autofree char *base = NULL;
    char *path;

    if (*name == '/') {
        path = strdup(name);
    } else {
        if (!(base = node_filename(beside)))
            goto out_of_memory;
        const char *slash = strrchr(base, '/');
        if (scheme_length(base)) {
            err_set(err, -EINVAL,
                    "Cannot tell where the relative name '%s' begins: '%s' is no path", name, base);
            return NULL;
        }
        if (asprintf(&path, "%.*s%s", slash ? (int)(slash + 1 - base) : 0, base, name) < 0)
            path = NULL;
    }
    if (path)
        return path;
out_of_memory:
    err_set(err, -ENOMEM, "out of memory");
    return NULL;
}

/* The definition as text for row_parse_text(); malloc'd. */
static char *co_fn describe(const char *name, const char *format, const struct node *beside,
                            struct err *err)
{
    size_t scheme = scheme_length(name);
    char *text = NULL;

    if (scheme == 4 && !strncmp(name, "file", 4))
        name += 5;
    else if (scheme) {
        err_set(err, -EINVAL, "Unknown protocol '%.*s'", (int)scheme, name);
        return NULL;
    }
    autofree char *path = place(name, beside, err);
    if (!path)
        return NULL;
    autofree char *file = local_file_text(format ? "file." : "", path);
    autofree char *driver = format ? double_commas(format) : NULL;
    if (file && !format)
        return take_ptr(&file);
    if (!file || !driver || asprintf(&text, "driver=%s,%s", driver, file) < 0) {
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    return text;
}

int co_fn named_file(const char *name, const char *format, const struct node *beside,
                     struct row_choice *out, struct err *err)
{
    static const char json[] = "json:";
    autofree char *text = NULL;

    *out = (struct row_choice){ 0 };
    if (strncmp(name, json, sizeof(json) - 1)) {
        if (format && !driver_by_name(format))
            return err_set(err, -EINVAL, "Unknown driver '%s'", format);
        text = describe(name, format, beside, err);
        if (!text)
            return err->code;
        name = text;
    } else {
        name += sizeof(json) - 1;
        if (*name != '{')
            return err_set(err, -EINVAL, "'json:%s' is no object", name);
    }
    out->type = &row_blockdev_options;
    out->value = calloc(1, row_blockdev_options.size);
    if (!out->value)
        err_set(err, -ENOMEM, "out of memory");
    else if (row_parse_text(&row_blockdev_options, name, NULL, out->value, err) == 0)
        return 0;
    free(out->value);
    *out = (struct row_choice){ 0 };
    return err->code;
}
