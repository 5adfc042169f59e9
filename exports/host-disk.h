/* SPDX-License-Identifier: MIT */
/*
 * What exports have in common that are disks of this host (/dev/ublkbN,
 * /dev/nbdN): their blocks and size, who has them open, and a node that gets
 * another size.  Control ring, unless said otherwise.
 */
#ifndef EXPORTS_HOST_DISK_H
#define EXPORTS_HOST_DISK_H

#include "exports/export.h"
#include "uring/ring.h"
#include "uring/sync.h"

enum { HOST_DISK_SECTOR = 512, HOST_DISK_BLOCK_MAX = 4096 };

struct host_disk {
    struct export *export;
    char path[32];  /* "/dev/ublkb0"; "" until it is known */
    uint32_t block; /* bytes; a power of two between the two above */
    uint64_t size;  /* bytes, as the node has it */
    bool hard;      /* whoever has it open is not waited for */
    bool stopping;
    bool resizing;          /* a coroutine tells the kernel of a new size */
    struct co_cond changed; /* of the above, and whatever its kind adds */
    /* Tell the kernel of the new size; blocks (a worker's work).  0, -EOPNOTSUPP or another errno. */
    int (*tell_size)(struct host_disk *d, uint64_t bytes);
};

/** host_disk_init - choose blocks and size for the export's node
 * @block: bytes, as wanted; 0: the node's alignment
 * Refused: blocks that the node cannot do, a node smaller than one block.
 */
int host_disk_init(struct host_disk *d, struct export *x, uint64_t block, struct err *err);

/** host_disk_size - bytes of the disk: whole blocks only */
uint64_t host_disk_size(const struct host_disk *d);

/** host_disk_resized - the node has another size (root_driver.resized) */
void host_disk_resized(struct host_disk *d, uint64_t size);

/** host_disk_in_use - does any program, mount or other device use the disk?
 * Programs of other process namespaces are seen only if they use it exclusively.
 */
bool co_fn host_disk_in_use(struct host_disk *d);

/** host_disk_describe - its path (export_driver.describe) */
int host_disk_describe(const struct host_disk *d, struct export_door *door);

/** host_disk_shut_down - it is asked to go (export_driver.shutdown) */
void host_disk_shut_down(struct host_disk *d, bool hard);

/** host_disk_wait_unused - until nobody uses it any more, or it was asked to go the hard way
 * Sizes are told no more when it returns.
 */
void co_fn host_disk_wait_unused(struct host_disk *d);

/** host_disk_serve_on - a ring is to serve the disk: its memory must never be made free by writing to that
 * disk
 */
void co_fn host_disk_serve_on(struct host_disk *d, struct ring *ring);

#endif
