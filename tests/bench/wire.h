/* SPDX-License-Identifier: MIT */
/*
 * The parts of the NBD protocol that the bench programs speak: fixed newstyle
 * negotiation with NBD_OPT_GO, READ, WRITE and FLUSH, simple and structured
 * replies.  Written apart from exports/ on purpose: the yardstick must not
 * share a mistake with what it measures.
 */
#ifndef TESTS_BENCH_WIRE_H
#define TESTS_BENCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/be.h"

#define WIRE_NBDMAGIC         0x4e42444d41474943ull
#define WIRE_IHAVEOPT         0x49484156454f5054ull
#define WIRE_OPTION_REPLY     0x0003e889045565a9ull
#define WIRE_REQUEST          0x25609513u
#define WIRE_SIMPLE_REPLY     0x67446698u
#define WIRE_STRUCTURED_REPLY 0x668e33efu

#define WIRE_FIXED_NEWSTYLE 1u /* handshake flags, same bits from both sides */
#define WIRE_NO_ZEROES      2u

enum { WIRE_OPT_ABORT = 2, WIRE_OPT_GO = 7, WIRE_OPT_STRUCTURED_REPLY = 8 };
enum { WIRE_REP_ACK = 1, WIRE_REP_INFO = 3 };
#define WIRE_REP_ERROR     (1u << 31)
#define WIRE_REP_ERR_UNSUP (WIRE_REP_ERROR + 1)
enum { WIRE_INFO_EXPORT = 0 };

enum { WIRE_FLAG_HAS_FLAGS = 1, WIRE_FLAG_READ_ONLY = 2, WIRE_FLAG_SEND_FLUSH = 4 };
#define WIRE_FLAG_CAN_MULTI_CONN (1u << 8)

enum { WIRE_CMD_READ = 0, WIRE_CMD_WRITE = 1, WIRE_CMD_DISC = 2, WIRE_CMD_FLUSH = 3 };
enum { WIRE_CHUNK_NONE = 0, WIRE_CHUNK_DATA = 1, WIRE_CHUNK_HOLE = 2 };
#define WIRE_CHUNK_ERROR 0x8000u /* this bit is set in the type of every error chunk */
#define WIRE_CHUNK_DONE  1u

struct wire_option {
    be64 magic;
    be32 option;
    be32 length;
} __attribute__((packed));

struct wire_option_reply {
    be64 magic;
    be32 option;
    be32 type;
    be32 length;
} __attribute__((packed));

struct wire_request {
    be32 magic;
    be16 flags;
    be16 type;
    be64 cookie;
    be64 offset;
    be32 length;
} __attribute__((packed));

struct wire_simple_reply {
    be32 magic;
    be32 error;
    be64 cookie;
} __attribute__((packed));

struct wire_chunk {
    be32 magic;
    be16 flags;
    be16 type;
    be64 cookie;
    be32 length;
} __attribute__((packed));

_Static_assert(sizeof(struct wire_option) == 16, "wire format");
_Static_assert(sizeof(struct wire_option_reply) == 20, "wire format");
_Static_assert(sizeof(struct wire_request) == 28, "wire format");
_Static_assert(sizeof(struct wire_simple_reply) == 16, "wire format");
_Static_assert(sizeof(struct wire_chunk) == 20, "wire format");

/* Both move exactly @length bytes on a blocking socket, or end the program. */
void wire_read_full(int fd, void *data, size_t length);
void wire_write_full(int fd, const void *data, size_t length);

/** wire_negotiate - the client's handshake, up to the accepted NBD_OPT_GO
 * @structured: ask for structured replies; a server that lacks them ends the program
 * @size: bytes of the export
 * @flags: transmission flags
 */
void wire_negotiate(int fd, const char *export, bool structured, uint64_t *size, uint16_t *flags);

/** wire_accept - the server's handshake for one export of any name
 * @structured: set when the client negotiated structured replies
 * Return: false when the client left or cannot be served.
 */
bool wire_accept(int fd, uint64_t size, uint16_t flags, bool *structured);

#endif
