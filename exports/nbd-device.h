/* SPDX-License-Identifier: MIT */
/* The nbd-device export: a node as /dev/nbdN of this host. */
#ifndef EXPORTS_NBD_DEVICE_H
#define EXPORTS_NBD_DEVICE_H

#include "exports/export.h"

/* BlockExportOptionsNbdDevice */
struct nbd_device_options {
    char *device;         /* "/dev/nbdN"; NULL: the first that is free */
    uint32_t connections; /* 0: one for each data ring, at most 16 */
    uint32_t timeout;     /* seconds; 0: none */
    uint64_t block_size;  /* bytes; 0: the node's alignment */
};
extern const struct row_type row_nbd_device_options;
extern const struct export_driver export_nbd_device;

#endif
