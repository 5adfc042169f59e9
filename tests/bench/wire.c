/* SPDX-License-Identifier: MIT */
/*
 * NBD negotiation, client and server side, as far as the bench needs it.  It
 * runs on blocking sockets, before any measuring starts.
 */
#include "tests/bench/wire.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { OPTION_MAX = 65536 }; /* bytes of option data that we take */

static bool try_read(int fd, void *data, size_t length)
{
    ssize_t n;

    if (!length) /* a receive of nothing may still wait for data */
        return true;
    n = recv(fd, data, length, MSG_WAITALL);
    return n >= 0 && (size_t)n == length;
}

void wire_read_full(int fd, void *data, size_t length)
{
    if (!try_read(fd, data, length))
        errx(1, "the server closed the connection or timed out during negotiation");
}

static bool try_write(int fd, const void *data, size_t length)
{
    const char *p = data;

    while (length) {
        ssize_t n = send(fd, p, length, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        p += n;
        length -= (size_t)n;
    }
    return true;
}

void wire_write_full(int fd, const void *data, size_t length)
{
    if (!try_write(fd, data, length))
        err(1, "cannot send to the server");
}

/* Sends one option with its data. */
static void send_option(int fd, uint32_t option, const void *data, uint32_t length)
{
    struct wire_option head = {
        .magic = put_be64(WIRE_IHAVEOPT),
        .option = put_be32(option),
        .length = put_be32(length),
    };

    wire_write_full(fd, &head, sizeof head);
    wire_write_full(fd, data, length);
}

/* Reads one option reply; its data is in @data, at most @room bytes.  Returns the type. */
static uint32_t read_option_reply(int fd, uint32_t option, void *data, uint32_t room,
                                  uint32_t *length)
{
    struct wire_option_reply reply;

    wire_read_full(fd, &reply, sizeof reply);
    *length = get_be32(reply.length);
    if (get_be64(reply.magic) != WIRE_OPTION_REPLY || get_be32(reply.option) != option ||
        *length > room)
        errx(1, "the server's reply to option %u is malformed", option);
    wire_read_full(fd, data, *length);
    return get_be32(reply.type);
}

static void ask_structured(int fd)
{
    char data[4096];
    uint32_t length;

    send_option(fd, WIRE_OPT_STRUCTURED_REPLY, NULL, 0);
    if (read_option_reply(fd, WIRE_OPT_STRUCTURED_REPLY, data, sizeof data, &length) !=
        WIRE_REP_ACK)
        errx(1, "the server has no structured replies");
}

static void ask_go(int fd, const char *export, uint64_t *size, uint16_t *flags)
{
    uint32_t name_length = (uint32_t)strlen(export), length, type;
    char data[4096 + 8];
    be32 wire_length = put_be32(name_length);
    bool known = false;

    if (name_length > 4096)
        errx(1, "the export name is longer than 4096 bytes");
    memcpy(data, &wire_length, 4);
    memcpy(data + 4, export, name_length);
    memset(data + 4 + name_length, 0, 2); /* no information requested beyond the obligatory */
    send_option(fd, WIRE_OPT_GO, data, name_length + 6);

    while ((type = read_option_reply(fd, WIRE_OPT_GO, data, sizeof data, &length)) ==
           WIRE_REP_INFO) {
        be16 info, export_flags;
        be64 export_size;

        if (length < 2)
            errx(1, "the server's NBD_REP_INFO is too short");
        memcpy(&info, data, 2);
        if (get_be16(info) != WIRE_INFO_EXPORT || length != 12)
            continue;
        memcpy(&export_size, data + 2, 8);
        memcpy(&export_flags, data + 10, 2);
        *size = get_be64(export_size);
        *flags = get_be16(export_flags);
        known = true;
    }
    if (type != WIRE_REP_ACK)
        errx(1, "the server refuses export '%s' (%#x): %.*s", export, type, (int)length, data);
    if (!known)
        errx(1, "the server did not tell the size of export '%s'", export);
}

void wire_negotiate(int fd, const char *export, bool structured, uint64_t *size, uint16_t *flags)
{
    be64 magic[2];
    be16 server_flags;
    be32 client_flags;
    uint32_t common;

    wire_read_full(fd, magic, sizeof magic);
    wire_read_full(fd, &server_flags, sizeof server_flags);
    common = get_be16(server_flags) & (WIRE_FIXED_NEWSTYLE | WIRE_NO_ZEROES);
    if (get_be64(magic[0]) != WIRE_NBDMAGIC || get_be64(magic[1]) != WIRE_IHAVEOPT ||
        !(common & WIRE_FIXED_NEWSTYLE))
        errx(1, "the server does not speak NBD's fixed newstyle");
    client_flags = put_be32(common);
    wire_write_full(fd, &client_flags, sizeof client_flags);
    if (structured)
        ask_structured(fd);
    ask_go(fd, export, size, flags);
}

static bool answer(int fd, uint32_t option, uint32_t type, const void *data, uint32_t length)
{
    struct wire_option_reply reply = {
        .magic = put_be64(WIRE_OPTION_REPLY),
        .option = put_be32(option),
        .type = put_be32(type),
        .length = put_be32(length),
    };

    return try_write(fd, &reply, sizeof reply) && try_write(fd, data, length);
}

static bool answer_go(int fd, uint64_t size, uint16_t flags)
{
    struct {
        be16 type;
        be64 size;
        be16 flags;
    } __attribute__((packed)) info = {
        .type = put_be16(WIRE_INFO_EXPORT),
        .size = put_be64(size),
        .flags = put_be16(flags),
    };

    return answer(fd, WIRE_OPT_GO, WIRE_REP_INFO, &info, sizeof info) &&
           answer(fd, WIRE_OPT_GO, WIRE_REP_ACK, NULL, 0);
}

bool wire_accept(int fd, uint64_t size, uint16_t flags, bool *structured)
{
    struct {
        be64 magic[2];
        be16 flags;
    } __attribute__((packed)) hello = {
        .magic = { put_be64(WIRE_NBDMAGIC), put_be64(WIRE_IHAVEOPT) },
        .flags = put_be16(WIRE_FIXED_NEWSTYLE | WIRE_NO_ZEROES),
    };
    struct wire_option head;
    be32 client_flags;
    char data[OPTION_MAX];

    *structured = false;
    if (!try_write(fd, &hello, sizeof hello) || !try_read(fd, &client_flags, sizeof client_flags))
        return false;
    while (try_read(fd, &head, sizeof head)) {
        uint32_t option = get_be32(head.option), length = get_be32(head.length);

        if (get_be64(head.magic) != WIRE_IHAVEOPT || length > sizeof data ||
            !try_read(fd, data, length))
            return false;
        if (option == WIRE_OPT_GO)
            return answer_go(fd, size, flags);
        if (option == WIRE_OPT_STRUCTURED_REPLY)
            *structured = true;
        if (!answer(fd, option,
                    option == WIRE_OPT_STRUCTURED_REPLY ? WIRE_REP_ACK : WIRE_REP_ERR_UNSUP, NULL,
                    0))
            return false;
        if (option == WIRE_OPT_ABORT)
            return false;
    }
    return false;
}
