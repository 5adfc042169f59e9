/* SPDX-License-Identifier: MIT */
/*
 * Opening an image by its file name, as a person types it: the one place where
 * a format is guessed.  The file is opened as raw first and looked at through
 * that; if it looks like another format it is closed and opened as that one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "block/blockdev.h"
#include "block/io.h"
#include "block/observe.h"
#include "block/probe.h"
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

static int co_fn open_as(const char *format, const char *filename, const char *node_name,
                         bool read_only, struct err *err)
{
    autofree char *escaped = double_commas(filename), *text = NULL;
    struct look look = { .path = filename };
    struct blockdev_options o;
    int result;

    ring_block(is_device, &look);
    if (!escaped ||
        asprintf(&text,
                 "driver=%s,node-name=%s,read-only=%s,file.driver=%s,file.read-only=%s,"
                 "file.filename=%s",
                 format, node_name, read_only ? "on" : "off", look.device ? "host_device" : "file",
                 read_only ? "on" : "off", escaped) < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "'%s': out of memory", filename);
    }
    if (row_parse_text(&row_blockdev_options, text, NULL, &o, err) < 0)
        return err->code;
    result = blockdev_add(&o, err);
    row_release(&row_blockdev_options, &o);
    return result;
}

/* What the image looks like; a negative errno with an error when it cannot be read. */
static int co_fn guess(struct node *n, const char *filename, const char **format, struct err *err)
{
    uint8_t first[NODE_GUARD_BYTES];
    size_t len = node_size(n) < sizeof(first) ? (size_t)node_size(n) : sizeof(first);
    int result = io_read_control(n, 0, first, len);

    if (result < 0)
        return err_set_errno(err, result, "cannot read '%s' to find out its format", filename);
    *format = probe_format(first, len);
    return 0;
}

int co_fn blockdev_open_guessed(const char *filename, const char *format, const char *node_name,
                                bool read_only, struct node **out, struct err *err)
{
    const char *found;
    autoerr unused = { 0 };

    *out = NULL;
    if (format && !driver_by_name(format))
        return err_set(err, -EINVAL, "'%s': there is no driver for the format '%s' here", filename,
                       format);
    if (open_as(format ? format : "raw", filename, node_name, read_only, err) < 0)
        return err->code;
    *out = node_find(node_name);
    if (format)
        return 0;
    if (guess(*out, filename, &found, err) == 0 && strcmp(found, "raw") == 0) {
        (*out)->guarded_raw = true; /* nobody can write to it yet */
        watch_refresh(*out);
        return 0;
    }
    *out = NULL;
    blockdev_del(node_name, &unused);
    if (err->code)
        return err->code;
    if (!driver_by_name(found))
        return err_set(err, -EINVAL,
                       "'%s' looks like an image of format '%s', for which there is no driver "
                       "here; say --format raw if its bytes are meant",
                       filename, found);
    if (open_as(found, filename, node_name, read_only, err) == 0)
        *out = node_find(node_name);
    return err->code;
}
