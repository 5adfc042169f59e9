/* SPDX-License-Identifier: MIT */
/* exports/nbd-request.c: which requests are refused before any node is looked at, and with which error. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "exports/nbd-connection.h"

static struct nbd_connection client(enum nbd_reply_style style)
{
    return (struct nbd_connection){ .style = style, .block_minimum = 1 };
}

static int check(const struct nbd_connection *c, uint16_t type, uint16_t flags, uint64_t offset,
                 uint64_t length)
{
    return nbd_request_check_form(c, type, flags, offset, length);
}

enum { COMMANDS = NBD_CMD_BLOCK_STATUS + 1, FLAGS = 1 << 6 };

/* The flags that the protocol gives each command; FUA goes with all. */
static const uint16_t allowed[COMMANDS] = {
    [NBD_CMD_READ] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_DF,
    [NBD_CMD_WRITE] = NBD_CMD_FLAG_FUA,
    [NBD_CMD_FLUSH] = NBD_CMD_FLAG_FUA,
    [NBD_CMD_TRIM] = NBD_CMD_FLAG_FUA,
    [NBD_CMD_CACHE] = NBD_CMD_FLAG_FUA,
    [NBD_CMD_WRITE_ZEROES] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO,
    [NBD_CMD_BLOCK_STATUS] = NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE,
};

START_TEST(flags_are_those_of_the_command)
{
    struct nbd_connection c = client((enum nbd_reply_style)_i);
    c.contexts_chosen = true;
    for (uint16_t type = 0; type < COMMANDS; type++) {
        if (type == NBD_CMD_DISC)
            continue;
        for (uint16_t flags = 0; flags < FLAGS; flags++) {
            uint16_t may = allowed[type];
            if (c.style == NBD_SIMPLE)
                may &= (uint16_t)~NBD_CMD_FLAG_DF; /* what it asks for is what it gets anyway */
            if (c.style == NBD_EXTENDED)
                may |= NBD_CMD_FLAG_PAYLOAD_LEN;
            uint64_t length = type == NBD_CMD_FLUSH ? 0 : 512;
            ck_assert_msg(check(&c, type, flags, 0, length) == (flags & ~may ? -EINVAL : 0),
                          "command %u, flags %#x", type, flags);
        }
        ck_assert_int_eq(check(&c, type, 1 << 6, 0, 0), -EINVAL);
        ck_assert_int_eq(check(&c, type, 1 << 15, 0, 0), -EINVAL);
    }
}
END_TEST

START_TEST(unknown_commands_are_invalid)
{
    struct nbd_connection c = client(NBD_STRUCTURED);
    ck_assert_int_eq(check(&c, NBD_CMD_DISC, 0, 0, 0), -EINVAL); /* it has no answer at all */
    for (unsigned type = COMMANDS; type <= UINT16_MAX; type++)
        ck_assert_int_eq(check(&c, (uint16_t)type, 0, 0, 0), -EINVAL);
}
END_TEST

START_TEST(nothing_is_written_to_a_read_only_export)
{
    struct nbd_connection c = client(NBD_STRUCTURED);
    c.read_only = c.contexts_chosen = true;
    ck_assert_int_eq(check(&c, NBD_CMD_WRITE, 0, 0, 512), -EPERM);
    ck_assert_int_eq(check(&c, NBD_CMD_WRITE_ZEROES, 0, 0, 512), -EPERM);
    ck_assert_int_eq(check(&c, NBD_CMD_TRIM, 0, 0, 512), -EPERM);
    ck_assert_int_eq(check(&c, NBD_CMD_READ, 0, 0, 512), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_FLUSH, 0, 0, 0), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_CACHE, 0, 0, 512), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_BLOCK_STATUS, 0, 0, 512), 0);
}
END_TEST

START_TEST(lengths_are_bounded_where_bytes_move)
{
    struct nbd_connection c = client(NBD_EXTENDED);
    c.contexts_chosen = true;
    ck_assert_int_eq(check(&c, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_MAX), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_READ, 0, 0, NBD_PAYLOAD_MAX + 1), -EINVAL);
    ck_assert_int_eq(check(&c, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_MAX), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_WRITE, 0, 0, NBD_PAYLOAD_MAX + 1), -EINVAL);
    ck_assert_int_eq(check(&c, NBD_CMD_WRITE_ZEROES, 0, 0, (uint64_t)1 << 40), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_TRIM, 0, 0, (uint64_t)1 << 40), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_CACHE, 0, 0, NBD_PAYLOAD_MAX), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_CACHE, 0, 0, (uint64_t)1 << 40), -EINVAL);
    ck_assert_int_eq(check(&c, NBD_CMD_BLOCK_STATUS, 0, 0, (uint64_t)1 << 40), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_BLOCK_STATUS, 0, 0, 0), -EINVAL);
    ck_assert_int_eq(check(&c, NBD_CMD_READ, 0, 0, 0), 0);
    ck_assert_int_eq(check(&c, NBD_CMD_FLUSH, 0, 0, 512), -EINVAL);
    ck_assert_int_eq(check(&c, NBD_CMD_FLUSH, 0, 512, 0), -EINVAL);
}
END_TEST

START_TEST(requests_keep_to_the_smallest_block)
{
    struct nbd_connection c = client(NBD_STRUCTURED);
    c.block_minimum = 4096;
    c.contexts_chosen = true;
    for (uint16_t type = 0; type < COMMANDS; type++) {
        if (type == NBD_CMD_DISC || type == NBD_CMD_FLUSH)
            continue;
        ck_assert_int_eq(check(&c, type, 0, 8192, 4096), 0);
        ck_assert_int_eq(check(&c, type, 0, 512, 4096), -EINVAL);
        ck_assert_int_eq(check(&c, type, 0, 4096, 512), -EINVAL);
        ck_assert_int_eq(check(&c, type, 0, 4095, 1), -EINVAL);
    }
}
END_TEST

START_TEST(block_status_needs_a_context)
{
    struct nbd_connection c = client(NBD_STRUCTURED);
    ck_assert_int_eq(check(&c, NBD_CMD_BLOCK_STATUS, 0, 0, 512), -EINVAL);
    c.contexts_chosen = true;
    ck_assert_int_eq(check(&c, NBD_CMD_BLOCK_STATUS, 0, 0, 512), 0);
}
END_TEST

START_TEST(commands_are_counted_by_what_they_do)
{
    ck_assert_int_eq(nbd_kind(NBD_CMD_READ), IO_READ);
    ck_assert_int_eq(nbd_kind(NBD_CMD_WRITE), IO_WRITE);
    ck_assert_int_eq(nbd_kind(NBD_CMD_WRITE_ZEROES), IO_WRITE);
    ck_assert_int_eq(nbd_kind(NBD_CMD_TRIM), IO_UNMAP);
    ck_assert_int_eq(nbd_kind(NBD_CMD_FLUSH), IO_FLUSH);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("nbd-request");
    TCase *c = tcase_create("nbd-request");
    suite_add_tcase(s, c);
    tcase_add_loop_test(c, flags_are_those_of_the_command, NBD_SIMPLE, NBD_EXTENDED + 1);
    tcase_add_test(c, unknown_commands_are_invalid);
    tcase_add_test(c, nothing_is_written_to_a_read_only_export);
    tcase_add_test(c, lengths_are_bounded_where_bytes_move);
    tcase_add_test(c, requests_keep_to_the_smallest_block);
    tcase_add_test(c, block_status_needs_a_context);
    tcase_add_test(c, commands_are_counted_by_what_they_do);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
