/* SPDX-License-Identifier: MIT */
/* block/probe.c: what bytes look like, and which writes would make them look otherwise. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "block/node.h"
#include "block/probe.h"

static const struct {
    const char *format;
    unsigned offset, len;
    const char *bytes;
} samples[] = {
    { "qcow2", 0, 8, "QFI\xfb\0\0\0\2" },
    { "qcow2", 0, 8, "QFI\xfb\0\0\0\3" },
    { "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
    { "qed", 0, 4, "QED\0" },
    { "luks", 0, 8, "LUKS\xba\xbe\0\1" },
    { "vdi", 64, 4, "\x7f\x10\xda\xbe" },
    { "vmdk", 0, 4, "KDMV" },
    { "vmdk", 0, 4, "COWD" },
    { "vmdk", 0, 32, "# Disk DescriptorFile\nversion=1\n" },
    { "vmdk", 0, 23, "# a\n \r\n\n#b\nversion=3\r\nx" },
    { "vpc", 0, 8, "conectix" },
    { "vhdx", 0, 8, "vhdxfile" },
    { "parallels", 0, 16, "WithoutFreeSpace" },
    { "parallels", 0, 16, "WithouFreSpacExt" },
    { "bochs", 0, 22, "Bochs Virtual HD Image" },
    { "cloop", 0, 39, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop " },
    { "dmg", 0, 4, "koly" },
    { "raw", 0, 8, "QFI\xfb\0\0\0\4" },
    { "raw", 0, 8, "LUKS\xba\xbe\0\2" }, /* no format of ours, and guests may well make one */
    { "raw", 0, 22, "# Disk DescriptorFile\n" },
    { "raw", 0, 1, "" },
};
enum { SAMPLES = sizeof(samples) / sizeof(*samples) };

static void fill(uint8_t *image, unsigned i)
{
    memset(image, 0, NODE_GUARD_BYTES);
    memcpy(image + samples[i].offset, samples[i].bytes, samples[i].len);
}

START_TEST(formats_are_known_by_their_signatures)
{
    uint8_t image[NODE_GUARD_BYTES];
    fill(image, (unsigned)_i);
    ck_assert_str_eq(probe_format(image, sizeof image), samples[_i].format);
}
END_TEST

START_TEST(half_a_signature_is_none)
{
    unsigned end = samples[_i].offset + samples[_i].len;
    uint8_t *image = malloc(NODE_GUARD_BYTES), *exact;
    fill(image, (unsigned)_i);
    /* In memory of just that size, so that reading past the end is seen. */
    for (unsigned len = 0; len < end; len++) {
        exact = malloc(len ? len : 1);
        memcpy(exact, image, len);
        const char *format = probe_format(exact, len);
        ck_assert(!strcmp(format, "raw") || !strcmp(format, samples[_i].format));
        free(exact);
    }
    ck_assert_str_eq(probe_format(image, samples[_i].offset), "raw");
    free(image);
}
END_TEST

static bool allowed(const uint8_t *present, uint64_t offset, const void *p, size_t len)
{
    struct span v = { .p = (uint8_t *)p, .len = len };
    return probe_write_allowed(present, offset, &v, 1);
}

START_TEST(a_write_of_a_signature_is_not_allowed)
{
    uint8_t image[NODE_GUARD_BYTES] = { 0 };
    bool raw = !strcmp(samples[_i].format, "raw");
    ck_assert_int_eq(allowed(image, samples[_i].offset, samples[_i].bytes, samples[_i].len), raw);
    /* Elsewhere it is nothing special. */
    ck_assert(allowed(image, NODE_GUARD_BYTES, samples[_i].bytes, samples[_i].len));
    ck_assert(allowed(image, 512, samples[_i].bytes, samples[_i].len));
}
END_TEST

START_TEST(a_signature_in_pieces_is_seen_when_it_is_whole)
{
    uint8_t image[NODE_GUARD_BYTES] = { 0 };
    ck_assert(allowed(image, 4, "\0\0\0\2", 4));
    memcpy(image + 4, "\0\0\0\2", 4);
    ck_assert(allowed(image, 0, "QFI", 3));
    memcpy(image, "QFI", 3);
    ck_assert(!allowed(image, 3, "\xfb", 1));
    /* In several spans, the last of which reaches past the first 2 KiB. */
    uint8_t rest[4096] = { 0 };
    struct span v[] = { { .p = (uint8_t *)"Q", .len = 1 },
                        { .p = rest, .len = 0 },
                        { .p = (uint8_t *)"FI\xfb\0\0\0\3", .len = 7 },
                        { .p = rest, .len = sizeof rest } };
    memset(image, 0, sizeof image);
    ck_assert(!probe_write_allowed(image, 0, v, 4));
    ck_assert(probe_write_allowed(image, 1, v, 4));
}
END_TEST

START_TEST(zeroes_may_complete_a_signature)
{
    uint8_t image[NODE_GUARD_BYTES] = { 'Q', 'E', 'D', 1 };
    uint8_t zero[1] = { 0 };
    ck_assert(!allowed(image, 3, zero, 1));
    ck_assert(allowed(image, 2, zero, 1));
}
END_TEST

START_TEST(what_cannot_be_seen_is_not_allowed)
{
    uint8_t image[NODE_GUARD_BYTES] = { 0 };
    struct span opaque = { .p = NULL, .len = 4096, .buffer = 1 };
    ck_assert(!probe_write_allowed(image, 0, &opaque, 1));
    ck_assert(!probe_write_allowed(image, NODE_GUARD_BYTES - 1, &opaque, 1));
    ck_assert(probe_write_allowed(image, NODE_GUARD_BYTES, &opaque, 1));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("probe");
    TCase *c = tcase_create("probe");
    suite_add_tcase(s, c);
    tcase_add_loop_test(c, formats_are_known_by_their_signatures, 0, SAMPLES);
    tcase_add_loop_test(c, half_a_signature_is_none, 0, SAMPLES);
    tcase_add_loop_test(c, a_write_of_a_signature_is_not_allowed, 0, SAMPLES);
    tcase_add_test(c, a_signature_in_pieces_is_seen_when_it_is_whole);
    tcase_add_test(c, zeroes_may_complete_a_signature);
    tcase_add_test(c, what_cannot_be_seen_is_not_allowed);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
