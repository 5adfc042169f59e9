/* SPDX-License-Identifier: MIT */
/*
 * A ublk device as the kernel's control interface sees it.  All calls block
 * and so belong on a worker thread (ring_block()), but for those that say
 * otherwise.
 */
#ifndef EXPORTS_UBLK_DEVICE_H
#define EXPORTS_UBLK_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "exports/ublk-abi.h"

enum { UBLK_CPUS_MAX = 1024 };

struct ublk_device {
    int control; /* /dev/ublk-control; -1: not open */
    int data;    /* /dev/ublkcN; -1: not open */
    bool added;
    uint64_t features; /* that the kernel has; info.flags: that the device has */
    struct rb_ublk_device_info info;
};

/** ublk_device_add - make /dev/ublkcN; there is no disk yet
 * @wanted: queues, depth, max_io_bytes, device (or RB_UBLK_ANY_DEVICE), flags; features that the kernel does
 * not know are left out.
 * On failure nothing is left behind.
 */
int ublk_device_add(struct ublk_device *d, const struct rb_ublk_device_info *wanted,
                    const struct rb_ublk_parameters *parameters, struct err *err);

/** ublk_device_start - make /dev/ublkbN; returns when all tags are being fetched and the disk is there
 * The partition table is read through the disk meanwhile.
 */
int ublk_device_start(struct ublk_device *d, struct err *err);

/** ublk_device_stop - take the disk away; requests in flight are waited for, then every tag ends with -ENODEV
 * @safely: only if nobody has the disk open, else -EBUSY, where the kernel can tell
 */
int ublk_device_stop(struct ublk_device *d, bool safely);

/** ublk_device_delete - free the number; queues must have ended and their memory be unmapped
 * Waits for it, but not for programs that hold a stopped disk open: then the kernel frees it after them.
 */
void ublk_device_delete(struct ublk_device *d);

/** ublk_device_resize - the disk has another size; 0, or a negative errno (-EOPNOTSUPP: not in this kernel) */
int ublk_device_resize(struct ublk_device *d, uint64_t bytes);

/** ublk_device_cpus - the CPUs from which requests come to @queue; a bit for each */
int ublk_device_cpus(struct ublk_device *d, unsigned queue, uint64_t cpus[UBLK_CPUS_MAX / 64]);

/** ublk_device_path - "/dev/ublkbN"; does not block */
void ublk_device_path(const struct ublk_device *d, char *out, size_t size);

#endif
