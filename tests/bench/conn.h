/* SPDX-License-Identifier: MIT */
/*
 * One NBD connection of the load generator.  Everything that can be sent goes
 * out in one sendmsg, everything that has arrived comes in by one recv and is
 * parsed as a stream; payload is not copied again unless it is to be verified.
 * A connection belongs to one thread.
 */
#ifndef TESTS_BENCH_CONN_H
#define TESTS_BENCH_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "tests/bench/wire.h"

enum { CONN_DEPTH_MAX = 500 }; /* two iovecs for each request fit in one sendmsg */

/* A request in flight, or a free place for one.  The cookie is its index. */
struct slot {
    uint64_t offset;  /* bytes */
    uint64_t sent_ns; /* CLOCK_MONOTONIC */
    uint64_t tag;     /* the user's */
    uint32_t length;  /* bytes */
    uint32_t got;     /* bytes of a read that have arrived */
    uint16_t command; /* WIRE_CMD_* */
    bool busy;
    bool failed;
    uint8_t *data; /* length bytes: source of a write, sink of a read (NULL: throw away) */
};

struct conn {
    int fd;
    bool structured;
    unsigned depth;
    struct slot *slots;
    uint16_t *free; /* stack of free slots */
    unsigned free_count;

    /* being sent; the headers are in order, so those of reads are one piece */
    struct wire_request *headers;
    unsigned header_count;
    struct iovec *iov;
    unsigned iov_first, iov_count;

    /* being received */
    uint8_t *in;
    size_t in_size, in_end; /* bytes; in[0..in_end) is not yet parsed */
    struct slot *payload;   /* NULL while bytes are to be skipped */
    size_t payload_left;    /* bytes */
    struct slot *done;      /* complete once payload_left is 0 */

    uint64_t sends, recvs; /* system calls */
};

/* Called for each completed request; the slot is free again afterwards. */
typedef void conn_done_fn(void *arg, struct conn *c, struct slot *s);

/* The socket is connected and negotiated. Ends the program when memory is short. */
void conn_init(struct conn *c, int fd, bool structured, unsigned depth, size_t receive_size);
void conn_free(struct conn *c);

/* conn_idle - nothing is waiting to be sent: conn_add() may be called up to free_count times */
static inline bool conn_idle(const struct conn *c)
{
    return c->iov_first == c->iov_count;
}

/** conn_take - a free slot, for the caller to fill in and give to conn_add(), or NULL */
struct slot *conn_take(struct conn *c);
void conn_add(struct conn *c, struct slot *s);

/** conn_send - send what was added as far as it goes; 0 or negative errno, full socket is 0 */
int conn_send(struct conn *c);

/** conn_receive - receive once and parse
 * @flags: MSG_DONTWAIT or 0
 * Return: bytes received, or negative errno; -ECONNRESET at the end of the stream, -EBADMSG when
 * the server breaks the protocol.
 */
int conn_receive(struct conn *c, int flags);

/** conn_parse - complete what conn_receive() brought in; 0, or -EBADMSG */
int conn_parse(struct conn *c, conn_done_fn *done, void *arg);

#endif
