/* SPDX-License-Identifier: MIT */
/*
 * Counters of nodes and devices.  Each ring writes its own; queries add them
 * up while they go on changing, so a sum is that of some moment for each
 * counter, not of one moment for all.
 */
#include "block/stats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/interval.h"
#include "block/node.h"
#include "uring/ring.h"

static void boundaries_lock(struct device_stats *s)
{
    while (atomic_flag_test_and_set_explicit(&s->guard, memory_order_acquire))
        ;
}

static void boundaries_unlock(struct device_stats *s)
{
    atomic_flag_clear_explicit(&s->guard, memory_order_release);
}

void io_counters_sum(struct io_counters *to, const struct io_counters *from)
{
    for (unsigned k = 0; k < IO_KINDS; k++) {
        to->bytes[k] += counter_read(&from->bytes[k]);
        to->operations[k] += counter_read(&from->operations[k]);
        to->merged[k] += counter_read(&from->merged[k]);
    }
}

struct device_stats *device_stats_new(bool account_invalid, bool account_failed,
                                      const uint32_t *intervals, unsigned count)
{
    struct device_stats *s = calloc(1, sizeof(*s));

    if (!s)
        return NULL;
    s->account_invalid = account_invalid;
    s->account_failed = account_failed;
    s->began = ring_now();
    atomic_flag_clear(&s->guard);
    if (count) {
        s->interval_seconds = calloc(count, sizeof(*intervals));
        if (!s->interval_seconds) {
            free(s);
            return NULL;
        }
        memcpy(s->interval_seconds, intervals, count * sizeof(*intervals));
        s->interval_count = count;
    }
    return s;
}

static void ring_stats_free(struct device_ring_stats *r)
{
    for (unsigned k = 0; r && k < IO_KINDS; k++)
        histogram_free(&r->histograms[k]);
    if (r)
        free(r->intervals);
    free(r);
}

void device_stats_free(struct device_stats *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < sizeof(s->rings) / sizeof(s->rings[0]); i++)
        ring_stats_free(s->rings[i]);
    for (unsigned k = 0; k < IO_KINDS; k++)
        histogram_free(&s->boundaries[k]);
    free(s->interval_seconds);
    free(s);
}

static struct device_ring_stats *ring_stats_new(struct device_stats *s)
{
    struct device_ring_stats *r = aligned_alloc(64, sizeof(*r));

    if (!r)
        return NULL;
    memset(r, 0, sizeof(*r));
    if (s->interval_count)
        r->intervals = calloc(s->interval_count, sizeof(*r->intervals));
    if (s->interval_count && !r->intervals) {
        free(r);
        return NULL;
    }
    for (unsigned i = 0; i < s->interval_count; i++)
        interval_init(&r->intervals[i], s->began, s->interval_seconds[i] * 1000000000ULL);
    boundaries_lock(s);
    for (unsigned k = 0; k < IO_KINDS; k++)
        if (s->boundaries[k].boundary_count)
            (void)histogram_init(&r->histograms[k], s->boundaries[k].boundaries,
                                 s->boundaries[k].boundary_count);
    boundaries_unlock(s);
    return r;
}

/* This ring's part; NULL when there is no memory for it: then nothing is counted. */
static struct device_ring_stats *here(struct device_stats *s)
{
    struct device_ring_stats **slot = &s->rings[ring_index(this_ring)];

    if (!*slot)
        __atomic_store_n(slot, ring_stats_new(s), __ATOMIC_RELEASE);
    return *slot;
}

static struct device_ring_stats *at(const struct device_stats *s, unsigned ring)
{
    return __atomic_load_n(&s->rings[ring], __ATOMIC_ACQUIRE);
}

uint64_t device_begin(struct device_stats *s, enum io_kind kind)
{
    struct device_ring_stats *r = here(s);

    if (r)
        r->in_flight[kind]++;
    return ring_turn_now();
}

void device_done(struct device_stats *s, enum io_kind kind, uint64_t bytes, uint64_t since,
                 int result)
{
    struct device_ring_stats *r = here(s);
    uint64_t now = ring_turn_now(), latency = now > since ? now - since : 0;

    if (!r)
        return;
    r->in_flight[kind]--;
    if (result == 0)
        io_counters_add(&r->done, kind, bytes);
    else
        counter_add(&r->failed[kind], 1);
    if (r->histograms[kind].boundary_count)
        histogram_add(&r->histograms[kind], latency);
    if (result < 0 && !s->account_failed)
        return;
    counter_add(&r->time[kind], latency);
    __atomic_store_n(&r->last_access, now, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < s->interval_count; i++)
        interval_add(&r->intervals[i], kind, now, latency);
}

void device_invalid(struct device_stats *s, enum io_kind kind)
{
    struct device_ring_stats *r = here(s);

    if (!r)
        return;
    counter_add(&r->invalid[kind], 1);
    if (s->account_invalid)
        __atomic_store_n(&r->last_access, ring_turn_now(), __ATOMIC_RELAXED);
}

void device_stats_sum(const struct device_stats *s, struct device_sum *out)
{
    uint64_t last = 0, now = ring_now();

    *out = (struct device_sum){ 0 };
    for (unsigned i = 0; i <= rings_count(); i++) {
        const struct device_ring_stats *r = at(s, i);
        uint64_t access = r ? counter_read(&r->last_access) : 0;

        if (!r)
            continue;
        io_counters_sum(&out->done, &r->done);
        for (unsigned k = 0; k < IO_KINDS; k++) {
            out->failed[k] += counter_read(&r->failed[k]);
            out->invalid[k] += counter_read(&r->invalid[k]);
            out->time[k] += counter_read(&r->time[k]);
        }
        if (access > last)
            last = access;
    }
    out->has_idle = last != 0;
    out->idle = last && now > last ? now - last : 0;
}

int co_fn device_stats_interval(const struct device_stats *s, unsigned index,
                                struct interval_sum *out)
{
    uint64_t now = ring_now();

    if (index >= s->interval_count)
        return -ENOENT;
    *out = (struct interval_sum){ .seconds = s->interval_seconds[index] };
    for (unsigned k = 0; k < IO_KINDS; k++) {
        uint64_t sum = 0, count = 0, length = 0, ends = 0;

        for (unsigned i = 0; i <= rings_count(); i++) {
            struct device_ring_stats *r = at(s, i);
            struct interval_window w;

            if (!r)
                continue;
            w = interval_read(&r->intervals[index], (enum io_kind)k, now);
            ends = w.ends;
            length = r->intervals[index].length;
            if (!w.count)
                continue;
            if (!count || w.min < out->min[k])
                out->min[k] = w.min;
            if (w.max > out->max[k])
                out->max[k] = w.max;
            sum += w.sum;
            count += w.count;
        }
        if (count)
            out->average[k] = sum / count;
        if (length && now > ends - length)
            out->queue_depth[k] = (double)sum / (double)(now - (ends - length));
    }
    return 0;
}

void node_stats_sum(const struct node *n, struct io_counters *out)
{
    *out = (struct io_counters){ 0 };
    for (unsigned i = 0; i <= rings_count(); i++) {
        const struct node_ring *r = atomic_load_explicit(&n->rings[i], memory_order_acquire);
        if (r)
            io_counters_sum(out, &r->counters);
    }
}

/* ---- histograms ---- */

struct set_call {
    struct device_stats *s;
    enum io_kind kind;
};

/* On each ring: count into new boundaries from here on. */
static int set_here(void *arg)
{
    struct set_call *call = arg;
    struct device_ring_stats *r = at(call->s, ring_index(this_ring));
    const struct histogram *h = &call->s->boundaries[call->kind];

    if (!r)
        return 0;
    histogram_free(&r->histograms[call->kind]);
    return h->boundary_count
               ? histogram_init(&r->histograms[call->kind], h->boundaries, h->boundary_count)
               : 0;
}

int co_fn device_set_histogram(struct device_stats *s, enum io_kind kind,
                               const uint64_t *boundaries, size_t count, struct err *err)
{
    struct histogram fresh = { 0 }, old;
    struct set_call call = { s, kind };
    int result = count ? histogram_init(&fresh, boundaries, count) : 0;

    if (result < 0)
        return err_set(err, result, "boundaries must be above zero and in ascending order");
    boundaries_lock(s);
    old = s->boundaries[kind];
    s->boundaries[kind] = fresh;
    boundaries_unlock(s);
    histogram_free(&old);
    result = rings_call_all(set_here, &call);
    return result < 0 ? err_set(err, result, "out of memory for a histogram") : 0;
}

int device_stats_histogram(const struct device_stats *s, enum io_kind kind, struct histogram *out)
{
    const struct histogram *b = &s->boundaries[kind];
    int result;

    *out = (struct histogram){ 0 };
    if (!b->boundary_count)
        return 0;
    result = histogram_init(out, b->boundaries, b->boundary_count);
    for (unsigned i = 0; result == 0 && i <= rings_count(); i++) {
        const struct device_ring_stats *r = at(s, i);

        if (!r || r->histograms[kind].boundary_count != b->boundary_count)
            continue;
        for (size_t j = 0; j <= b->boundary_count; j++)
            out->bins[j] += counter_read(&r->histograms[kind].bins[j]);
    }
    return result;
}
