/* SPDX-License-Identifier: MIT */
/* The one list of drivers. */
#ifndef DRIVERS_TABLE_H
#define DRIVERS_TABLE_H

#include "block/driver.h"

/* NULL-ended; for drivers_register(). */
extern const struct driver *const drivers_all[];

#endif
