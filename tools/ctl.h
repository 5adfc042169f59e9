/* SPDX-License-Identifier: MIT */
/* ringblkctl: what its subcommands share.  A subcommand is one row of the table in ringblkctl.c. */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include "tools/ctl-connection.h"

/* Exit statuses. */
enum {
    CTL_OK = 0,
    CTL_REFUSED = 1 /* the daemon said no */,
    CTL_TROUBLE = 2 /* usage, connection */
};

struct ctl {
    const char *socket; /* NULL: the default */
    bool json;
    struct ctl_connection connection;
};

struct ctl_command {
    const char *name, *usage, *help; /* usage: its arguments; NULL ends the table */
    /* @argv: the words after its name.  Returns an exit status. */
    int (*run)(struct ctl *ctl, int argc, char **argv);
};

extern const struct ctl_command ctl_qmp_command, ctl_exports_command, ctl_events_command;

/** ctl_fail - tell the error on stderr, harmless for a terminal; the exit status for it */
int ctl_fail(const struct err *err);

/** ctl_usage - tell on stderr that the arguments of @c are wrong; CTL_TROUBLE */
int ctl_usage(const struct ctl_command *c);

/** ctl_print - one line of JSON on stdout; CTL_OK or CTL_TROUBLE */
int ctl_print(struct json_object *value);

#endif
