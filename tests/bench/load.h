/* SPDX-License-Identifier: MIT */
/*
 * The work of nbdload: streams of requests over connections, driven by one or
 * more threads.  A stream is one connection with its queue depth; a worker is
 * a thread with some streams.
 */
#ifndef TESTS_BENCH_LOAD_H
#define TESTS_BENCH_LOAD_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/bench/conn.h"
#include "tests/bench/latency.h"
#include "tests/bench/pattern.h"

enum load_op { LOAD_RANDREAD, LOAD_RANDWRITE, LOAD_SEQREAD, LOAD_SEQWRITE, LOAD_MIXED };

struct load {
    enum load_op op;
    unsigned read_percent; /* of LOAD_MIXED */
    uint32_t block_size;   /* bytes */
    uint64_t block_count;  /* the region, from offset 0 */
    uint64_t count;        /* requests in all, 0: until stopped */
    uint64_t seed;
    struct pattern *pattern; /* NULL: contents do not matter */
    atomic_bool stop;        /* no new requests */
    atomic_bool measuring;   /* latencies count */
};

struct stream {
    struct conn conn;
    uint64_t random;      /* state */
    uint64_t first, end;  /* its part of the region for sequential work, in blocks */
    uint64_t cursor;      /* next block of sequential work */
    uint64_t left;        /* requests still to be made */
    unsigned inflight;    /* requests */
    uint8_t *data;        /* one block, or with a pattern one for each slot */
    bool writable_wanted; /* epoll reports room in the socket */
};

struct worker {
    struct load *load;
    struct stream *streams;
    unsigned stream_count;
    pthread_t thread;
    sem_t *ended;    /* posted when the thread is through */
    bool broken;     /* a connection failed: the run is void */
    uint64_t now_ns; /* one reading of the clock for each batch */
    struct latency latency;

    /* written by the thread, read by anyone at any time */
    _Atomic uint64_t ios, bytes, errors, checked, mismatches;
};

/** stream_init - @fd is connected and negotiated and now belongs to the stream */
void stream_init(struct stream *s, const struct load *load, int fd, bool structured, unsigned depth,
                 size_t receive_size);
/** stream_close - tell the server goodbye and free everything; nothing is in flight */
void stream_close(struct stream *s);

/** workers_start - give each stream its part of @load and start the threads
 * @ended: posted once by each worker
 */
void workers_start(struct worker *w, unsigned worker_count, struct load *load, sem_t *ended);
/* Waits for the threads. Return: true when no connection broke. */
bool workers_join(struct worker *w, unsigned worker_count);

#endif
