/* SPDX-License-Identifier: MIT */
/*
 * The header of a qcow2 image: what lies on disk, and the one decoder, which
 * also judges it.  Whatever it lets through is safe to compute with: tables
 * are aligned, lie where an offset can point and are of bounded size.
 */
#ifndef DRIVERS_QCOW2_HEADER_H
#define DRIVERS_QCOW2_HEADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/be.h"
#include "base/err.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI" and 0xfb */

enum {
    QCOW2_CLUSTER_BITS_MIN = 9,
    QCOW2_CLUSTER_BITS_MAX = 21,
    QCOW2_EXTENDED_BITS_MIN = 14, /* cluster bits with extended L2 entries */
    QCOW2_HEADER_V2 = 72,         /* bytes */
    QCOW2_HEADER_V3 = 104,
    QCOW2_NAME_MAX = 1023,          /* of a backing or data file, bytes */
    QCOW2_FORMAT_MAX = 15,          /* of the name of a format, bytes */
    QCOW2_L1_BYTES_MAX = 32 << 20,  /* larger L1 tables are refused, as everywhere */
    QCOW2_REFTABLE_MAX = 8 << 20,   /* the same for the refcount table */
    QCOW2_SNAPSHOTS_MAX = 64 << 10, /* the same for the number of internal snapshots */
};

enum qcow2_incompatible {
    QCOW2_DIRTY = 1 << 0,         /* refcounts may be wrong: lazy refcounts, not closed */
    QCOW2_CORRUPT = 1 << 1,       /* must not be written */
    QCOW2_EXTERNAL_DATA = 1 << 2, /* the data lie in another file */
    QCOW2_COMPRESSION = 1 << 3,   /* compression_type says how, and is not zero */
    QCOW2_EXTENDED_L2 = 1 << 4,   /* L2 entries of 128 bits, with subclusters */
    QCOW2_INCOMPATIBLE_KNOWN = 31,
};
enum qcow2_compatible { QCOW2_LAZY_REFCOUNTS = 1 << 0 };
enum qcow2_autoclear {
    QCOW2_BITMAPS = 1 << 0,  /* the bitmaps extension is up to date */
    QCOW2_RAW_DATA = 1 << 1, /* the data file alone is the whole disk, as a raw image */
};
enum qcow2_crypt { QCOW2_PLAIN, QCOW2_AES, QCOW2_LUKS };
enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };

struct qcow2_disk_header {
    be32 magic, version;
    be64 backing_offset;
    be32 backing_length, cluster_bits;
    be64 size;
    be32 crypt_method, l1_size;
    be64 l1_offset, reftable_offset;
    be32 reftable_clusters, snapshot_count;
    be64 snapshots_offset;
    /* Version 3. */
    be64 incompatible, compatible, autoclear;
    be32 refcount_order, header_length;
    /* Where header_length says so. */
    uint8_t compression_type, padding[7];
};
_Static_assert(sizeof(struct qcow2_disk_header) == 112, "on-disk layout");

struct qcow2_header {
    unsigned version, cluster_bits, refcount_order;
    uint32_t length; /* of the fixed part, bytes */
    uint64_t size;   /* of the disk, bytes */
    enum qcow2_crypt crypt;
    enum qcow2_compression compression;
    uint64_t incompatible, compatible, autoclear;
    uint64_t l1_offset, reftable_offset, snapshots_offset;
    uint32_t l1_size, reftable_clusters, snapshot_count;
    char *backing_file, *backing_format, *data_file; /* owned; NULL: the header names none */
    uint64_t crypt_offset, crypt_length; /* the encryption's own header; 0: the header names none */
    uint32_t bitmap_count;               /* in the bitmaps extension; 0: there is none */
    uint64_t bitmaps_offset, bitmaps_length;
};

static inline uint64_t qcow2_cluster_size(const struct qcow2_header *h)
{
    return 1ULL << h->cluster_bits;
}

/** qcow2_header_area - how many bytes of the file the header may fill: its first cluster, or what there is
 * @first: the first bytes of the file, @length of them, at least QCOW2_HEADER_V2 unless the file is shorter
 * @file_size: bytes
 * Refuses what is no qcow2 image, of another version, or with clusters of an impossible size.
 */
int qcow2_header_area(const void *first, uint64_t length, uint64_t file_size, uint64_t *out,
                      struct err *err);

/** qcow2_header_decode - the whole header with its extensions
 * @area: @length bytes, as qcow2_header_area() said
 * @out: to be released with qcow2_header_release() on success
 */
int qcow2_header_decode(const void *area, uint64_t length, struct qcow2_header *out,
                        struct err *err);

void qcow2_header_release(struct qcow2_header *h);

#endif
