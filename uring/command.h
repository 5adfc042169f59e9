/* SPDX-License-Identifier: MIT */
/*
 * Commands to drivers that are given through io_uring (IORING_OP_URING_CMD).
 * op_command() in op.h is for those whose data fit an ordinary submission.
 */
#ifndef URING_COMMAND_H
#define URING_COMMAND_H

#include <stddef.h>
#include <stdint.h>

enum { COMMAND_BYTES_MAX = 80 };

/** command_blocking - give a driver a command with up to COMMAND_BYTES_MAX bytes of data, on a small ring made
 * for it, and wait for the result; any thread that may block
 * Return: the driver's result, or why the ring could not be made: a negative errno.
 */
int command_blocking(int fd, uint32_t command, const void *data, size_t length);

#endif
