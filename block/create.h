/* SPDX-License-Identifier: MIT */
/* Making images: BlockdevCreateOptions, and the call that carries them out. */
#ifndef BLOCK_CREATE_H
#define BLOCK_CREATE_H

#include <stdatomic.h>

#include "block/driver.h"

/* How much of a new image takes space at once: PreallocMode. */
enum preallocation { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL };

/* The union BlockdevCreateOptions. */
struct blockdev_create_options {
    int driver;           /* index in row_blockdev_driver */
    void *driver_options; /* the struct that driver->create_options describes */
};

extern struct row_type row_blockdev_create_options; /* filled in by drivers_register() */
extern const struct row_type row_preallocation;

/** create_driver - who makes such an image; NULL, with err set, when nobody can */
const struct driver *create_driver(const struct blockdev_create_options *o, struct err *err);

/** image_create - make an image; control ring
 * @stop: any thread may set it: the call gives up soon, with -ECANCELED
 */
int co_fn image_create(const struct blockdev_create_options *o, const atomic_bool *stop,
                       struct err *err);

#endif
