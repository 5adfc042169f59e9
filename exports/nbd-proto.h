/* SPDX-License-Identifier: MIT */
/*
 * The numbers and structs of the NBD protocol as they stand on the wire, all
 * big-endian (doc/proto.md of the NetworkBlockDevice project).
 */
#ifndef EXPORTS_NBD_PROTO_H
#define EXPORTS_NBD_PROTO_H

#include "base/be.h"

#define NBD_MAGIC                  0x4e42444d41474943ULL /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC           0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_OPTION_REPLY_MAGIC     0x0003e889045565a9ULL
#define NBD_REQUEST_MAGIC          0x25609513U
#define NBD_EXTENDED_REQUEST_MAGIC 0x21e41c71U
#define NBD_SIMPLE_REPLY_MAGIC     0x67446698U
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efU
#define NBD_EXTENDED_REPLY_MAGIC   0x6e8a278cU

enum {
    NBD_STRING_MAX = 4096,
    NBD_OPTION_BYTES_MAX = 64 << 10,  /* larger ones are read and thrown away ... */
    NBD_OPTION_BYTES_DROP = 32 << 20, /* ... up to here; beyond, the connection ends */
    NBD_OPTIONS_MAX = 1000,           /* options in one negotiation */
    NBD_QUERIES_MAX = 32,             /* meta context queries in one option */
    NBD_PAYLOAD_MAX = 32 << 20,       /* bytes of a read or write */
};

enum nbd_handshake_flags { NBD_FLAG_FIXED_NEWSTYLE = 1 << 0, NBD_FLAG_NO_ZEROES = 1 << 1 };

enum nbd_transmission_flags {
    NBD_FLAG_HAS_FLAGS = 1 << 0,
    NBD_FLAG_READ_ONLY = 1 << 1,
    NBD_FLAG_SEND_FLUSH = 1 << 2,
    NBD_FLAG_SEND_FUA = 1 << 3,
    NBD_FLAG_ROTATIONAL = 1 << 4,
    NBD_FLAG_SEND_TRIM = 1 << 5,
    NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
    NBD_FLAG_SEND_DF = 1 << 7,
    NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
    NBD_FLAG_SEND_CACHE = 1 << 10,
    NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum nbd_option {
    NBD_OPT_EXPORT_NAME = 1,
    NBD_OPT_ABORT = 2,
    NBD_OPT_LIST = 3,
    NBD_OPT_STARTTLS = 5,
    NBD_OPT_INFO = 6,
    NBD_OPT_GO = 7,
    NBD_OPT_STRUCTURED_REPLY = 8,
    NBD_OPT_LIST_META_CONTEXT = 9,
    NBD_OPT_SET_META_CONTEXT = 10,
    NBD_OPT_EXTENDED_HEADERS = 11,
};

enum nbd_option_reply {
    NBD_REP_ACK = 1,
    NBD_REP_SERVER = 2,
    NBD_REP_INFO = 3,
    NBD_REP_META_CONTEXT = 4,
};
#define NBD_REP_ERROR(n)            ((1U << 31) + (n))
#define NBD_REP_ERR_UNSUP           NBD_REP_ERROR(1)
#define NBD_REP_ERR_POLICY          NBD_REP_ERROR(2)
#define NBD_REP_ERR_INVALID         NBD_REP_ERROR(3)
#define NBD_REP_ERR_TLS_REQD        NBD_REP_ERROR(5)
#define NBD_REP_ERR_UNKNOWN         NBD_REP_ERROR(6)
#define NBD_REP_ERR_SHUTDOWN        NBD_REP_ERROR(7)
#define NBD_REP_ERR_TOO_BIG         NBD_REP_ERROR(9)
#define NBD_REP_ERR_EXT_HEADER_REQD NBD_REP_ERROR(10)

enum nbd_info {
    NBD_INFO_EXPORT = 0,
    NBD_INFO_NAME = 1,
    NBD_INFO_DESCRIPTION = 2,
    NBD_INFO_BLOCK_SIZE = 3
};

enum nbd_command {
    NBD_CMD_READ = 0,
    NBD_CMD_WRITE = 1,
    NBD_CMD_DISC = 2,
    NBD_CMD_FLUSH = 3,
    NBD_CMD_TRIM = 4,
    NBD_CMD_CACHE = 5,
    NBD_CMD_WRITE_ZEROES = 6,
    NBD_CMD_BLOCK_STATUS = 7,
};

enum nbd_command_flags {
    NBD_CMD_FLAG_FUA = 1 << 0,
    NBD_CMD_FLAG_NO_HOLE = 1 << 1,
    NBD_CMD_FLAG_DF = 1 << 2,
    NBD_CMD_FLAG_REQ_ONE = 1 << 3,
    NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
    NBD_CMD_FLAG_PAYLOAD_LEN = 1 << 5,
};

enum nbd_chunk_type {
    NBD_CHUNK_NONE = 0,
    NBD_CHUNK_OFFSET_DATA = 1,
    NBD_CHUNK_OFFSET_HOLE = 2,
    NBD_CHUNK_BLOCK_STATUS = 5,
    NBD_CHUNK_BLOCK_STATUS_EXT = 6,
    NBD_CHUNK_ERROR = (1 << 15) + 1,
};
enum { NBD_CHUNK_FLAG_DONE = 1 << 0 };

enum { NBD_STATE_HOLE = 1 << 0, NBD_STATE_ZERO = 1 << 1 };

/* Error numbers on the wire. */
enum nbd_error {
    NBD_EPERM = 1,
    NBD_EIO = 5,
    NBD_ENOMEM = 12,
    NBD_EINVAL = 22,
    NBD_ENOSPC = 28,
    NBD_EOVERFLOW = 75,
    NBD_ENOTSUP = 95,
    NBD_ESHUTDOWN = 108,
};

struct nbd_greeting {
    be64 magic, option_magic;
    be16 flags;
} __attribute__((packed));

struct nbd_option_header {
    be64 magic;
    be32 option, length;
} __attribute__((packed));

struct nbd_option_reply_header {
    be64 magic;
    be32 option, type, length;
} __attribute__((packed));

struct nbd_info_export {
    be16 type;
    be64 size;
    be16 flags;
} __attribute__((packed));

struct nbd_info_block_size {
    be16 type;
    be32 minimum, preferred, maximum;
} __attribute__((packed));

struct nbd_compact_request {
    be32 magic;
    be16 flags, type;
    be64 cookie, offset;
    be32 length;
} __attribute__((packed));

struct nbd_extended_request {
    be32 magic;
    be16 flags, type;
    be64 cookie, offset, length;
} __attribute__((packed));

struct nbd_simple_reply {
    be32 magic, error;
    be64 cookie;
} __attribute__((packed));

struct nbd_structured_reply {
    be32 magic;
    be16 flags, type;
    be64 cookie;
    be32 length;
} __attribute__((packed));

struct nbd_extended_reply {
    be32 magic;
    be16 flags, type;
    be64 cookie, offset, length;
} __attribute__((packed));

_Static_assert(sizeof(struct nbd_greeting) == 18, "wire layout");
_Static_assert(sizeof(struct nbd_option_header) == 16, "wire layout");
_Static_assert(sizeof(struct nbd_option_reply_header) == 20, "wire layout");
_Static_assert(sizeof(struct nbd_info_export) == 12, "wire layout");
_Static_assert(sizeof(struct nbd_info_block_size) == 14, "wire layout");
_Static_assert(sizeof(struct nbd_compact_request) == 28, "wire layout");
_Static_assert(sizeof(struct nbd_extended_request) == 32, "wire layout");
_Static_assert(sizeof(struct nbd_simple_reply) == 16, "wire layout");
_Static_assert(sizeof(struct nbd_structured_reply) == 20, "wire layout");
_Static_assert(sizeof(struct nbd_extended_reply) == 32, "wire layout");

#endif
