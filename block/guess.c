/* SPDX-License-Identifier: MIT */
/*
 * Opening an image by its file name, as a person types it: the one place where
 * a format is guessed.  The file is opened as raw first and looked at through
 * that; if it looks like another format it is closed and opened as that one.
 * What was guessed may not name other files (struct blockdev_options.guessed).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "block/blockdev.h"
#include "block/io.h"
#include "block/named.h"
#include "block/observe.h"
#include "block/probe.h"

static int co_fn open_as(const char *format, const char *filename, const char *node_name,
                         bool read_only, bool guessed, struct err *err)
{
    autofree char *file = local_file_text("file.", filename), *text = NULL;
    struct blockdev_options o;
    int result;

    if (!file ||
        asprintf(&text, "driver=%s,node-name=%s,read-only=%s,file.read-only=%s,%s", format,
                 node_name, read_only ? "on" : "off", read_only ? "on" : "off", file) < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "'%s': out of memory", filename);
    }
    if (row_parse_text(&row_blockdev_options, text, NULL, &o, err) < 0)
        return err->code;
    o.guessed = guessed;
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
    if (open_as(format ? format : "raw", filename, node_name, read_only, false, err) < 0)
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
    if (open_as(found, filename, node_name, read_only, true, err) == 0)
        *out = node_find(node_name);
    return err->code;
}
