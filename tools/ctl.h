/* SPDX-License-Identifier: MIT */
/* ringblkctl: what its subcommands share.  A subcommand is one row of the table in ringblkctl.c. */
#ifndef TOOLS_CTL_H
#define TOOLS_CTL_H

#include "tools/ctl-connection.h"

/* Exit statuses. */
enum {
    CTL_OK = 0,
    CTL_REFUSED = 1, /* the daemon said no */
    CTL_USAGE =
        2,       /* wrong usage, or trouble on our side: no memory, output that can't be written */
    CTL_LOST = 3 /* no connection, or it failed: nobody there, no answer, not QMP */
};

enum { CTL_TIMEOUT_DEFAULT = 10 /* s */ };

struct ctl {
    const char *socket; /* NULL: the default */
    bool json;
    bool timeout_said; /* connection.patience is the user's */
    struct ctl_connection connection;
};

struct ctl_command {
    const char *name, *usage, *help; /* usage: its arguments; NULL ends the table */
    /* @argv: the words after its name.  Returns an exit status. */
    int (*run)(struct ctl *ctl, int argc, char **argv);
};

extern const struct ctl_command ctl_nodes_command, ctl_exports_command, ctl_stats_command,
    ctl_events_command, ctl_qmp_command, ctl_complete_command;

/** ctl_open - connect to the daemon as the options say; main() disconnects */
int ctl_open(struct ctl *ctl, struct err *err);

/** ctl_query - ctl_execute() of a command that returns a list, or -EPROTO */
int ctl_query(struct ctl *ctl, const char *command, struct json_object *arguments,
              struct json_object **out, struct err *err);

/** ctl_fail - tell the error on stderr, harmless for a terminal; the exit status for it */
int ctl_fail(const struct err *err);

/** ctl_usage - tell on stderr that the arguments of @c are wrong; CTL_USAGE */
int ctl_usage(const struct ctl_command *c);

/** ctl_seconds - a number of seconds, @least to 1e6, fractions allowed; 0 or -EINVAL */
int ctl_seconds(const char *text, double least, double *seconds);

/** ctl_print_event - one line for people on stdout: local time, name, data */
void ctl_print_event(struct json_object *event);

/** ctl_print - one line of JSON on stdout; CTL_OK or CTL_USAGE */
int ctl_print(struct json_object *value);

#endif
