/* SPDX-License-Identifier: MIT */
/* Latency histograms with the user's boundaries. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/histogram.h"

int histogram_init(struct histogram *h, const uint64_t *boundaries, size_t count)
{
    *h = (struct histogram){ 0 };
    if (!count || !boundaries[0])
        return -EINVAL;
    for (size_t i = 1; i < count; i++) {
        if (boundaries[i] <= boundaries[i - 1])
            return -EINVAL;
    }
    h->boundaries = reallocarray(NULL, count, sizeof *h->boundaries);
    h->bins = calloc(count + 1, sizeof *h->bins);
    if (!h->boundaries || !h->bins) {
        histogram_free(h);
        return -ENOMEM;
    }
    memcpy(h->boundaries, boundaries, count * sizeof *boundaries);
    h->boundary_count = count;
    return 0;
}

void histogram_free(struct histogram *h)
{
    free(h->boundaries);
    free(h->bins);
    *h = (struct histogram){ 0 };
}

void histogram_add(struct histogram *h, uint64_t value)
{
    size_t low = 0, high = h->boundary_count;

    if (!h->bins)
        return;
    /* The bin's number is how many boundaries are <= value. */
    while (low < high) {
        size_t mid = low + (high - low) / 2;

        if (h->boundaries[mid] <= value)
            low = mid + 1;
        else
            high = mid;
    }
    /* Other threads may read a bin meanwhile. */
    __atomic_store_n(&h->bins[low], h->bins[low] + 1, __ATOMIC_RELAXED);
}
