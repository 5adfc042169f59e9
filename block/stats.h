/* SPDX-License-Identifier: MIT */
/*
 * Accounting.  A node counts what reached it; a device (an export) counts what
 * its client asked for.  Counters are per ring, plain, and summed by queries.
 *
 * A device counts a client's request once, when it has ended, however many
 * requests it became below: its bytes and operation if it succeeded, one more
 * failed if it did not.  Latency (total time, intervals) and the time of the
 * last access take in failed requests if account-failed says so; a histogram
 * takes in all that ended.  A request that was refused before any node saw it
 * is one more invalid, and an access if account-invalid says so.
 *
 * A node counts a request once, when it arrives there from a parent or a root
 * (by the short cut: when it has succeeded), with the bytes that it came with.
 * What io.c makes of it for the node's own driver (splitting, padding,
 * read-modify-write, zeroes written for want of anything better, the flush
 * behind FUA) is not counted in that node; what the driver asks of its
 * children is counted there.  Zeroes count as writes, discards as unmap.
 */
#ifndef BLOCK_STATS_H
#define BLOCK_STATS_H

#include <stdatomic.h>

#include "base/histogram.h"
#include "block/types.h"

enum io_kind { IO_READ, IO_WRITE, IO_UNMAP, IO_FLUSH, IO_ZONE_APPEND, IO_KINDS };

/* Written by one ring only, read by any (relaxed): a torn 64-bit value can't be seen on 64-bit machines. */
struct io_counters {
    uint64_t bytes[IO_KINDS];
    uint64_t operations[IO_KINDS];
    uint64_t merged[IO_KINDS];
};

/* Add to a counter that only this ring writes. */
static inline void counter_add(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline uint64_t counter_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/** io_counters_add - one more operation of that many bytes; io_counters_sum - add @from to @to */
static inline void io_counters_add(struct io_counters *c, enum io_kind kind, uint64_t bytes)
{
    counter_add(&c->operations[kind], 1);
    counter_add(&c->bytes[kind], bytes);
}
void io_counters_sum(struct io_counters *to, const struct io_counters *from);

/* Make a maximum that all rings share at least @value. */
static inline void raise_to(_Atomic uint64_t *maximum, uint64_t value)
{
    uint64_t seen = atomic_load_explicit(maximum, memory_order_relaxed);
    while (seen < value && !atomic_compare_exchange_weak(maximum, &seen, value))
        ;
}

struct node_stats {
    _Atomic uint64_t highest_write_end; /* wr_highest_offset, bytes */
};

/* An interval of stats-intervals, per ring (block/interval.h). */
struct interval_stats;

struct device_ring_stats {
    _Alignas(64) struct io_counters done;
    uint64_t failed[IO_KINDS], invalid[IO_KINDS];
    uint64_t time[IO_KINDS]; /* ns, summed */
    uint64_t last_access;    /* ring_turn_now(); 0: never */
    unsigned in_flight[IO_KINDS];
    struct interval_stats *intervals; /* as many as device_stats.interval_count */
    struct histogram histograms[IO_KINDS];
};

struct device_stats {
    bool account_invalid, account_failed;
    unsigned interval_count;
    uint32_t *interval_seconds;
    uint64_t began;                        /* ring_now(); where the intervals' windows count from */
    atomic_flag guard;                     /* the boundaries below; a few instructions long */
    struct histogram boundaries[IO_KINDS]; /* what rings yet to come will count into */
    struct device_ring_stats *rings[65];   /* by ring index; made on demand by that ring */
};

/** device_stats_new - for an export's account-invalid, account-failed and stats-intervals (seconds) */
struct device_stats *device_stats_new(bool account_invalid, bool account_failed,
                                      const uint32_t *intervals, unsigned count);
void device_stats_free(struct device_stats *s);

/** device_begin - a client's request began; @return cookie: when, for device_done() */
uint64_t device_begin(struct device_stats *s, enum io_kind kind);
/** device_done - it ended: result 0 or a negative errno; latency counted from @since */
void device_done(struct device_stats *s, enum io_kind kind, uint64_t bytes, uint64_t since,
                 int result);
/** device_done_at_once - @count requests were begun and ended well within this turn, each within @latency ns */
void device_done_at_once(struct device_stats *s, enum io_kind kind, unsigned count, uint64_t bytes,
                         uint64_t latency);
/** device_invalid - a request was refused before any node saw it */
void device_invalid(struct device_stats *s, enum io_kind kind);

/** device_set_histogram - boundaries in ns for one kind (NULL, 0: remove); control ring, tells every ring */
int co_fn device_set_histogram(struct device_stats *s, enum io_kind kind,
                               const uint64_t *boundaries, size_t count, struct err *err);

/* Sums for queries. */
struct interval_sum {
    uint32_t seconds;
    uint64_t min[IO_KINDS], max[IO_KINDS], average[IO_KINDS]; /* ns; 0 without a request */
    double queue_depth[IO_KINDS];
};

struct device_sum {
    struct io_counters done;
    uint64_t failed[IO_KINDS], invalid[IO_KINDS], time[IO_KINDS];
    bool has_idle;
    uint64_t idle; /* ns since the last access; only after a first one */
};

void device_stats_sum(const struct device_stats *s, struct device_sum *out);
int co_fn device_stats_interval(const struct device_stats *s, unsigned index,
                                struct interval_sum *out);
void node_stats_sum(const struct node *n, struct io_counters *out);
/* A copy of the summed histogram, to be freed; bins 0 when none is set. */
int device_stats_histogram(const struct device_stats *s, enum io_kind kind, struct histogram *out);

#endif
