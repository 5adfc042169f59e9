/* SPDX-License-Identifier: MIT */
/*
 * The registered drivers: the enum BlockdevDriver and the union BlockdevOptions
 * are made of them, so a driver that this build lacks is no accepted value.
 */
#include "block/driver.h"

#include <string.h>

#include "base/log.h"
#include "block/create.h"
#include "block/options.h"

enum { DRIVERS_MAX = 128 };

static const struct driver *drivers[DRIVERS_MAX];
static const char *names[DRIVERS_MAX + 1];
static const struct row_type *branches[DRIVERS_MAX + 1];
static const struct row_type *create_branches[DRIVERS_MAX + 1];
static int count;

static void register_one(const struct driver *d)
{
    if (driver_by_name(d->name))
        return;
    if (count == DRIVERS_MAX) {
        log_error("no room for driver '%s'", d->name);
        return;
    }
    drivers[count] = d;
    names[count] = d->name;
    branches[count] = d->options;
    create_branches[count] = d->create_options;
    count++;
}

void drivers_register(const struct driver *const *list)
{
    for (; *list; list++)
        register_one(*list);
    row_blockdev_driver.values = names;
    row_blockdev_options.branches = branches;
    row_blockdev_create_options.branches = create_branches;
}

const struct driver *driver_by_index(int index)
{
    return index >= 0 && index < count ? drivers[index] : NULL;
}

const struct driver *driver_by_name(const char *name)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(drivers[i]->name, name))
            return drivers[i];
    return NULL;
}
