/* SPDX-License-Identifier: MIT */
/* Commands to drivers, waited for. */
#include "uring/command.h"

#include <errno.h>
#include <liburing.h>
#include <string.h>

int command_blocking(int fd, uint32_t command, const void *data, size_t length)
{
    enum { ENTRY_BYTES = 128 };
    struct io_uring u;
    struct io_uring_cqe *cqe;
    struct io_uring_sqe *sqe;
    int r;

    if (length > COMMAND_BYTES_MAX)
        return -EINVAL;
    r = io_uring_queue_init(1, &u, IORING_SETUP_SQE128);
    if (r < 0)
        return r;
    sqe = io_uring_get_sqe(&u);
    if (!sqe) { /* not in a new ring */
        io_uring_queue_exit(&u);
        return -EBUSY;
    }
    memset(sqe, 0, ENTRY_BYTES);
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fd;
    sqe->cmd_op = command;
    memcpy(sqe->cmd, data, length);
    r = io_uring_submit(&u);
    if (r >= 0) {
        do {
            r = io_uring_wait_cqe(&u, &cqe);
        } while (r == -EINTR);
        if (r == 0)
            r = cqe->res;
    }
    io_uring_queue_exit(&u);
    return r;
}
