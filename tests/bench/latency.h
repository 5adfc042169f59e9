/* SPDX-License-Identifier: MIT */
/*
 * Latencies in bins of 1/32 relative width: adding is a few instructions, and
 * a percentile is right to 3 %.
 */
#ifndef TESTS_BENCH_LATENCY_H
#define TESTS_BENCH_LATENCY_H

#include <stdint.h>

enum { LATENCY_SUB = 32, LATENCY_BINS = 60 * LATENCY_SUB };

struct latency {
    uint64_t bins[LATENCY_BINS];
    uint64_t count;
    uint64_t sum_ns, max_ns;
};

static inline unsigned latency_bin(uint64_t ns)
{
    unsigned shift;

    if (ns < LATENCY_SUB)
        return (unsigned)ns;
    shift = 58 - (unsigned)__builtin_clzll(ns); /* leaves 32..63 */
    return (shift + 1) * LATENCY_SUB + (unsigned)(ns >> shift) - LATENCY_SUB;
}

static inline void latency_add(struct latency *l, uint64_t ns)
{
    l->bins[latency_bin(ns)]++;
    l->count++;
    l->sum_ns += ns;
    if (ns > l->max_ns)
        l->max_ns = ns;
}

static inline void latency_merge(struct latency *into, const struct latency *from)
{
    for (unsigned i = 0; i < LATENCY_BINS; i++)
        into->bins[i] += from->bins[i];
    into->count += from->count;
    into->sum_ns += from->sum_ns;
    if (from->max_ns > into->max_ns)
        into->max_ns = from->max_ns;
}

/** latency_percentile - upper end in ns of the bin in which @part (0..1) of all is reached */
static inline uint64_t latency_percentile(const struct latency *l, double part)
{
    uint64_t seen = 0;

    for (unsigned i = 0; i < LATENCY_BINS; i++) {
        seen += l->bins[i];
        if (seen && (double)seen >= part * (double)l->count) {
            uint64_t end =
                i < LATENCY_SUB
                    ? i
                    : ((uint64_t)(i % LATENCY_SUB + LATENCY_SUB + 1) << (i / LATENCY_SUB - 1)) - 1;

            return end < l->max_ns ? end : l->max_ns;
        }
    }
    return 0;
}

#endif
