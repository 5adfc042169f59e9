/* SPDX-License-Identifier: MIT */
/*
 * The guard of block/arrive.c: no request, and no row of requests, on any road
 * and from any ring makes of an image that was guessed raw one that looks like
 * another format.
 */
#include "block/edit.h"
#include "block/probe.h"
#include "tests/unit/io-fixture.h"

enum { SIZE = 16 << 10 };

static const struct {
    const char *format;
    unsigned offset, len;
    const char *bytes;
} signatures[] = {
    { "qcow2", 0, 8, "QFI\xfb\0\0\0\2" },
    { "qcow2", 0, 8, "QFI\xfb\0\0\0\3" },
    { "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
    { "qed", 0, 4, "QED\0" },
    { "luks", 0, 8, "LUKS\xba\xbe\0\1" },
    { "vdi", 64, 4, "\x7f\x10\xda\xbe" },
    { "vmdk", 0, 4, "KDMV" },
    { "vmdk", 0, 4, "COWD" },
    { "vmdk", 0, 32, "# Disk DescriptorFile\nversion=1\n" },
    { "vpc", 0, 8, "conectix" },
    { "vhdx", 0, 8, "vhdxfile" },
    { "parallels", 0, 16, "WithoutFreeSpace" },
    { "parallels", 0, 16, "WithouFreSpacExt" },
    { "bochs", 0, 22, "Bochs Virtual HD Image" },
    { "cloop", 0, 39, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop " },
    { "dmg", 0, 4, "koly" },
};
enum { SIGNATURES = sizeof(signatures) / sizeof(*signatures) };

static struct disk *disk;
static struct root *x;

/* A guessed raw node over a disk in memory. */
static void co_fn begin(const char *driver, uint32_t alignment)
{
    char text[64];
    autoerr err = { 0 };
    drivers_register(io_drivers);
    disk = disk_new(SIZE);
    snprintf(text, sizeof text, "driver=%s,node-name=m,discard=unmap", driver);
    mem_node(text, disk, SIZE, (struct limits){ .alignment = alignment });
    struct node *r = add("driver=raw,node-name=r,file=m,discard=unmap");
    x = root_on("x", ROOT_EXPORT, r, RW, PERM_ALL);
    struct edit *edit = edit_begin("test");
    must(edit_drain(edit, r, &err), &err);
    r->guarded_raw = true;
    watch_refresh(r);
    must(edit_commit(edit, &err), &err);
}

static void co_fn end(void)
{
    root_drop(x);
    del("r");
    del("m");
    disk_free(disk);
    ck_assert_ptr_null(atomic_load(&complaint));
}

static bool looks_raw(const uint8_t *image)
{
    return !strcmp(probe_format(image, NODE_GUARD_BYTES), "raw");
}

/* In one write: alone, at the front of a long one, and as the end of one that begins before it. */
CO_TEST(no_signature_is_written_in_one_go)
{
    uint8_t image[SIZE];
    begin("mem", 1);
    for (unsigned i = 0; i < SIGNATURES; i++) {
        unsigned offset = signatures[i].offset, len = signatures[i].len;
        ck_assert_int_eq(do_write(x, offset, signatures[i].bytes, len, 0), -EPERM);
        ck_assert_int_eq(do_write(x, offset, signatures[i].bytes, len, IO_FUA), -EPERM);
        memset(image, 'x', sizeof image);
        memcpy(image + offset, signatures[i].bytes, len);
        ck_assert_int_eq(do_write(x, 0, image, sizeof image, 0), -EPERM);
        ck_assert_int_eq(do_write(x, 0, image, offset + len, 0), -EPERM);
        ck_assert(bytes_are_zero(disk->now, SIZE));
        /* Elsewhere these bytes are like any others. */
        ck_assert_int_eq(do_write(x, 4096 + offset, signatures[i].bytes, len, 0), 0);
        ck_assert_int_eq(do_write(x, NODE_GUARD_BYTES, signatures[i].bytes, len, 0), 0);
        ck_assert_int_eq(do_write(x, 700, signatures[i].bytes, len, 0), 0);
        ck_assert_int_eq(do_zero(x, 0, SIZE, 0), 0);
    }
    end();
}

/* Byte by byte in any order: all are written but the one that would make it whole. */
CO_TEST(no_signature_is_written_byte_by_byte)
{
    uint64_t seed = test_seed();
    begin("mem", 1);
    for (unsigned i = 0; i < 20 * SIGNATURES; i++) {
        const char *bytes = signatures[i % SIGNATURES].bytes;
        unsigned offset = signatures[i % SIGNATURES].offset, len = signatures[i % SIGNATURES].len;
        unsigned order[64], refused = 0;
        ck_assert_int_eq(do_fill(x, offset, 'x', len, 0), 0);
        for (unsigned j = 0; j < len; j++) { /* a random order */
            unsigned k = (unsigned)below(&seed, j + 1);
            order[j] = order[k];
            order[k] = j;
        }
        for (unsigned j = 0; j < len; j++) {
            int result = do_write(x, offset + order[j], bytes + order[j], 1, 0);
            ck_assert(result == 0 || result == -EPERM);
            refused += result == -EPERM;
        }
        ck_assert_msg(refused >= 1, "%s", signatures[i % SIGNATURES].format);
        ck_assert(looks_raw(disk->now));
        ck_assert_int_eq(do_zero(x, 0, SIZE, 0), 0);
    }
    end();
}

CO_TEST(zeroes_and_discards_do_not_complete_one)
{
    begin("mem", 1);
    ck_assert_int_eq(do_write(x, 0, "QEDDDD", 6, 0), 0);
    ck_assert_int_eq(do_zero(x, 3, 1, 0), -EPERM);
    ck_assert_int_eq(do_zero(x, 3, SIZE - 3, IO_MAY_UNMAP), -EPERM);
    ck_assert_int_eq(do_discard(x, 3, 1), -EPERM);
    ck_assert_int_eq(do_discard(x, 3, 4000), -EPERM);
    ck_assert_mem_eq(disk->now, "QEDDDD", 6);
    ck_assert_int_eq(do_zero(x, 2, 1, 0), 0);
    ck_assert_int_eq(do_zero(x, 3, 1, 0), 0);
    ck_assert_int_eq(do_discard(x, 0, SIZE), 0);
    end();
}

CO_TEST(a_signature_in_several_spans_is_seen)
{
    uint8_t rest[4096] = { 0 };
    struct span v[] = { { .p = (uint8_t *)"LU", .len = 2 },
                        { .p = (uint8_t *)"KS\xba\xbe\0\1", .len = 6 },
                        { .p = rest, .len = sizeof rest } };
    begin("memv", 1);
    ck_assert_int_eq(AS_OPERATION(x, io_write(&o, e, 0, v, 3, 0)), -EPERM);
    ck_assert_int_eq(AS_OPERATION(x, io_write(&o, e, 1, v, 3, 0)), 0);
    end();
}

/* Whatever is written, zeroed or discarded: refused exactly when the result would look like a format. */
CO_TEST(random_requests_are_refused_exactly_when_they_must_be)
{
    uint64_t seed = test_seed();
    unsigned refused = 0;
    uint8_t image[SIZE], model[SIZE] = { 0 };
    begin("mem", 1);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned s = (unsigned)below(&seed, SIGNATURES), kind = (unsigned)below(&seed, 8);
        uint64_t at = below(&seed, 72), len = 1 + below(&seed, 24);
        if (below(&seed, 20) == 0)
            len += NODE_GUARD_BYTES;
        memcpy(image, model, sizeof image);
        if (kind < 2) {
            memset(image + at, 0, len);
        } else {
            memset(image + at, below(&seed, 2) ? 'x' : 0, len);
            for (uint64_t j = at; j < at + len; j++) {
                unsigned in = (unsigned)(j - signatures[s].offset);
                if (j >= signatures[s].offset && in < signatures[s].len)
                    image[j] = (uint8_t)signatures[s].bytes[in];
            }
        }
        int expected = looks_raw(image) ? 0 : -EPERM;
        int result = kind == 0   ? do_zero(x, at, len, 0)
                     : kind == 1 ? do_discard(x, at, len)
                                 : do_write(x, at, image + at, len, 0);
        ck_assert_int_eq(result, expected);
        refused += expected != 0;
        if (!expected)
            memcpy(model, image, sizeof image);
        ck_assert_mem_eq(disk->now, model, SIZE);
    }
    ck_assert_uint_gt(refused, 200);
    end();
}

CO_TEST(the_short_cut_is_no_way_round)
{
    struct operation o;
    struct shortcut s;
    begin("memv", 512);
    ck_assert(operation_begin(&o, x));
    ck_assert(!shortcut_find(x, true, 0, 512, 0, &s));
    ck_assert(!shortcut_find(x, true, NODE_GUARD_BYTES - 512, 512, 0, &s));
    ck_assert(!shortcut_find(x, true, NODE_GUARD_BYTES - 512, 4096, 0, &s));
    ck_assert(shortcut_find(x, true, NODE_GUARD_BYTES, 512, 0, &s));
    ck_assert(shortcut_find(x, false, 0, 512, 0, &s));
    operation_end(&o);
    end();
}

/* Read-modify-write puts a block together out of what is there and what comes. */
CO_TEST(parts_of_a_block_are_looked_at_as_what_they_become)
{
    autoerr err = { 0 };
    begin("mem", 512);
    struct node *r = root_node(x);
    must(track_require(r, &err), &err);
    ck_assert_int_eq(do_write(x, 4, "\0\0\0\3", 4, 0), 0);
    ck_assert_int_eq(do_write(x, 0, "QFI", 3, 0), 0);
    ck_assert_int_eq(do_write(x, 3, "\xfb", 1, 0), -EPERM);
    ck_assert_int_eq(do_write(x, 3, "x", 1, 0), 0);
    ck_assert_mem_eq(disk->now, "QFIx\0\0\0\3", 8);
    track_release(r);
    end();
}

/* An image that is shorter than what is looked at. */
CO_TEST(a_short_image_is_guarded_to_its_end)
{
    autoerr err = { 0 };
    drivers_register(io_drivers);
    disk = disk_new(4096);
    mem_node("driver=mem,node-name=m", disk, 100, (struct limits){ .alignment = 1 });
    struct node *r = add("driver=raw,node-name=r,file=m");
    x = root_on("x", ROOT_EXPORT, r, RW, PERM_ALL);
    struct edit *edit = edit_begin("test");
    must(edit_drain(edit, r, &err), &err);
    r->guarded_raw = true;
    must(edit_commit(edit, &err), &err);
    ck_assert_int_eq(do_write(x, 64, "\x7f\x10\xda\xbe", 4, 0), -EPERM);
    ck_assert_int_eq(do_write(x, 65, "\x10\xda\xbe", 3, 0), 0);
    ck_assert_int_eq(do_write(x, 64, "\x7f", 1, 0), -EPERM);
    end();
}

/* ---- two at once ---- */

static void co_fn part(struct client *c)
{
    int result =
        c->index ? do_write(c->root, 4, "\0\0\0\3", 4, 0) : do_write(c->root, 0, "QFI\xfb", 4, 0);
    EXPECT(result == 0 || result == -EPERM);
    *(int *)c->more = result;
}

RING_TEST(two_that_write_a_half_each_do_not_both_succeed)
{
    uint64_t seed = test_seed();
    begin("mem", 1);
    disk->yields = true;
    for (unsigned round = 0; round < 500; round++) {
        struct client clients[2];
        int results[2];
        ck_assert_int_eq(do_fill(x, 0, 'x', 8, 0), 0);
        for (unsigned i = 0; i < 2; i++)
            clients[i] = (struct client){ .ring = 1 + (i ^ (round & 1)),
                                          .index = i,
                                          .root = x,
                                          .fn = part,
                                          .more = &results[i],
                                          .chance = draw(&seed) };
        run_clients(clients, 2);
        ck_assert_int_eq(results[0] + results[1], -EPERM);
        ck_assert(looks_raw(disk->now));
    }
    end();
}

int main(void)
{
    const TTest *const tests[] = { no_signature_is_written_in_one_go,
                                   no_signature_is_written_byte_by_byte,
                                   zeroes_and_discards_do_not_complete_one,
                                   a_signature_in_several_spans_is_seen,
                                   random_requests_are_refused_exactly_when_they_must_be,
                                   the_short_cut_is_no_way_round,
                                   parts_of_a_block_are_looked_at_as_what_they_become,
                                   a_short_image_is_guarded_to_its_end,
                                   two_that_write_a_half_each_do_not_both_succeed,
                                   NULL };
    return run_tests("guard", tests);
}
