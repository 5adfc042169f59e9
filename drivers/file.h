/* SPDX-License-Identifier: MIT */
/*
 * What the files of the file, host_device and host_cdrom drivers share: the
 * state of one open file.
 *
 * The descriptor's number never changes while the node is open: a reopening
 * puts the new open file under the old number (dup3), so data rings need no
 * lock, and what is in flight ends on the old one.
 */
#ifndef DRIVERS_FILE_H
#define DRIVERS_FILE_H

#include <stdatomic.h>

#include "block/driver.h"
#include "block/node.h"

enum file_kind { FILE_REGULAR, FILE_DEVICE, FILE_CDROM };

/* Does a kernel facility work on this file?  Learnt by trying, remembered. */
enum file_support { SUPPORT_UNKNOWN, SUPPORT_YES, SUPPORT_NO };

enum {
    FILE_SECTOR = 512,           /* sizes are rounded up to this, bytes */
    FILE_INLINE_MAX = 256 << 10, /* more is not copied on a ring's own thread, bytes */
};

/* The last stretch that was found to hold data. */
struct file_extent_cache {
    atomic_flag guard;       /* a few instructions long */
    _Atomic uint64_t change; /* raised after whatever may have made a hole */
    uint64_t as_of;          /* .change before it was looked up; under guard, as are: */
    uint64_t start, end;     /* bytes; empty when equal */
};

struct medium_calls;

struct file {
    enum file_kind kind;
    int fd;
    char *path;
    _Atomic bool writable; /* open for writing */
    bool block_device;     /* else a regular file or a character device */
    bool regular;
    bool direct; /* O_DIRECT in force */
    bool memory; /* tmpfs: calls do not wait for a device */
    bool local;  /* a file system of which the rest of this file's guesses is known to hold */
    bool dsync;  /* RWF_DSYNC syncs */
    bool locking;
    unsigned perm, unshared;           /* enum permission: what the parents were granted */
    unsigned held_perm, held_unshared; /* the bytes that are locked: at least those */
    int reopened; /* between PREPARE and COMMIT: the file, open for writing; else -1 */

    _Atomic int nowait_read, nowait_write; /* enum file_support: RWF_NOWAIT */
    _Atomic int punch, zero_range, allocate, seek, device_discard, device_zero;
    _Atomic bool may_grow;       /* a parent has PERM_RESIZE */
    _Atomic bool seek_slow;      /* took long once: asked on a worker from then on */
    _Atomic uint64_t padded_end; /* where a padded write past the node's size ended; 0: none */
    struct file_extent_cache cache;

    const struct medium_calls *medium; /* FILE_CDROM */
};

/* BlockdevOptionsFile. */
struct file_options {
    char *filename;
    char *pr_manager;
    int locking; /* enum on_off_auto */
    int aio;     /* enum file_aio */
    int64_t aio_max_batch;
    bool has_drop_cache, drop_cache;
    bool x_check_cache_dropped;
};

enum file_aio { FILE_AIO_THREADS, FILE_AIO_NATIVE, FILE_AIO_IO_URING };

/** file_cut_padding - cut what padding has put behind the node's end; blocks (on a worker) */
void file_cut_padding(struct node *n);

static inline struct file *file_of(const struct node *n)
{
    return n->state;
}

#endif
