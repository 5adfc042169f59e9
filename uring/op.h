/* SPDX-License-Identifier: MIT */
/*
 * One kernel operation without a coroutine: the owner keeps a struct op alive
 * until done() ran, on this ring, outside any coroutine.  await.h has the same
 * operations for coroutines.  Completions are found by number, never by
 * address, so a late cancel can't hit a stranger.
 */
#ifndef URING_OP_H
#define URING_OP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

struct op {
    void (*done)(struct op *op, int32_t result, uint32_t flags);
    uint32_t number; /* in flight: its number on this ring; else 0 */
    struct op *next; /* the ring's */
};

/* Each submits at the end of the turn.  Buffers, iovecs and msghdrs stay valid until done(). */
void op_read(struct op *op, int fd, void *p, unsigned len, uint64_t offset);
void op_write(struct op *op, int fd, const void *p, unsigned len, uint64_t offset, int rw_flags);
void op_readv(struct op *op, int fd, const struct iovec *v, unsigned n, uint64_t offset);
void op_writev(struct op *op, int fd, const struct iovec *v, unsigned n, uint64_t offset,
               int rw_flags);
void op_read_fixed(struct op *op, int fd, uint64_t addr, unsigned len, uint64_t offset,
                   unsigned buffer);
void op_write_fixed(struct op *op, int fd, uint64_t addr, unsigned len, uint64_t offset,
                    unsigned buffer, int rw_flags);
void op_fsync(struct op *op, int fd, bool data_only);
void op_fallocate(struct op *op, int fd, int mode, uint64_t offset, uint64_t len);
void op_recv(struct op *op, int fd, void *p, size_t len, int flags);
void op_send(struct op *op, int fd, const void *p, size_t len, int flags);
void op_recvmsg(struct op *op, int fd, struct msghdr *m, int flags);
void op_sendmsg(struct op *op, int fd, const struct msghdr *m, int flags);
void op_poll(struct op *op, int fd, unsigned events); /* one shot; result: the events */
void op_accept(struct op *op, int fd,
               bool multishot); /* multishot: done() once per connection, flags
                                                            has OP_MORE while it stays armed */
void op_connect(struct op *op, int fd, const struct sockaddr *addr, socklen_t len);
void op_nop(struct op *op);
enum { OP_COMMAND_BYTES = 16 };
/* A driver's own command with its OP_COMMAND_BYTES of data, which are copied. */
void op_command(struct op *op, int fd, uint32_t command, const void *data);

enum { OP_MORE = 1 << 1 }; /* in done()'s flags: more completions will come (IORING_CQE_F_MORE) */

/** op_cancel - ask the kernel to end an operation early; done() still comes (-ECANCELED or the result) */
void op_cancel(struct op *op);

static inline bool op_in_flight(const struct op *op)
{
    return op->number != 0;
}

#endif
