/* SPDX-License-Identifier: MIT */
/*
 * One queue of a ublk device.  It lives on one ring: the kernel binds each tag
 * to the thread that first fetched it, and everything about its requests
 * happens there.
 */
#ifndef EXPORTS_UBLK_QUEUE_H
#define EXPORTS_UBLK_QUEUE_H

#include "block/io.h"
#include "exports/export.h"
#include "exports/ublk-abi.h"
#include "uring/op.h"

struct ublk_queue;

/* A tag: with the kernel, or a request in flight. */
struct ublk_request {
    struct op command; /* fetches the next request */
    struct op op;      /* the short cut's */
    struct operation operation;
    struct gate_waiter waiter;
    struct shortcut shortcut;
    struct ublk_queue *queue;
    uint64_t offset, length; /* bytes */
    uint64_t since;          /* when it arrived, ring_turn_now() */
    uint8_t *data;           /* the tag's buffer, max_io_bytes */
    uint32_t what;           /* rb_ublk_request.operation */
    int result;              /* 0 or a negative errno */
    uint16_t tag;
};

struct ublk_queue {
    /* Fixed while it runs. */
    struct export *export;
    struct root *root;
    struct ring *ring;
    int fd; /* /dev/ublkcN; the device's */
    uint16_t index, depth;
    uint32_t max_io_bytes;
    void (*ended)(struct ublk_queue *q); /* control ring: the last tag has ended */

    const struct rb_ublk_request *shown; /* the kernel's, by tag; read-only */
    size_t shown_bytes;
    uint8_t *buffers; /* depth times max_io_bytes */
    size_t buffers_bytes;
    struct ublk_request *requests; /* by tag */
    struct work ended_work, hurry_work;
    bool hurry_asked; /* control ring */

    /* The ring's. */
    bool hurries;   /* requests that fail are answered, whatever the export's policy says */
    unsigned live;  /* tags that have not ended */
    int first_fail; /* of a fetch, but for -ENODEV */
};

/** ublk_queue_open - map it and fetch all tags on its ring; control ring
 * Whether that succeeded or not: once tags were fetched, ended() comes after the device was stopped.
 * @fetched: were they?
 */
int co_fn ublk_queue_open(struct ublk_queue *q, bool *fetched, struct err *err);

/** ublk_queue_hurry - nobody may wait for the export to go on: what waits fails, and so does what fails later
 * A queue begins like that; control ring, returns at once.
 */
void ublk_queue_hurry(struct ublk_queue *q);

/** ublk_queue_follow_policy - the end of that, once the disk is there; control ring */
void co_fn ublk_queue_follow_policy(struct ublk_queue *q);

/** ublk_queue_close - unmap it; it has ended, or no tag was fetched; control ring */
void co_fn ublk_queue_close(struct ublk_queue *q);

#endif
