/* SPDX-License-Identifier: MIT */
/*
 * For the tests of the qcow2 driver: a small image made by hand, and a check of
 * one that knows nothing of the driver.  Version 3, clusters of 512 bytes,
 * refcounts of 16 bits, no snapshots.
 */
#ifndef TESTS_UNIT_QCOW2_CHECK_H
#define TESTS_UNIT_QCOW2_CHECK_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/qcow2/header.h"

enum {
    IMAGE_CLUSTER = 512,
    IMAGE_ENTRIES = IMAGE_CLUSTER / 8, /* of a table, and clusters per L2 table */
    IMAGE_REFS = IMAGE_CLUSTER / 2,    /* refcounts in a block */
};

/* An empty image of @size bytes, at @p: header, refcount table, one block, L1 table.  Return: its length. */
static inline size_t image_make(uint8_t *p, uint64_t size)
{
    uint64_t l1_entries =
        (size + IMAGE_CLUSTER * IMAGE_ENTRIES - 1) / (IMAGE_CLUSTER * IMAGE_ENTRIES);
    uint64_t l1_clusters = (l1_entries * 8 + IMAGE_CLUSTER - 1) / IMAGE_CLUSTER;
    size_t used = 3 + l1_clusters;

    memset(p, 0, used * IMAGE_CLUSTER);
    *(struct qcow2_disk_header *)p = (struct qcow2_disk_header){
        .magic = put_be32(QCOW2_MAGIC),
        .version = put_be32(3),
        .cluster_bits = put_be32(9),
        .size = put_be64(size),
        .l1_size = put_be32((uint32_t)l1_entries),
        .l1_offset = put_be64(3 * IMAGE_CLUSTER),
        .reftable_offset = put_be64(IMAGE_CLUSTER),
        .reftable_clusters = put_be32(1),
        .refcount_order = put_be32(4),
        .header_length = put_be32(112),
    };
    *(be64 *)(p + IMAGE_CLUSTER) = put_be64(2 * IMAGE_CLUSTER);
    for (size_t i = 0; i < used; i++)
        ((be16 *)(p + 2 * IMAGE_CLUSTER))[i] = put_be16(1);
    return used * IMAGE_CLUSTER;
}

struct image {
    const uint8_t *p;
    uint64_t length;
    unsigned *uses; /* how often each cluster is referred to */
    uint64_t count; /* clusters that the file has room for, and some behind its end */
    char fault[160];
};

#define IMAGE_FAULT(x, ...) (snprintf((x)->fault, sizeof((x)->fault), __VA_ARGS__), false)

static inline uint64_t image_word(const struct image *x, uint64_t at)
{
    return at + 8 <= x->length ? get_be64(*(const be64 *)(x->p + at)) : 0;
}

static inline bool image_use(struct image *x, uint64_t at, uint64_t clusters, const char *what)
{
    if (at % IMAGE_CLUSTER)
        return IMAGE_FAULT(x, "%s at %#llx is not aligned", what, (unsigned long long)at);
    for (uint64_t i = at / IMAGE_CLUSTER; clusters; i++, clusters--) {
        if (i >= x->count)
            return IMAGE_FAULT(x, "%s at %#llx lies behind everything", what,
                               (unsigned long long)at);
        x->uses[i]++;
    }
    return true;
}

static inline bool image_use_mapped(struct image *x, const struct qcow2_header *h)
{
    for (uint64_t i = 0; i < h->l1_size; i++) {
        uint64_t l1 = image_word(x, h->l1_offset + i * 8), table = l1 & 0x00fffffffffffe00ULL;
        if (!table)
            continue;
        if (!image_use(x, table, 1, "L2 table"))
            return false;
        if (table + IMAGE_CLUSTER > x->length)
            return IMAGE_FAULT(x, "L2 table at %#llx behind the end", (unsigned long long)table);
        for (uint64_t k = 0; k < IMAGE_ENTRIES; k++) {
            uint64_t host = image_word(x, table + k * 8) & 0x00fffffffffffe00ULL;
            if (host && !image_use(x, host, 1, "data"))
                return false;
        }
    }
    return true;
}

static inline uint64_t image_refs(const struct image *x, const struct qcow2_header *h,
                                  uint64_t cluster)
{
    uint64_t block = image_word(x, h->reftable_offset + cluster / IMAGE_REFS * 8);
    uint64_t at = block + cluster % IMAGE_REFS * 2;

    if (cluster / IMAGE_REFS * 8 >= (uint64_t)h->reftable_clusters * IMAGE_CLUSTER)
        return 0;
    return block && at + 2 <= x->length ? get_be16(*(const be16 *)(x->p + at)) : 0;
}

static inline bool image_compare(struct image *x, const struct qcow2_header *h, bool leaks_too)
{
    for (uint64_t i = 0; i < x->count; i++) {
        uint64_t refs = image_refs(x, h, i);
        if (refs < x->uses[i])
            return IMAGE_FAULT(x, "cluster %llu is used %u times, its refcount is %llu",
                               (unsigned long long)i, x->uses[i], (unsigned long long)refs);
        if (x->uses[i] > 1)
            return IMAGE_FAULT(x, "cluster %llu is used %u times", (unsigned long long)i,
                               x->uses[i]);
        if (leaks_too && refs != x->uses[i])
            return IMAGE_FAULT(x, "cluster %llu leaks", (unsigned long long)i);
    }
    return true;
}

/* Does the image hold together?  @leaks_too: complain of clusters that nobody uses, too.  NULL or what is wrong,
 * in static memory. */
static inline const char *image_check(const uint8_t *p, uint64_t length, bool leaks_too)
{
    static struct image x;
    struct qcow2_header h;
    autoerr err = { 0 };

    x = (struct image){ .p = p, .length = length, .count = length / IMAGE_CLUSTER + 1024 };
    if (qcow2_header_decode(p, length < IMAGE_CLUSTER ? length : IMAGE_CLUSTER, &h, &err) < 0) {
        snprintf(x.fault, sizeof(x.fault), "%s", err.msg);
        return x.fault;
    }
    x.uses = calloc(x.count, sizeof(*x.uses));
    bool good =
        image_use(&x, 0, 1, "header") &&
        image_use(&x, h.l1_offset, (h.l1_size * 8 + IMAGE_CLUSTER - 1) / IMAGE_CLUSTER, "L1") &&
        image_use(&x, h.reftable_offset, h.reftable_clusters, "refcount table");
    for (uint64_t i = 0; good && i < (uint64_t)h.reftable_clusters * IMAGE_ENTRIES; i++) {
        uint64_t block = image_word(&x, h.reftable_offset + i * 8);
        good = !block || image_use(&x, block, 1, "refcount block");
    }
    good = good && image_use_mapped(&x, &h) && image_compare(&x, &h, leaks_too);
    free(x.uses);
    qcow2_header_release(&h);
    return good ? NULL : x.fault;
}

#endif
