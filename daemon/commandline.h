/* SPDX-License-Identifier: MIT */
/*
 * The command line: qemu-storage-daemon's options, processed in the order in
 * which they stand, and a plain form that only names images.
 */
#ifndef DAEMON_COMMANDLINE_H
#define DAEMON_COMMANDLINE_H

#include <stdbool.h>

#include "base/err.h"
#include "base/log.h"
#include "uring/co.h"

enum item_kind {
    ITEM_OBJECT,
    ITEM_CHARDEV,
    ITEM_MONITOR,
    ITEM_BLOCKDEV,
    ITEM_NBD_SERVER,
    ITEM_EXPORT
};

struct item {
    enum item_kind kind;
    const char *text; /* points into argv */
};

struct command_line {
    struct item *items; /* owned; in order */
    unsigned item_count;
    bool daemonize;
    const char *pidfile;
    unsigned rings; /* 0: one per CPU */
    enum log_level log_level;
    /* The plain form. */
    const char *const *images; /* points into argv */
    unsigned image_count;
    const char *qmp, *nbd, *format;
    bool read_only;
    unsigned listen_fds; /* sockets from socket activation */
    bool abandoned;      /* set while it is run: what is still to be done is left out */
};

/** command_line_parse - sort argv; nothing is done yet, but --help and --version print and exit 0
 * Errors are for the user; the process should then exit 1.
 */
int command_line_parse(int argc, char **argv, struct command_line *out, struct err *err);
void command_line_free(struct command_line *c);

/** command_line_run - do what it says, in order; control ring, in a coroutine
 * Return: 0; a negative errno: it can't be done, or (-ECANCELED) was abandoned.
 */
int co_fn command_line_run(const struct command_line *c, struct err *err);

/** plain_run - the plain form: every image an NBD export named by its file name (plain.c) */
int co_fn plain_run(const struct command_line *c, struct err *err);

#endif
