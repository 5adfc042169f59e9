/* SPDX-License-Identifier: MIT */
/*
 * A latency histogram with boundaries that the user sets: bin i counts values v
 * with boundary[i-1] <= v < boundary[i] (the first bin starts at 0, the last
 * one has no end), as block-latency-histogram-set describes.
 */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

struct histogram {
    size_t boundary_count;
    uint64_t *boundaries; /* ascending, > 0; owned */
    uint64_t *bins;       /* boundary_count + 1 of them; owned */
};

/** histogram_init - copy @count ascending boundaries; 0, -EINVAL (not ascending, zero, none), -ENOMEM */
int histogram_init(struct histogram *h, const uint64_t *boundaries, size_t count);
void histogram_free(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);

#endif
