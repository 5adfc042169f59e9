/* SPDX-License-Identifier: MIT */
/*
 * The kernel's interface for block devices in user space (ublk), written out
 * here because the system's header may be older than the running kernel.
 * Numbers and layouts are the kernel's and never change; new ones are added.
 */
#ifndef EXPORTS_UBLK_ABI_H
#define EXPORTS_UBLK_ABI_H

#include <stdint.h>

/* Commands to /dev/ublk-control: IORING_OP_URING_CMD with 128-byte entries. */
enum rb_ublk_control_command {
    RB_UBLK_GET_QUEUE_AFFINITY = (int)0x80207501,
    RB_UBLK_GET_DEVICE_INFO = (int)0x80207502,
    RB_UBLK_ADD_DEVICE = (int)0xc0207504,
    RB_UBLK_DELETE_DEVICE = (int)0xc0207505,
    RB_UBLK_START_DEVICE = (int)0xc0207506,
    RB_UBLK_STOP_DEVICE = (int)0xc0207507,
    RB_UBLK_SET_PARAMETERS = (int)0xc0207508,
    RB_UBLK_GET_FEATURES = (int)0x80207513,
    RB_UBLK_DELETE_DEVICE_ASYNC = (int)0x80207514,
    RB_UBLK_UPDATE_SIZE = (int)0xc0207515,
    RB_UBLK_TRY_STOP_DEVICE = (int)0xc0207517,
};

/* Commands to /dev/ublkcN, one in flight for each tag. */
enum rb_ublk_io_command {
    RB_UBLK_FETCH = (int)0xc0107520,            /* the first request of a tag, please */
    RB_UBLK_COMMIT_AND_FETCH = (int)0xc0107521, /* this is its result; the next one, please */
};

#define RB_UBLK_ANY_DEVICE UINT32_MAX
#define RB_UBLK_NO_QUEUE   UINT16_MAX

enum { RB_UBLK_DEPTH_MAX = 4096 };

/* Bits of rb_ublk_device_info.flags and of what GET_FEATURES tells. */
#define RB_UBLK_F_IOCTL_ENCODE (UINT64_C(1) << 6)
#define RB_UBLK_F_UPDATE_SIZE  (UINT64_C(1) << 10)
#define RB_UBLK_F_SAFE_STOP    (UINT64_C(1) << 17)

struct rb_ublk_control {
    uint32_t device;
    uint16_t queue;
    uint16_t length;  /* of the buffer */
    uint64_t address; /* of the buffer */
    uint64_t data;
    uint16_t path_length;
    uint16_t zero;
    uint32_t zero2;
};
_Static_assert(sizeof(struct rb_ublk_control) == 32, "kernel ABI");

enum rb_ublk_state { RB_UBLK_DEAD = 0, RB_UBLK_LIVE = 1 };

struct rb_ublk_device_info {
    uint16_t queues, depth;
    uint16_t state;
    uint16_t zero;
    uint32_t max_io_bytes;
    uint32_t device;
    int32_t pid;
    uint32_t zero2;
    uint64_t flags;
    uint64_t cookie; /* the server's, the kernel only keeps it */
    uint32_t owner_uid, owner_gid;
    uint64_t zero3[2];
};
_Static_assert(sizeof(struct rb_ublk_device_info) == 64, "kernel ABI");

/* Which parts of the parameters count. */
enum { RB_UBLK_PARAMETERS_BASIC = 1 << 0, RB_UBLK_PARAMETERS_DISCARD = 1 << 1 };

enum rb_ublk_attribute {
    RB_UBLK_READ_ONLY = 1 << 0,
    RB_UBLK_ROTATIONAL = 1 << 1,
    RB_UBLK_VOLATILE_CACHE = 1 << 2,
    RB_UBLK_FUA = 1 << 3, /* only with a volatile cache */
};

/* A sector has 512 bytes. */
struct rb_ublk_parameters {
    uint32_t length;
    uint32_t types;
    struct {
        uint32_t attributes;
        uint8_t logical_shift, physical_shift, optimal_shift, minimal_shift;
        uint32_t max_sectors;
        uint32_t chunk_sectors;
        uint64_t sectors;
        uint64_t virtual_boundary;
    } basic;
    struct {
        uint32_t alignment, granularity; /* bytes */
        uint32_t max_discard_sectors, max_zero_sectors;
        uint16_t max_segments;
        uint16_t zero;
    } discard;
    uint8_t later[92]; /* parts that this program does not set */
};
_Static_assert(sizeof(struct rb_ublk_parameters) == 152, "kernel ABI");

enum rb_ublk_operation {
    RB_UBLK_READ = 0,
    RB_UBLK_WRITE = 1,
    RB_UBLK_FLUSH = 2,
    RB_UBLK_DISCARD = 3,
    RB_UBLK_WRITE_ZEROES = 5,
};

/* Bits of rb_ublk_request.operation beside the operation itself. */
#define RB_UBLK_OPERATION_MASK 0xffu
#define RB_UBLK_IO_FUA         (1u << 13)
#define RB_UBLK_IO_NO_UNMAP    (1u << 15)

/* A request, as the kernel shows it in the mapped queue. */
struct rb_ublk_request {
    uint32_t operation;
    uint32_t sectors;
    uint64_t first_sector;
    uint64_t address; /* of the tag's buffer */
};
_Static_assert(sizeof(struct rb_ublk_request) == 24, "kernel ABI");

struct rb_ublk_io {
    uint16_t queue, tag;
    int32_t result;
    uint64_t address; /* of the tag's buffer */
};
_Static_assert(sizeof(struct rb_ublk_io) == 16, "kernel ABI");

#endif
