/* SPDX-License-Identifier: MIT */
/* drivers/qcow2/header.c: what a header says, and each way in which it cannot be true. */
#include <check.h>
#include <stddef.h>
#include <string.h>

#include "drivers/qcow2/header.h"

enum { AREA = 65536, FILE_SIZE = 5 * AREA };

static uint8_t area[AREA];

#define DISK ((struct qcow2_disk_header *)area)

/* A version 3 image of 1 MiB, as qemu-img makes it, but without a table of names. */
static void make(void)
{
    memset(area, 0, sizeof(area));
    *DISK = (struct qcow2_disk_header){
        .magic = put_be32(QCOW2_MAGIC),
        .version = put_be32(3),
        .cluster_bits = put_be32(16),
        .size = put_be64(1 << 20),
        .l1_size = put_be32(1),
        .l1_offset = put_be64(3 * AREA),
        .reftable_offset = put_be64(AREA),
        .reftable_clusters = put_be32(1),
        .refcount_order = put_be32(4),
        .header_length = put_be32(112),
    };
}

/* Append a header extension at byte @at; the byte behind it. */
static size_t extend(size_t at, uint32_t type, const void *data, uint32_t length)
{
    be32 head[2] = { put_be32(type), put_be32(length) };

    memcpy(area + at, head, sizeof(head));
    memcpy(area + at + sizeof(head), data, length);
    return at + sizeof(head) + (length + 7) / 8 * 8;
}

static int decode(struct qcow2_header *h, struct err *err)
{
    uint64_t length;

    if (qcow2_header_area(area, sizeof(*DISK), FILE_SIZE, &length, err) < 0)
        return err->code;
    if (length > sizeof(area))
        length = sizeof(area);
    return qcow2_header_decode(area, length, h, err);
}

static void refused(const char *message)
{
    struct qcow2_header h;
    autoerr err = { 0 };

    ck_assert_msg(decode(&h, &err) < 0, "accepted, not refused with: %s", message);
    ck_assert_str_eq(err.msg, message);
}

static void accepted(struct qcow2_header *h)
{
    autoerr err = { 0 };

    ck_assert_msg(decode(h, &err) == 0, "%s", err.msg);
}

START_TEST(a_plain_header_is_understood)
{
    struct qcow2_header h;
    make();
    accepted(&h);
    ck_assert_uint_eq(h.version, 3);
    ck_assert_uint_eq(qcow2_cluster_size(&h), AREA);
    ck_assert_uint_eq(h.size, 1 << 20);
    ck_assert_uint_eq(h.l1_offset, 3 * AREA);
    ck_assert_uint_eq(h.refcount_order, 4);
    ck_assert_ptr_null(h.backing_file);
    qcow2_header_release(&h);

    /* In version 2 there is nothing behind byte 72. */
    memset(area + QCOW2_HEADER_V2, 0, sizeof(area) - QCOW2_HEADER_V2);
    DISK->version = put_be32(2);
    accepted(&h);
    ck_assert_uint_eq(h.incompatible, 0);
    ck_assert_uint_eq(h.refcount_order, 4);
    qcow2_header_release(&h);
}
END_TEST

START_TEST(names_come_from_extensions)
{
    struct qcow2_header h;
    make();
    size_t at = extend(112, 0xe2792aca, "qcow2", 5);
    at = extend(at, 0x12345678, "whatever", 8);
    at = extend(at, 0x44415441, "disk.data", 9);
    extend(at, 0, "", 0);
    memcpy(area + 4096, "base.img", 8);
    DISK->backing_offset = put_be64(4096);
    DISK->backing_length = put_be32(8);
    accepted(&h);
    ck_assert_str_eq(h.backing_file, "base.img");
    ck_assert_str_eq(h.backing_format, "qcow2");
    ck_assert_str_eq(h.data_file, "disk.data");
    qcow2_header_release(&h);
}
END_TEST

/* One number of the header, set to something that is refused: what qemu says to it, too, but for the last. */
START_TEST(numbers_that_cannot_be)
{
    static const struct {
        size_t at;
        unsigned bytes;
        uint64_t value;
        const char *message;
    } cases[] = {
#define FIELD(name) offsetof(struct qcow2_disk_header, name), sizeof(DISK->name)
        { FIELD(magic), 0x51464900, "Image is not in qcow2 format" },
        { FIELD(version), 1, "Unsupported qcow2 version 1" },
        { FIELD(version), 4, "Unsupported qcow2 version 4" },
        { FIELD(cluster_bits), 8, "Unsupported cluster size: 2^8" },
        { FIELD(cluster_bits), 22, "Unsupported cluster size: 2^22" },
        { FIELD(cluster_bits), UINT32_MAX, "Unsupported cluster size: 2^4294967295" },
        { FIELD(header_length), 64, "qcow2 header too short" },
        { FIELD(header_length), AREA + 8, "qcow2 header exceeds cluster size" },
        { FIELD(header_length), UINT32_MAX, "qcow2 header exceeds cluster size" },
        { FIELD(refcount_order), 7,
          "Reference count entry width too large; may not exceed 64 bits" },
        { FIELD(refcount_order), 64,
          "Reference count entry width too large; may not exceed 64 bits" },
        { FIELD(crypt_method), 3, "Unsupported encryption method 3" },
        { FIELD(incompatible), 1ULL << 63,
          "Unsupported qcow2 feature(s): Unknown incompatible feature: 8000000000000000" },
        { FIELD(incompatible), QCOW2_COMPRESSION,
          "qcow2: Compression type incompatible feature bit must not be set" },
        { FIELD(compression_type), 1,
          "qcow2: Compression type incompatible feature bit must be set" },
        { FIELD(compression_type), 2, "qcow2: unknown compression type: 2" },
        { FIELD(reftable_offset), 0, "Reference count table offset invalid" },
        { FIELD(reftable_offset), AREA + 512, "Reference count table offset invalid" },
        { FIELD(reftable_offset), UINT64_MAX - AREA + 1, "Reference count table offset invalid" },
        { FIELD(reftable_clusters), 0, "Image does not contain a reference count table" },
        { FIELD(reftable_clusters), 129, "Reference count table too large" },
        { FIELD(reftable_clusters), UINT32_MAX, "Reference count table too large" },
        { FIELD(snapshot_count), 65537, "Snapshot table too large" },
        { FIELD(snapshot_count), UINT32_MAX, "Snapshot table too large" },
        { FIELD(l1_size), 0, "L1 table is too small" },
        { FIELD(l1_size), (32 << 20) / 8 + 1, "Active L1 table too large" },
        { FIELD(l1_size), UINT32_MAX, "Active L1 table too large" },
        { FIELD(l1_offset), 3 * AREA + 8, "Active L1 table offset invalid" },
        { FIELD(l1_offset), UINT64_MAX - AREA + 1, "Active L1 table offset invalid" },
        { FIELD(size), 1ULL << 62, "Image is too big" },
        { FIELD(size), UINT64_MAX, "Image is too big" },
        { FIELD(size), 1ULL << 40, "L1 table is too small" },
        { FIELD(autoclear), QCOW2_RAW_DATA, "Raw external data requires an external data file" },
        { FIELD(header_length), 108, "qcow2 header length 108 is not a multiple of 8" },
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        make();
        for (unsigned b = 0; b < cases[i].bytes; b++)
            area[cases[i].at + b] = (uint8_t)(cases[i].value >> 8 * (cases[i].bytes - 1 - b));
        refused(cases[i].message);
    }
}
END_TEST

START_TEST(names_that_cannot_be)
{
    make();
    DISK->backing_offset = put_be64(AREA + 1);
    refused("Invalid backing file offset");
    DISK->backing_offset = put_be64(512);
    DISK->backing_length = put_be32(1024);
    refused("Backing file name too long");
    DISK->backing_offset = put_be64(AREA - 4);
    DISK->backing_length = put_be32(8);
    refused("Backing file name too long");
    make();
    extend(112, 0xe2792aca, "a format that is long", 21);
    refused("The name of the backing file's format has 21 bytes, of at most 15");
    make();
    be32 huge[2] = { put_be32(0xe2792aca), put_be32(UINT32_MAX - 3) };
    memcpy(area + 112, huge, sizeof(huge));
    refused("Header extension too large");
    make();
    extend(112, 0x23852875, "short", 5);
    refused("The bitmaps extension has 5 bytes, not 24");
    make();
    extend(112, 0x0537be77, "\0\0\0\0\0\1\0\0\0\0\0\0\0\0\2\0", 16);
    refused("CRYPTO header extension only expected with LUKS encryption method");
}
END_TEST

START_TEST(unknown_features_are_refused_by_name)
{
    static const char name[48] = "\0\11perpetual motion";
    make();
    DISK->incompatible = put_be64(1 << 9 | 1 << 10);
    extend(112, 0x6803f857, name, sizeof(name));
    refused("Unsupported qcow2 feature(s): perpetual motion, Unknown incompatible feature: 400");
}
END_TEST

START_TEST(files_that_end_early)
{
    struct qcow2_header h;
    autoerr err = { 0 };
    uint64_t length;
    make();
    ck_assert_int_lt(qcow2_header_area(area, 71, 71, &length, &err), 0);
    ck_assert_str_eq(err.msg, "Image is not in qcow2 format");
    ck_assert_int_lt(qcow2_header_decode(area, 103, &h, &err), 0);
    ck_assert_str_eq(err.msg, "qcow2 header too short");
    ck_assert_int_lt(qcow2_header_decode(area, 104, &h, &err), 0);
    ck_assert_str_eq(err.msg, "qcow2 header exceeds cluster size");
    DISK->backing_offset = put_be64(2000);
    DISK->backing_length = put_be32(100);
    ck_assert_int_lt(qcow2_header_decode(area, 2099, &h, &err), 0);
    ck_assert_str_eq(err.msg, "The file ends before the name of its backing file");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("qcow2-header");
    TCase *t = tcase_create("qcow2-header");
    tcase_add_test(t, a_plain_header_is_understood);
    tcase_add_test(t, names_come_from_extensions);
    tcase_add_test(t, numbers_that_cannot_be);
    tcase_add_test(t, names_that_cannot_be);
    tcase_add_test(t, unknown_features_are_refused_by_name);
    tcase_add_test(t, files_that_end_early);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
