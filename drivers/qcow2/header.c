/* SPDX-License-Identifier: MIT */
/*
 * Decoding the header of a qcow2 image.  Bytes come from strangers: every
 * number is judged before it is used, and refused in a sentence.
 */
#include "drivers/qcow2/header.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Types of header extensions. */
enum {
    EXTENSION_END = 0,
    EXTENSION_BACKING_FORMAT = 0xe2792aca,
    EXTENSION_FEATURE_NAMES = 0x6803f857,
    EXTENSION_BITMAPS = 0x23852875,
    EXTENSION_CRYPT = 0x0537be77,
    EXTENSION_DATA_FILE = 0x44415441,
};

struct extension {
    be32 type, length;
};

struct disk_bitmaps {
    be32 count, reserved;
    be64 length, offset;
};

struct disk_crypt {
    be64 offset, length;
};

struct feature_name {
    uint8_t kind, bit;
    char name[46]; /* not always ended by a zero */
};
_Static_assert(sizeof(struct feature_name) == 48, "on-disk layout");

/* An offset of a table must be a whole number of clusters, and below where signed offsets end. */
static bool table_fits(const struct qcow2_header *h, uint64_t offset, uint64_t bytes)
{
    return offset % qcow2_cluster_size(h) == 0 && offset <= INT64_MAX &&
           bytes <= INT64_MAX - offset;
}

/* ---- the fixed part ---- */

int qcow2_header_area(const void *first, uint64_t length, uint64_t file_size, uint64_t *out,
                      struct err *err)
{
    const struct qcow2_disk_header *d = first;

    if (length < QCOW2_HEADER_V2 || get_be32(d->magic) != QCOW2_MAGIC)
        return err_set(err, -EINVAL, "Image is not in qcow2 format");
    uint32_t version = get_be32(d->version), bits = get_be32(d->cluster_bits);
    if (version < 2 || version > 3)
        return err_set(err, -ENOTSUP, "Unsupported qcow2 version %" PRIu32, version);
    if (bits < QCOW2_CLUSTER_BITS_MIN || bits > QCOW2_CLUSTER_BITS_MAX)
        return err_set(err, -EINVAL, "Unsupported cluster size: 2^%" PRIu32, bits);
    *out = file_size < 1ULL << bits ? file_size : 1ULL << bits;
    return 0;
}

/* The version, and what decides how the rest is to be read. */
static int decode_version(const struct qcow2_disk_header *d, uint64_t length,
                          struct qcow2_header *h, struct err *err)
{
    h->version = get_be32(d->version);
    h->cluster_bits = get_be32(d->cluster_bits);
    h->length = QCOW2_HEADER_V2;
    h->refcount_order = 4;
    if (h->version == 2)
        return 0;
    if (length < QCOW2_HEADER_V3)
        return err_set(err, -EINVAL, "qcow2 header too short");
    h->incompatible = get_be64(d->incompatible);
    h->compatible = get_be64(d->compatible);
    h->autoclear = get_be64(d->autoclear);
    h->refcount_order = get_be32(d->refcount_order);
    h->length = get_be32(d->header_length);
    if (h->length < QCOW2_HEADER_V3)
        return err_set(err, -EINVAL, "qcow2 header too short");
    if (h->length > qcow2_cluster_size(h) || h->length > length)
        return err_set(err, -EINVAL, "qcow2 header exceeds cluster size");
    if (h->length % 8)
        return err_set(err, -EINVAL, "qcow2 header length %" PRIu32 " is not a multiple of 8",
                       h->length);
    return 0;
}

static void decode_numbers(const struct qcow2_disk_header *d, struct qcow2_header *h)
{
    h->size = get_be64(d->size);
    h->l1_offset = get_be64(d->l1_offset);
    h->l1_size = get_be32(d->l1_size);
    h->reftable_offset = get_be64(d->reftable_offset);
    h->reftable_clusters = get_be32(d->reftable_clusters);
    h->snapshots_offset = get_be64(d->snapshots_offset);
    h->snapshot_count = get_be32(d->snapshot_count);
}

static int decode_compression(const struct qcow2_disk_header *d, struct qcow2_header *h,
                              struct err *err)
{
    bool present = h->length > offsetof(struct qcow2_disk_header, compression_type);
    unsigned type = present ? d->compression_type : 0;

    if (type > QCOW2_ZSTD)
        return err_set(err, -ENOTSUP, "qcow2: unknown compression type: %u", type);
    if (type && !(h->incompatible & QCOW2_COMPRESSION))
        return err_set(err, -EINVAL,
                       "qcow2: Compression type incompatible feature bit must be set");
    if (!type && h->incompatible & QCOW2_COMPRESSION)
        return err_set(err, -EINVAL,
                       "qcow2: Compression type incompatible feature bit must not be set");
    h->compression = (enum qcow2_compression)type;
    return 0;
}

static int decode_crypt(const struct qcow2_disk_header *d, struct qcow2_header *h, struct err *err)
{
    uint32_t method = get_be32(d->crypt_method);

    if (method > QCOW2_LUKS)
        return err_set(err, -EINVAL, "Unsupported encryption method %" PRIu32, method);
    h->crypt = (enum qcow2_crypt)method;
    return 0;
}

/* ---- tables ---- */

/* Entries of the L1 table that a disk of this size needs. */
static uint64_t l1_needed(const struct qcow2_header *h)
{
    unsigned entry_bits = h->incompatible & QCOW2_EXTENDED_L2 ? 4 : 3;
    unsigned shift = 2 * h->cluster_bits - entry_bits;

    return (h->size >> shift) + (h->size & ((1ULL << shift) - 1) ? 1 : 0);
}

static int check_l1(const struct qcow2_header *h, struct err *err)
{
    if (h->size > INT64_MAX || l1_needed(h) > INT32_MAX)
        return err_set(err, -EFBIG, "Image is too big");
    if (h->l1_size > QCOW2_L1_BYTES_MAX / sizeof(be64))
        return err_set(err, -EFBIG, "Active L1 table too large");
    if (!table_fits(h, h->l1_offset, h->l1_size * sizeof(be64)))
        return err_set(err, -EINVAL, "Active L1 table offset invalid");
    if (h->l1_size < l1_needed(h))
        return err_set(err, -EINVAL, "L1 table is too small");
    return 0;
}

static int check_tables(const struct qcow2_header *h, struct err *err)
{
    uint64_t reftable = (uint64_t)h->reftable_clusters << h->cluster_bits;

    if (h->refcount_order > 6)
        return err_set(err, -EINVAL,
                       "Reference count entry width too large; may not exceed 64 bits");
    if (h->incompatible & QCOW2_EXTENDED_L2 && h->cluster_bits < QCOW2_EXTENDED_BITS_MIN)
        return err_set(err, -EINVAL,
                       "Extended L2 entries need clusters of at least 16 KiB, these have %" PRIu64
                       " bytes",
                       qcow2_cluster_size(h));
    if (!h->reftable_clusters)
        return err_set(err, -EINVAL, "Image does not contain a reference count table");
    if (reftable > QCOW2_REFTABLE_MAX)
        return err_set(err, -EFBIG, "Reference count table too large");
    if (!table_fits(h, h->reftable_offset, reftable) || !h->reftable_offset)
        return err_set(err, -EINVAL, "Reference count table offset invalid");
    if (h->snapshot_count > QCOW2_SNAPSHOTS_MAX)
        return err_set(err, -EFBIG, "Snapshot table too large");
    if (h->snapshot_count && !table_fits(h, h->snapshots_offset, 0))
        return err_set(err, -EINVAL, "Snapshot table offset invalid");
    return check_l1(h, err);
}

/* ---- features ---- */

/* The name of incompatible bit @bit in the table of names that the image may carry; NULL: none. */
static const struct feature_name *find_name(const struct feature_name *names, unsigned count,
                                            unsigned bit)
{
    for (unsigned i = 0; i < count; i++)
        if (names[i].kind == 0 && names[i].bit == bit && *names[i].name)
            return &names[i];
    return NULL;
}

static int refuse_features(uint64_t unknown, const struct feature_name *names, unsigned count,
                           struct err *err)
{
    char text[1024] = "";
    size_t used = 0;

    for (unsigned bit = 0; bit < 64; bit++) {
        const struct feature_name *name = find_name(names, count, bit);
        if (!(unknown & 1ULL << bit) || !name || used >= sizeof(text))
            continue;
        unknown &= ~(1ULL << bit);
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%.*s", used ? ", " : "",
                                 (int)sizeof(name->name), name->name);
    }
    if (unknown && used < sizeof(text))
        snprintf(text + used, sizeof(text) - used, "%sUnknown incompatible feature: %" PRIx64,
                 used ? ", " : "", unknown);
    return err_set(err, -ENOTSUP, "Unsupported qcow2 feature(s): %s", text);
}

static int check_features(const struct qcow2_header *h, const struct feature_name *names,
                          unsigned count, struct err *err)
{
    uint64_t unknown = h->incompatible & ~(uint64_t)QCOW2_INCOMPATIBLE_KNOWN;

    if (unknown)
        return refuse_features(unknown, names, count, err);
    if (h->autoclear & QCOW2_RAW_DATA && !(h->incompatible & QCOW2_EXTERNAL_DATA))
        return err_set(err, -EINVAL, "Raw external data requires an external data file");
    if (h->autoclear & QCOW2_RAW_DATA && h->backing_file)
        return err_set(err, -EINVAL, "Backing file and raw external data exclude each other");
    if ((h->crypt == QCOW2_LUKS) != (h->crypt_length != 0))
        return err_set(err, -EINVAL,
                       h->crypt_length
                           ? "CRYPTO header extension only expected with LUKS encryption method"
                           : "LUKS encryption needs a header extension that is not there");
    return 0;
}

/* ---- extensions ---- */

static int take_string(const char *what, const void *p, uint32_t length, uint32_t max, char **out,
                       struct err *err)
{
    if (length > max)
        return err_set(err, -EINVAL,
                       "The name of the %s has %" PRIu32 " bytes, of at most %" PRIu32, what,
                       length, max);
    free(*out);
    *out = strndup(p, length);
    return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

static int take_bitmaps(const struct disk_bitmaps *d, uint32_t length, struct qcow2_header *h,
                        struct err *err)
{
    if (length != sizeof(*d))
        return err_set(err, -EINVAL, "The bitmaps extension has %" PRIu32 " bytes, not %zu", length,
                       sizeof(*d));
    h->bitmap_count = get_be32(d->count);
    h->bitmaps_length = get_be64(d->length);
    h->bitmaps_offset = get_be64(d->offset);
    return 0;
}

static int take_crypt(const struct disk_crypt *d, uint32_t length, struct qcow2_header *h,
                      struct err *err)
{
    if (length != sizeof(*d))
        return err_set(err, -EINVAL,
                       "CRYPTO header extension size %" PRIu32 ", but expected size %zu", length,
                       sizeof(*d));
    h->crypt_offset = get_be64(d->offset);
    h->crypt_length = get_be64(d->length);
    if (!h->crypt_length || !table_fits(h, h->crypt_offset, h->crypt_length))
        return err_set(err, -EINVAL,
                       "Encryption header offset %" PRIu64 " is not a multiple of the cluster size "
                       "%" PRIu64,
                       h->crypt_offset, qcow2_cluster_size(h));
    return 0;
}

struct names {
    const struct feature_name *names;
    unsigned count;
};

static int take_extension(uint32_t type, const uint8_t *p, uint32_t length, struct names *names,
                          struct qcow2_header *h, struct err *err)
{
    switch (type) {
    case EXTENSION_BACKING_FORMAT:
        return take_string("backing file's format", p, length, QCOW2_FORMAT_MAX, &h->backing_format,
                           err);
    case EXTENSION_DATA_FILE:
        return take_string("data file", p, length, QCOW2_NAME_MAX, &h->data_file, err);
    case EXTENSION_FEATURE_NAMES:
        *names = (struct names){ (const struct feature_name *)p,
                                 length / (unsigned)sizeof(struct feature_name) };
        return 0;
    case EXTENSION_BITMAPS: return take_bitmaps((const struct disk_bitmaps *)p, length, h, err);
    case EXTENSION_CRYPT: return take_crypt((const struct disk_crypt *)p, length, h, err);
    default: return 0; /* unknown ones may be ignored */
    }
}

/* Extensions end with one of type 0, or where no further one fits in: at @end. */
static int decode_extensions(const uint8_t *area, uint64_t end, struct names *names,
                             struct qcow2_header *h, struct err *err)
{
    uint64_t at = h->length;

    while (end - at >= sizeof(struct extension)) {
        const struct extension *x = (const struct extension *)(area + at);
        uint32_t type = get_be32(x->type), length = get_be32(x->length);

        if (type == EXTENSION_END)
            return 0;
        at += sizeof(*x);
        if (length > end - at)
            return err_set(err, -EINVAL, "Header extension too large");
        if (take_extension(type, area + at, length, names, h, err) < 0)
            return err->code;
        uint64_t padded = (length + 7ULL) & ~7ULL;
        at = padded < end - at ? at + padded : end;
    }
    return 0;
}

/* @end: where the extensions end at the latest. */
static int decode_backing(const struct qcow2_disk_header *d, const uint8_t *area, uint64_t length,
                          uint64_t *end, struct qcow2_header *h, struct err *err)
{
    uint64_t offset = get_be64(d->backing_offset);
    uint32_t bytes = get_be32(d->backing_length);

    *end = length;
    if (!offset)
        return 0;
    if (offset > qcow2_cluster_size(h))
        return err_set(err, -EINVAL, "Invalid backing file offset");
    if (bytes > QCOW2_NAME_MAX || bytes > qcow2_cluster_size(h) - offset)
        return err_set(err, -EINVAL, "Backing file name too long");
    if (offset > length || bytes > length - offset)
        return err_set(err, -EINVAL, "The file ends before the name of its backing file");
    if (offset >= h->length)
        *end = offset;
    if (!bytes)
        return 0;
    return take_string("backing file", area + offset, bytes, QCOW2_NAME_MAX, &h->backing_file, err);
}

static int decode(const void *area, uint64_t length, struct qcow2_header *h, struct err *err)
{
    const struct qcow2_disk_header *d = area;
    struct names names = { 0 };
    uint64_t end;

    if (decode_version(d, length, h, err) < 0)
        return err->code;
    decode_numbers(d, h);
    if (decode_backing(d, area, length, &end, h, err) < 0 ||
        decode_extensions(area, end, &names, h, err) < 0)
        return err->code;
    /* Unknown features first: with them nothing else may mean what it seems to. */
    if (h->incompatible & ~(uint64_t)QCOW2_INCOMPATIBLE_KNOWN)
        return check_features(h, names.names, names.count, err);
    if (decode_compression(d, h, err) < 0 || decode_crypt(d, h, err) < 0 ||
        check_tables(h, err) < 0)
        return err->code;
    return check_features(h, names.names, names.count, err);
}

int qcow2_header_decode(const void *area, uint64_t length, struct qcow2_header *out,
                        struct err *err)
{
    struct qcow2_header h = { 0 };

    if (length < QCOW2_HEADER_V2)
        return err_set(err, -EINVAL, "Image is not in qcow2 format");
    if (decode(area, length, &h, err) < 0) {
        qcow2_header_release(&h);
        return err->code;
    }
    *out = h;
    return 0;
}

void qcow2_header_release(struct qcow2_header *h)
{
    free(h->backing_file);
    free(h->backing_format);
    free(h->data_file);
    *h = (struct qcow2_header){ 0 };
}
