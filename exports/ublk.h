/* SPDX-License-Identifier: MIT */
/* The ublk export: a node as /dev/ublkbN of this host. */
#ifndef EXPORTS_UBLK_H
#define EXPORTS_UBLK_H

#include "exports/export.h"

/* BlockExportOptionsUblk */
struct ublk_export_options {
    bool has_dev_id;
    uint32_t dev_id;
    uint32_t nr_queues;          /* 0: one for each data ring */
    uint32_t queue_depth;        /* default 128 */
    uint64_t max_io_size;        /* bytes; default 512 KiB */
    uint64_t logical_block_size; /* bytes; 0: the node's alignment */
    bool rotational;
};
extern const struct row_type row_ublk_export_options;
extern const struct export_driver export_ublk;

#endif
