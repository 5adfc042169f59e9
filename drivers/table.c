/* SPDX-License-Identifier: MIT */
/* The one list of drivers: nothing else names one. */
#include "drivers/table.h"

extern const struct driver driver_file, driver_host_device, driver_host_cdrom;
extern const struct driver driver_null_co, driver_null_aio;
extern const struct driver driver_raw;
extern const struct driver driver_qcow2;

const struct driver *const drivers_all[] = {
    &driver_file,     &driver_host_device, &driver_host_cdrom, &driver_null_co,
    &driver_null_aio, &driver_raw,         &driver_qcow2,      NULL,
};
