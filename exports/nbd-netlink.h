/* SPDX-License-Identifier: MIT */
/* Telling the kernel's NBD client what to do, over generic netlink.  All calls block: a worker's work. */
#ifndef EXPORTS_NBD_NETLINK_H
#define EXPORTS_NBD_NETLINK_H

#include <stdint.h>

#include "base/err.h"

#define NBD_NETLINK_ANY UINT32_MAX

struct nbd_netlink_disk {
    uint32_t index; /* N of /dev/nbdN; NBD_NETLINK_ANY: the first that is free */
    uint64_t bytes;
    uint32_t block;
    uint32_t timeout; /* seconds; 0: none */
    uint64_t flags;   /* enum nbd_transmission_flags */
    const int *sockets;
    unsigned socket_count;
};

/** nbd_netlink_connect - make /dev/nbdN of connected sockets, of which the kernel takes its own references
 * disk->index tells which it became.
 */
int nbd_netlink_connect(struct nbd_netlink_disk *disk, struct err *err);

/** nbd_netlink_disconnect / nbd_netlink_resize - 0 or a negative errno */
int nbd_netlink_disconnect(uint32_t index);
int nbd_netlink_resize(uint32_t index, uint64_t bytes);

#endif
