/* SPDX-License-Identifier: MIT */
/*
 * Kernel operations and their numbers.
 *
 * 1. An operation in flight holds a slot of its ring's table; its number is
 *    the slot's index and a generation, and is the user data of its
 *    submission.  A completion whose number is not in the table is ignored.
 * 2. The slot is free again when the last completion came, before done() runs,
 *    so done() may start the same operation anew.
 * 3. The table is address space reserved once; when all of it is in use, an
 *    operation ends with -ENOMEM at the end of the turn, never inside the
 *    call that began it.
 */
#include "uring/engine.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#else
#define VALGRIND_MAKE_MEM_DEFINED(p, len) ((void)(p), (void)(len))
#endif

enum { OP_INDEX_MASK = (1 << OP_INDEX_BITS) - 1, OP_GENERATION_ONE = 1 << OP_INDEX_BITS };
enum { STREAM_MAX = 1 << 30 };    /* bytes */
#define OP_NUMBER_DEAD UINT32_MAX /* in flight, but only to fail */

_Static_assert(OP_MORE == IORING_CQE_F_MORE, "OP_MORE is the kernel's bit");

void op_init_ring(struct ring *r)
{
    r->slots = mmap(NULL, sizeof(*r->slots) << OP_INDEX_BITS, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->slots == MAP_FAILED)
        r->slots = NULL;
    r->slots_used = 1;
    r->dead_tail = &r->dead_head;
}

void op_free_ring(struct ring *r)
{
    if (r->slots)
        munmap(r->slots, sizeof(*r->slots) << OP_INDEX_BITS);
    r->slots = NULL;
}

static bool number_new(struct ring *r, struct op *op)
{
    uint32_t index = r->slot_free;

    if (likely(index != 0)) {
        r->slot_free = r->slots[index].next_free;
    } else {
        if (r->slots_used == OP_INDEX_MASK) /* the last index is OP_NUMBER_DEAD's */
            return false;
        index = r->slots_used++;
        r->slots[index].number = index;
    }
    struct op_slot *slot = &r->slots[index];
    slot->number += OP_GENERATION_ONE;
    if (unlikely(slot->number == index)) /* generation 0 is left out: a number is never its index */
        slot->number += OP_GENERATION_ONE;
    slot->op = op;
    slot->taken = true;
    op->number = slot->number;
    r->slots_busy++;
    return true;
}

unsigned op_in_flight_count(const struct ring *r)
{
    return r->slots_busy;
}

void op_complete(struct ring *r, uint64_t user_data, int32_t res, uint32_t flags)
{
    uint32_t index = (uint32_t)user_data & OP_INDEX_MASK;
    struct op_slot *slot = &r->slots[index];

    if (user_data == NUMBER_IGNORED || unlikely(user_data >> 32 || index >= r->slots_used))
        return;
    if (unlikely(!slot->taken || slot->number != (uint32_t)user_data))
        return;
    struct op *op = slot->op;
    if (likely(!(flags & IORING_CQE_F_MORE))) {
        slot->taken = false;
        slot->next_free = r->slot_free;
        r->slot_free = index;
        r->slots_busy--;
        op->number = 0;
    }
    op->done(op, res, flags);
}

void op_fail_dead(struct ring *r)
{
    struct op *op = r->dead_head;

    r->dead_head = NULL;
    r->dead_tail = &r->dead_head;
    while (op) {
        struct op *next = op->next;
        op->number = 0;
        op->done(op, -ENOMEM, 0);
        op = next;
    }
}

/* Give the operation a number and an entry to fill in; commit() ends it. */
static inline struct io_uring_sqe *begin(struct op *op)
{
    struct ring *r = this_ring;

    if (likely(number_new(r, op)))
        return ring_sqe(r);
    op->number = OP_NUMBER_DEAD;
    op->next = NULL;
    *r->dead_tail = op;
    r->dead_tail = &op->next;
    return &r->scratch;
}

/* Valgrind does not see what the kernel writes: it is told, if it is there. */
static inline void kernel_writes(const struct iovec *v, size_t n)
{
    if (likely(!this_ring->polls))
        return;
    for (size_t i = 0; i < n; i++)
        VALGRIND_MAKE_MEM_DEFINED(v[i].iov_base, v[i].iov_len);
}

static inline void commit(struct op *op, struct io_uring_sqe *sqe)
{
    sqe->user_data = op->number;
}

void op_read(struct op *op, int fd, void *p, unsigned len, uint64_t offset)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_read(sqe, fd, p, len, offset);
    kernel_writes(&(struct iovec){ p, len }, 1);
    commit(op, sqe);
}

void op_write(struct op *op, int fd, const void *p, unsigned len, uint64_t offset, int rw_flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_write(sqe, fd, p, len, offset);
    sqe->rw_flags = rw_flags;
    commit(op, sqe);
}

void op_readv(struct op *op, int fd, const struct iovec *v, unsigned n, uint64_t offset)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_readv(sqe, fd, v, n, offset);
    kernel_writes(v, n);
    commit(op, sqe);
}

void op_writev(struct op *op, int fd, const struct iovec *v, unsigned n, uint64_t offset,
               int rw_flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_writev(sqe, fd, v, n, offset);
    sqe->rw_flags = rw_flags;
    commit(op, sqe);
}

void op_read_fixed(struct op *op, int fd, uint64_t addr, unsigned len, uint64_t offset,
                   unsigned buffer)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_read_fixed(sqe, fd, (void *)(uintptr_t)addr, len, offset, (int)buffer);
    commit(op, sqe);
}

void op_write_fixed(struct op *op, int fd, uint64_t addr, unsigned len, uint64_t offset,
                    unsigned buffer, int rw_flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_write_fixed(sqe, fd, (void *)(uintptr_t)addr, len, offset, (int)buffer);
    sqe->rw_flags = rw_flags;
    commit(op, sqe);
}

void op_fsync(struct op *op, int fd, bool data_only)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_fsync(sqe, fd, data_only ? IORING_FSYNC_DATASYNC : 0);
    commit(op, sqe);
}

void op_fallocate(struct op *op, int fd, int mode, uint64_t offset, uint64_t len)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_rw(IORING_OP_FALLOCATE, sqe, fd, (void *)(uintptr_t)len, (unsigned)mode, offset);
    commit(op, sqe);
}

/* A stream's length has 32 bits in the kernel. */
static size_t capped(size_t len)
{
    return len < STREAM_MAX ? len : STREAM_MAX;
}

void op_recv(struct op *op, int fd, void *p, size_t len, int flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_recv(sqe, fd, p, capped(len), flags);
    kernel_writes(&(struct iovec){ p, len }, 1);
    commit(op, sqe);
}

void op_send(struct op *op, int fd, const void *p, size_t len, int flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_send(sqe, fd, p, capped(len), flags | MSG_NOSIGNAL);
    commit(op, sqe);
}

void op_recvmsg(struct op *op, int fd, struct msghdr *m, int flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_recvmsg(sqe, fd, m, (unsigned)flags);
    kernel_writes(m->msg_iov, m->msg_iovlen);
    kernel_writes(&(struct iovec){ m->msg_control, m->msg_controllen }, 1);
    commit(op, sqe);
}

void op_sendmsg(struct op *op, int fd, const struct msghdr *m, int flags)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_sendmsg(sqe, fd, m, (unsigned)flags | MSG_NOSIGNAL);
    commit(op, sqe);
}

void op_poll(struct op *op, int fd, unsigned events)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_poll_add(sqe, fd, events);
    commit(op, sqe);
}

void op_accept(struct op *op, int fd, bool multishot)
{
    struct io_uring_sqe *sqe = begin(op);

    if (multishot)
        io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    else
        io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    commit(op, sqe);
}

void op_connect(struct op *op, int fd, const struct sockaddr *addr, socklen_t len)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_connect(sqe, fd, addr, len);
    commit(op, sqe);
}

void op_nop(struct op *op)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_nop(sqe);
    commit(op, sqe);
}

void op_command(struct op *op, int fd, uint32_t command, const void *data)
{
    struct io_uring_sqe *sqe = begin(op);

    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
    sqe->cmd_op = command;
    memcpy(sqe->cmd, data, OP_COMMAND_BYTES);
    commit(op, sqe);
}

void op_cancel(struct op *op)
{
    if (!op->number || op->number == OP_NUMBER_DEAD)
        return;
    uint32_t number = op->number;
    struct io_uring_sqe *sqe = ring_sqe(this_ring);
    io_uring_prep_cancel64(sqe, number, 0);
    if (this_ring->u.features & IORING_FEAT_CQE_SKIP)
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = NUMBER_IGNORED;
}
