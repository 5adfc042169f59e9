/* SPDX-License-Identifier: MIT */
/* Making images: what all drivers have in common, which is little. */
#include "block/create.h"

#include <errno.h>

#include "block/options.h"

static const char *const preallocation_names[] = { "off", "metadata", "falloc", "full", NULL };
static const char *const preallocation_help[] = {
    "Space is taken when data is written",
    "The format's tables are written as if all of the disk were in use",
    "Space is reserved, which takes no writing",
    "Zeroes are written",
    NULL,
};
ROW_ENUM_TYPE(row_preallocation, "PreallocMode", preallocation_names,
              .value_help = preallocation_help, .since = "0.1",
              .help = "How much of a new image takes space at once");

static const struct row create_rows[] = {
    ROW_REQ(struct blockdev_create_options, "driver", driver, row_blockdev_driver,
            .help = "What kind of image"),
    ROW_END,
};

struct row_type row_blockdev_create_options = {
    .kind = ROW_UNION,
    .name = "BlockdevCreateOptions",
    .size = sizeof(struct blockdev_create_options),
    .rows = create_rows,
    .tag = "driver",
    .branch_offset = offsetof(struct blockdev_create_options, driver_options),
    .since = "0.1",
    .help = "An image to be made",
};

const struct driver *create_driver(const struct blockdev_create_options *o, struct err *err)
{
    const struct driver *d = driver_by_index(o->driver);

    if (d && d->create)
        return d;
    err_set(err, -ENOTSUP, "Driver does not support blockdev-create");
    return NULL;
}

int co_fn image_create(const struct blockdev_create_options *o, const atomic_bool *stop,
                       struct err *err)
{
    const struct driver *d = create_driver(o, err);

    return d ? d->create(o->driver_options, stop, err) : err->code;
}
