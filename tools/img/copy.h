/* SPDX-License-Identifier: MIT */
/* Copying images: what convert and dd do once all is open. */
#ifndef TOOLS_IMG_COPY_H
#define TOOLS_IMG_COPY_H

#include "tools/img/img.h"
#include "uring/sync.h"

enum { COPY_WORKERS_MAX = 16, COPY_PIECE = 2 << 20 };

struct copy_source {
    struct image image;
    uint64_t size;
};

struct copy {
    struct copy_source *sources; /* one after the other they make up the target */
    unsigned source_count;
    struct image *target;
    uint64_t skip, length; /* bytes: left out at the beginning; copied */

    bool target_is_zero; /* zeroes need not be written */
    bool offload;        /* let the kernel copy from file to file where it can */
    bool salvage, quiet; /* what can't be read becomes zeroes */
    uint32_t sparse;     /* zeroes of at least so many bytes are not written; 0: all is written */
    unsigned workers;    /* how many requests at once, 1 .. COPY_WORKERS_MAX */
    uint64_t rate;       /* bytes per second; 0: no limit */
    struct progress *progress;

    /* copy_run()'s own */
    struct co_mutex turn; /* who looks for the next piece */
    uint64_t at, done;
    uint64_t next_write; /* ring_now() before which the rate lets nobody write */
    int failed;
    uint64_t failed_at;
    const char *failed_what;
};

/** copy_run - copy all; 0, or a negative errno with the error printed */
int co_fn copy_run(struct copy *k);

#endif
