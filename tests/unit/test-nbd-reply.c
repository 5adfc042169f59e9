/* SPDX-License-Identifier: MIT */
/* exports/nbd-reply.c: the bytes of each reply in each style, and that they leave in order and are paid for. */
#include <sys/socket.h>
#include <unistd.h>

#include "exports/nbd-connection.h"
#include "tests/unit/graph-fixture.h"

static struct nbd_connection c;
static int peer;

static void begin(enum nbd_reply_style style)
{
    int fds[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    memset(&c, 0, sizeof c);
    c.fd = fds[0];
    peer = fds[1];
    c.style = style;
    list_init(&c.out);
}

static void end(void)
{
    ck_assert(!c.dead && list_empty(&c.out));
    nbd_out_free(&c);
    ck_assert_uint_eq(c.memory.held, 0);
    close(c.fd);
    close(peer);
}

/* What the client gets must be exactly these bytes. */
static void expect(const void *bytes, size_t len)
{
    uint8_t got[1024];
    ck_assert_uint_lt(len, sizeof got);
    nbd_send(&c);
    ck_assert_int_eq(recv(peer, got, sizeof got, MSG_DONTWAIT), (ssize_t)len);
    ck_assert_mem_eq(got, bytes, len);
}
#define EXPECT_BYTES(text) expect(text, sizeof(text) - 1)

#define COOKIE     0x0102030405060708
#define SIMPLE     "\x67\x44\x66\x98"
#define STRUCTURED "\x66\x8e\x33\xef"
#define EXTENDED   "\x6e\x8a\x27\x8c"
#define SAME       "\1\2\3\4\5\6\7\x8" /* the cookie */
#define OFFSET     "\0\0\0\0\0\0\x10\0"

CO_TEST(done)
{
    begin(NBD_SIMPLE);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, 0));
    EXPECT_BYTES(SIMPLE "\0\0\0\0" SAME);
    end();
    begin(NBD_STRUCTURED);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, 0));
    EXPECT_BYTES(STRUCTURED "\0\1\0\0" SAME "\0\0\0\0");
    end();
    begin(NBD_EXTENDED);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, 0));
    EXPECT_BYTES(EXTENDED "\0\1\0\0" SAME OFFSET "\0\0\0\0\0\0\0\0");
    end();
}

CO_TEST(errors)
{
    begin(NBD_SIMPLE);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, -ENOSPC));
    EXPECT_BYTES(SIMPLE "\0\0\0\x1c" SAME);
    end();
    begin(NBD_STRUCTURED);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, -ENOSPC));
    EXPECT_BYTES(STRUCTURED "\0\1\x80\1" SAME "\0\0\0\6\0\0\0\x1c\0\0");
    end();
    begin(NBD_EXTENDED);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, -ENOSPC));
    EXPECT_BYTES(EXTENDED "\0\1\x80\1" SAME OFFSET "\0\0\0\0\0\0\0\6\0\0\0\x1c\0\0");
    end();
}

/* Only numbers that the protocol knows leave, whatever the file system said. */
CO_TEST(error_numbers_are_the_protocols)
{
    static const struct {
        int result;
        uint32_t number;
    } known[] = { { 0, 0 },        { -EPERM, 1 },      { -EACCES, 1 },   { -EROFS, 1 },
                  { -EIO, 5 },     { -ENXIO, 5 },      { -ENODEV, 5 },   { -ETIMEDOUT, 5 },
                  { -ENOMEM, 12 }, { -EINVAL, 22 },    { -ENOSPC, 28 },  { -EDQUOT, 28 },
                  { -EFBIG, 28 },  { -EOVERFLOW, 75 }, { -ENOTSUP, 95 }, { -ESHUTDOWN, 108 } };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        ck_assert_uint_eq(nbd_error_number(known[i].result), known[i].number);
    for (int e = 1; e < 4096; e++) {
        uint32_t n = nbd_error_number(-e);
        ck_assert(n == 1 || n == 5 || n == 12 || n == 22 || n == 28 || n == 75 || n == 95 ||
                  n == 108);
    }
}

static void reserve(const char *bytes)
{
    uint32_t len = (uint32_t)strlen(bytes);
    uint8_t *p = nbd_reply_reserve(&c, COOKIE, 4096, len);
    ck_assert_ptr_nonnull(p);
    memcpy(p, bytes, len);
    nbd_reply_commit(&c, len);
}

CO_TEST(data)
{
    begin(NBD_SIMPLE);
    reserve("abc");
    EXPECT_BYTES(SIMPLE "\0\0\0\0" SAME "abc");
    end();
    begin(NBD_STRUCTURED);
    reserve("abc");
    EXPECT_BYTES(STRUCTURED "\0\1\0\1" SAME "\0\0\0\x0b" OFFSET "abc");
    end();
    begin(NBD_EXTENDED);
    reserve("abc");
    EXPECT_BYTES(EXTENDED "\0\1\0\1" SAME OFFSET "\0\0\0\0\0\0\0\x0b" OFFSET "abc");
    end();
}

CO_TEST(an_abandoned_reservation_sends_nothing)
{
    begin(NBD_STRUCTURED);
    ck_assert_ptr_nonnull(nbd_reply_reserve(&c, COOKIE, 0, 65536));
    nbd_send(&c);
    ck_assert(nbd_reply_status(&c, COOKIE, 4096, 0));
    EXPECT_BYTES(STRUCTURED "\0\1\0\0" SAME "\0\0\0\0");
    ck_assert_ptr_nonnull(nbd_reply_reserve(&c, COOKIE, 0, 65536));
    reserve("x");
    EXPECT_BYTES(STRUCTURED "\0\1\0\1" SAME "\0\0\0\x09" OFFSET "x");
    ck_assert_ptr_nonnull(nbd_reply_reserve(&c, COOKIE, 0, NBD_INLINE_MAX));
    ck_assert_ptr_null(nbd_reply_reserve(&c, COOKIE, 0, NBD_CHUNK_BYTES)); /* never asked for */
    nbd_send(&c);
    end();
}

CO_TEST(block_status)
{
    static const struct nbd_extent extents[] = { { 0x1000, 3 }, { 0x123400, 0 } };
    struct nbd_request r = { .cookie = COOKIE, .offset = 4096 };
    begin(NBD_STRUCTURED);
    ck_assert(nbd_reply_context(&c, &r, 1, extents, 2, false));
    ck_assert(nbd_reply_context(&c, &r, 2, extents, 1, true));
    EXPECT_BYTES(STRUCTURED "\0\0\0\5" SAME "\0\0\0\x14\0\0\0\1"
                            "\0\0\x10\0\0\0\0\3\0\x12\x34\0\0\0\0\0" STRUCTURED "\0\1\0\5" SAME
                            "\0\0\0\x0c\0\0\0\2\0\0\x10\0\0\0\0\3");
    end();
    begin(NBD_EXTENDED);
    ck_assert(nbd_reply_context(&c, &r, 1, extents, 2, true));
    EXPECT_BYTES(EXTENDED "\0\1\0\6" SAME OFFSET "\0\0\0\0\0\0\0\x28\0\0\0\1\0\0\0\2"
                          "\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\3"
                          "\0\0\0\0\0\x12\x34\0\0\0\0\0\0\0\0\0");
    end();
}

/* ---- long ones ---- */

enum { LONG = 3 << 20 };

/* Whatever the socket takes at once, the bytes come in order and the memory is paid back. */
START_TEST(long_replies_leave_in_order)
{
    virtual_rings_init(1);
    begin(NBD_SIMPLE);
    c.pumping = true; /* nothing is to be received */
    struct nbd_request r = {
        .connection = &c, .cookie = COOKIE, .length = LONG, .part_length = LONG
    };
    r.data_room = LONG;
    r.data = account_get(&c.memory, LONG);
    ck_assert_ptr_nonnull(r.data);
    for (unsigned i = 0; i < LONG; i++)
        r.data[i] = (uint8_t)(i * 7 + (i >> 8));
    reserve("first");
    ck_assert(nbd_reply_data(&c, &r));
    ck_assert_ptr_null(r.data);
    reserve("last");
    uint64_t got = 0, whole = 16 + 5 + 16 + LONG + 16 + 4;
    uint8_t buf[65536], tail[4] = { 0 };
    nbd_send(&c);
    while (got < whole) {
        ssize_t n = recv(peer, buf, sizeof buf, MSG_DONTWAIT);
        if (n < 0) {
            ck_assert_int_eq(errno, EAGAIN);
            ck_assert(virtual_step(0));
            continue;
        }
        for (ssize_t i = 0; i < n; i++, got++) {
            uint64_t at = got - (16 + 5 + 16);
            if (got >= 16 + 5 + 16 && at < LONG && buf[i] != (uint8_t)(at * 7 + (at >> 8)))
                ck_abort_msg("byte %u", (unsigned)at);
            if (got >= whole - 4)
                tail[got - (whole - 4)] = buf[i];
        }
    }
    ck_assert_mem_eq(tail, "last", 4);
    while (virtual_step(0))
        ;
    end();
    virtual_rings_exit();
}
END_TEST

CO_TEST(a_client_that_is_gone_ends_the_connection)
{
    begin(NBD_SIMPLE);
    close(peer);
    ck_assert(nbd_reply_status(&c, COOKIE, 0, 0));
    nbd_send(&c);
    ck_assert(c.dead);
    nbd_out_free(&c);
    close(c.fd);
}

int main(void)
{
    const TTest *const tests[] = { done,
                                   errors,
                                   error_numbers_are_the_protocols,
                                   data,
                                   an_abandoned_reservation_sends_nothing,
                                   block_status,
                                   long_replies_leave_in_order,
                                   a_client_that_is_gone_ends_the_connection,
                                   NULL };
    return run_tests("nbd-reply", tests);
}
