/* SPDX-License-Identifier: MIT */
/* Words that all of block/ shares: structs by name, permissions, flags. */
#ifndef BLOCK_TYPES_H
#define BLOCK_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "base/span.h"
#include "uring/co.h"

struct node;
struct driver;
struct edge;
struct root;
struct operation;
struct edit;
struct blockdev_options;

/* What a parent does with a child, and what it lets the child's other parents do. */
enum permission {
    PERM_READ = 1 << 0,            /* reads must make sense (consistent-read) */
    PERM_WRITE = 1 << 1,           /* may change what is read */
    PERM_WRITE_UNCHANGED = 1 << 2, /* may write what is there already */
    PERM_RESIZE = 1 << 3,
    PERM_ALL = 15,
};

enum edge_role {
    ROLE_FILE,     /* a format's (or raw's) storage */
    ROLE_BACKING,  /* what lies under unallocated clusters */
    ROLE_FILTERED, /* a filter's one child: same bytes at the same offset */
    ROLE_DATA,     /* an external data file */
    ROLE_MEMBER,   /* one of several (quorum) */
};

/* Flags of data requests. */
enum io_flags {
    IO_FUA = 1 << 0,             /* on stable storage when the call returns */
    IO_MAY_UNMAP = 1 << 1,       /* zero: may deallocate */
    IO_NO_FALLBACK = 1 << 2,     /* zero: -ENOTSUP rather than writing zeroes slowly (FAST_ZERO) */
    IO_SERIALISING = 1 << 3,     /* wait for overlapping requests and make later ones wait */
    IO_PREFETCH = 1 << 4,        /* read: nobody wants the bytes */
    IO_WRITE_UNCHANGED = 1 << 5, /* the bytes are those that are there already (copy-on-read) */
    IO_REGISTERED = 1 << 6,      /* some spans are opaque */
    IO_PADDED = 1 << 7, /* to drivers, write and zero: what lies past the node's size is padding */
};

/* What a node can do fast or at all; all sizes in bytes, 0: no limit or unknown. */
struct limits {
    uint32_t alignment;        /* requests must start and end on it; a power of two, >= 1 */
    uint32_t memory_alignment; /* of buffers; a power of two, >= 1 */
    uint64_t transfer_max;
    uint64_t transfer_best;
    uint64_t zero_max, zero_alignment;
    uint64_t discard_max, discard_alignment;
    bool zero_fast;   /* zeroing with IO_MAY_UNMAP costs no data I/O */
    bool fua;         /* takes IO_FUA itself; else io.c flushes after */
    bool zero_unmaps; /* IO_MAY_UNMAP means something */
    bool rotational;
};

#endif
