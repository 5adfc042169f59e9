/* SPDX-License-Identifier: MIT */
/*
 * Accounting of devices and nodes.  A ring writes its own part only; queries
 * read all parts as they are, or ask each ring for what must fit together (the
 * windows of intervals).
 */
#include "block/stats.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/interval.h"
#include "block/node.h"

static void stats_lock(struct device_stats *s)
{
    for (unsigned spins = 0; atomic_flag_test_and_set_explicit(&s->guard, memory_order_acquire);
         spins++) {
        if (spins > 200)
            sched_yield();
    }
}

static void stats_unlock(struct device_stats *s)
{
    atomic_flag_clear_explicit(&s->guard, memory_order_release);
}

struct device_stats *device_stats_new(bool account_invalid, bool account_failed,
                                      const uint32_t *intervals, unsigned count)
{
    struct device_stats *s = calloc(1, sizeof *s);
    uint32_t *seconds = calloc(count ? count : 1, sizeof *seconds);
    if (!s || !seconds) {
        free(s);
        free(seconds);
        return NULL;
    }
    for (unsigned i = 0; i < count; i++)
        seconds[i] = intervals[i] ? intervals[i] : 1;
    s->account_invalid = account_invalid;
    s->account_failed = account_failed;
    s->interval_count = count;
    s->interval_seconds = seconds;
    s->began = ring_now();
    atomic_flag_clear(&s->guard);
    return s;
}

static void ring_part_free(struct device_ring_stats *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < IO_KINDS; i++)
        histogram_free(&p->histograms[i]);
    free(p->intervals);
    free(p);
}

void device_stats_free(struct device_stats *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i <= RINGS_MAX; i++)
        ring_part_free(s->rings[i]);
    for (unsigned i = 0; i < IO_KINDS; i++)
        histogram_free(&s->boundaries[i]);
    free(s->interval_seconds);
    free(s);
}

/* Like @from, with empty bins; none if that has none or memory is out. */
static int histogram_like(struct histogram *to, const struct histogram *from)
{
    *to = (struct histogram){ 0 };
    return from->bins ? histogram_init(to, from->boundaries, from->boundary_count) : 0;
}

static struct device_ring_stats *make_part(struct device_stats *s)
{
    struct device_ring_stats *p = aligned_alloc(_Alignof(struct device_ring_stats), sizeof *p);
    if (!p)
        return NULL;
    memset(p, 0, sizeof *p);
    if (s->interval_count) {
        p->intervals = calloc(s->interval_count, sizeof *p->intervals);
        if (!p->intervals) {
            free(p);
            return NULL;
        }
    }
    /* Under the lock: boundaries that are set meanwhile find the part there, or the part finds them. */
    stats_lock(s);
    for (unsigned i = 0; i < IO_KINDS; i++)
        histogram_like(&p->histograms[i], &s->boundaries[i]);
    __atomic_store_n(&s->rings[ring_index(this_ring)], p, __ATOMIC_RELEASE);
    stats_unlock(s);
    return p;
}

/* This ring's part; NULL when out of memory: then it isn't counted. */
static struct device_ring_stats *part_here(struct device_stats *s)
{
    struct device_ring_stats *p = s->rings[ring_index(this_ring)];
    return p ? p : make_part(s);
}

uint64_t device_begin(struct device_stats *s, enum io_kind kind)
{
    struct device_ring_stats *p = part_here(s);
    if (p)
        p->in_flight[kind]++;
    return ring_turn_now();
}

/* @now: as turns have it, so that it never goes back. */
static void account_time(struct device_stats *s, struct device_ring_stats *p, enum io_kind kind,
                         unsigned count, uint64_t now, uint64_t latency)
{
    counter_add(&p->time[kind], count * latency);
    __atomic_store_n(&p->last_access, now, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < s->interval_count; i++) {
        uint64_t half = interval_half(now - s->began, s->interval_seconds[i]);
        for (unsigned n = 0; n < count; n++)
            interval_add(&p->intervals[i], half, kind, latency);
    }
}

/* The turn's time, or the device's beginning if that came later in the turn. */
static uint64_t turn_of(const struct device_stats *s)
{
    uint64_t now = ring_turn_now();
    return now < s->began ? s->began : now;
}

void device_done(struct device_stats *s, enum io_kind kind, uint64_t bytes, uint64_t since,
                 int result)
{
    struct device_ring_stats *p = part_here(s);
    if (!p)
        return;
    uint64_t now = turn_of(s);
    uint64_t ended = now > since ? now : ring_now(); /* in the turn that it began in */
    uint64_t latency = ended > since ? ended - since : 0;
    if (p->in_flight[kind])
        p->in_flight[kind]--;
    if (result < 0)
        counter_add(&p->failed[kind], 1);
    else
        io_counters_add(&p->done, kind, bytes);
    histogram_add(&p->histograms[kind], latency);
    if (result >= 0 || s->account_failed)
        account_time(s, p, kind, 1, now, latency);
}

void device_done_at_once(struct device_stats *s, enum io_kind kind, unsigned count, uint64_t bytes,
                         uint64_t latency)
{
    struct device_ring_stats *p = part_here(s);
    if (!p)
        return;
    counter_add(&p->done.operations[kind], count);
    counter_add(&p->done.bytes[kind], bytes);
    for (unsigned n = 0; n < count; n++)
        histogram_add(&p->histograms[kind], latency);
    account_time(s, p, kind, count, turn_of(s), latency);
}

void device_invalid(struct device_stats *s, enum io_kind kind)
{
    struct device_ring_stats *p = part_here(s);
    if (!p)
        return;
    counter_add(&p->invalid[kind], 1);
    if (s->account_invalid)
        __atomic_store_n(&p->last_access, ring_turn_now(), __ATOMIC_RELAXED);
}

/* ---- histograms ---- */

struct new_histograms {
    struct device_stats *stats;
    enum io_kind kind;
    struct histogram rings[RINGS_MAX + 1];
};

/* On each ring: the old one goes, as nobody else may be adding to it. */
static int take_histogram(void *arg)
{
    struct new_histograms *new = arg;
    unsigned i = ring_index(this_ring);
    struct device_ring_stats *p = new->stats->rings[i];
    if (!p)
        return 0;
    stats_lock(new->stats);
    struct histogram old = p->histograms[new->kind];
    p->histograms[new->kind] = new->rings[i];
    new->rings[i] = old;
    stats_unlock(new->stats);
    return 0;
}

static int make_histograms(struct histogram *rings, struct histogram *boundaries,
                           const uint64_t *list, size_t count)
{
    int r = histogram_init(boundaries, list, count);
    for (unsigned i = 0; r == 0 && i <= rings_count(); i++)
        r = histogram_init(&rings[i], list, count);
    return r;
}

int co_fn device_set_histogram(struct device_stats *s, enum io_kind kind,
                               const uint64_t *boundaries, size_t count, struct err *err)
{
    struct histogram same = { 0 };
    struct new_histograms *new = calloc(1, sizeof *new);
    int r = new ? 0 : -ENOMEM;
    if (new &&boundaries)
        r = make_histograms(new->rings, &same, boundaries, count);
    if (r == 0) {
        new->stats = s;
        new->kind = kind;
        stats_lock(s);
        struct histogram old = s->boundaries[kind];
        s->boundaries[kind] = same;
        same = old;
        stats_unlock(s);
        rings_call_all(take_histogram, new);
    } else if (r == -EINVAL) {
        err_set(err, r, "Histogram boundaries must be ascending and greater than 0");
    } else {
        err_set(err, r, "Cannot set histogram boundaries: out of memory");
    }
    histogram_free(&same);
    for (unsigned i = 0; new &&i <= RINGS_MAX; i++)
        histogram_free(&new->rings[i]);
    free(new);
    return r;
}

int device_stats_histogram(const struct device_stats *stats, enum io_kind kind,
                           struct histogram *out)
{
    struct device_stats *s = (struct device_stats *)stats; /* for its lock */
    stats_lock(s);
    int r = histogram_like(out, &s->boundaries[kind]);
    for (unsigned i = 0; r == 0 && out->bins && i <= RINGS_MAX; i++) {
        const struct device_ring_stats *p = __atomic_load_n(&s->rings[i], __ATOMIC_ACQUIRE);
        if (!p || p->histograms[kind].boundary_count != out->boundary_count)
            continue;
        for (size_t bin = 0; bin <= out->boundary_count; bin++)
            out->bins[bin] += counter_read(&p->histograms[kind].bins[bin]);
    }
    stats_unlock(s);
    return r;
}

/* ---- sums ---- */

void io_counters_sum(struct io_counters *to, const struct io_counters *from)
{
    for (unsigned i = 0; i < IO_KINDS; i++) {
        to->bytes[i] += counter_read(&from->bytes[i]);
        to->operations[i] += counter_read(&from->operations[i]);
        to->merged[i] += counter_read(&from->merged[i]);
    }
}

void device_stats_sum(const struct device_stats *s, struct device_sum *out)
{
    uint64_t last = 0, now = ring_now();
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i <= RINGS_MAX; i++) {
        const struct device_ring_stats *p = __atomic_load_n(&s->rings[i], __ATOMIC_ACQUIRE);
        if (!p)
            continue;
        io_counters_sum(&out->done, &p->done);
        for (unsigned k = 0; k < IO_KINDS; k++) {
            out->failed[k] += counter_read(&p->failed[k]);
            out->invalid[k] += counter_read(&p->invalid[k]);
            out->time[k] += counter_read(&p->time[k]);
        }
        uint64_t access = counter_read(&p->last_access);
        last = access > last ? access : last;
    }
    out->has_idle = last != 0;
    out->idle = last && now > last ? now - last : 0;
}

void node_stats_sum(const struct node *n, struct io_counters *out)
{
    memset(out, 0, sizeof *out);
    for (unsigned i = 0; i <= rings_count(); i++) {
        struct node_ring *ring = atomic_load_explicit(&n->rings[i], memory_order_acquire);
        if (ring)
            io_counters_sum(out, &ring->counters);
    }
}

struct interval_query {
    struct device_stats *stats;
    unsigned index;
    uint64_t half;
    struct latencies kinds[IO_KINDS];
};

static int merge_interval(void *arg)
{
    struct interval_query *q = arg;
    const struct device_ring_stats *p = q->stats->rings[ring_index(this_ring)];
    if (p) {
        stats_lock(q->stats);
        interval_merge(&p->intervals[q->index], q->half, q->kinds);
        stats_unlock(q->stats);
    }
    return 0;
}

int co_fn device_stats_interval(const struct device_stats *s, unsigned index,
                                struct interval_sum *out)
{
    if (index >= s->interval_count)
        return -EINVAL;
    uint32_t seconds = s->interval_seconds[index];
    uint64_t age = ring_now() - s->began;
    struct interval_query q = { .stats = (struct device_stats *)s,
                                .index = index,
                                .half = interval_half(age, seconds) };
    int r = rings_call_all(merge_interval, &q);
    if (r < 0)
        return r;
    *out = (struct interval_sum){ .seconds = seconds };
    for (unsigned i = 0; i < IO_KINDS; i++) {
        const struct latencies *l = &q.kinds[i];
        out->min[i] = l->min;
        out->max[i] = l->max;
        out->average[i] = l->count ? l->sum / l->count : 0;
        out->queue_depth[i] = (double)l->sum / (double)interval_elapsed(age, seconds);
    }
    return 0;
}
