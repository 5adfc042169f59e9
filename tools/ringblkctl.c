/* SPDX-License-Identifier: MIT */
/* ringblkctl: speaks QMP to ringblkd for people and scripts.  Options, and the table of subcommands. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qmp/qmp.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

static const struct ctl_command *const commands[] = { &ctl_nodes_command,
                                                      &ctl_exports_command,
                                                      &ctl_stats_command,
                                                      &ctl_events_command,
                                                      &ctl_qmp_command,
                                                      &ctl_complete_command,
                                                      NULL };

int ctl_open(struct ctl *ctl, struct err *err)
{
    return ctl_connect(ctl->socket, &ctl->connection, err);
}

int ctl_query(struct ctl *ctl, const char *command, struct json_object *arguments,
              struct json_object **out, struct err *err)
{
    int r = ctl_execute(&ctl->connection, command, arguments, out, err);

    if (r < 0 || json_object_is_type(*out, json_type_array))
        return r;
    json_object_put(*out);
    *out = NULL;
    return err_set(err, -EPROTO, "%s returned no list", command);
}

int ctl_fail(const struct err *err)
{
    autofree char *text = ctl_escape(err->msg ? err->msg : "out of memory");

    fflush(stdout);
    fprintf(stderr, "%s%s\n", err->code == -EREMOTEIO ? "" : "ringblkctl: ", text ? text : "");
    switch (err->code) {
    case -EREMOTEIO: return CTL_REFUSED;
    case -EINVAL:
    case -ENOMEM: return CTL_USAGE;
    default: return CTL_LOST;
    }
}

int ctl_usage(const struct ctl_command *c)
{
    fprintf(stderr, "usage: ringblkctl %s %s\n", c->name, c->usage);
    return CTL_USAGE;
}

int ctl_print(struct json_object *value)
{
    autofree char *text = json_text(value);

    if (!text)
        return CTL_USAGE;
    puts(text);
    return CTL_OK;
}

static void print_help(void)
{
    printf("usage: ringblkctl [OPTION...] COMMAND\n\n");
    for (unsigned i = 0; commands[i]; i++)
        printf("  %s %s\n        %s\n", commands[i]->name, commands[i]->usage, commands[i]->help);
    printf("\n"
           "  --socket ADDRESS  ringblkd's QMP socket: a path, or HOST:PORT.  Default:\n"
           "                    $RINGBLK_SOCKET, else /run/ringblk/qmp.sock for root and\n"
           "                    $XDG_RUNTIME_DIR/ringblk/qmp.sock for others\n"
           "  --json            JSON on one line, for programs\n"
           "  --timeout SECONDS give up when ringblkd does not answer for so long; 0: never.\n"
           "                    Default: %d, but never for qmp's own commands and for events\n"
           "  --help, --version\n\n"
           "Exit status: 0, 1 when ringblkd refused, 2 for wrong usage, 3 without a connection.\n",
           CTL_TIMEOUT_DEFAULT);
}

int ctl_seconds(const char *text, double least, double *seconds)
{
    char *end;
    double v = strtod(text, &end);

    if (end == text || *end || !(v >= least && v <= 1e6))
        return -EINVAL;
    *seconds = v;
    return 0;
}

static int take_timeout(struct ctl *ctl, const char *text)
{
    double seconds;

    if (ctl_seconds(text, 0, &seconds) < 0) {
        fprintf(stderr, "ringblkctl: --timeout takes seconds, not '%s'\n", text);
        return -EINVAL;
    }
    ctl->connection.patience = seconds > 0 ? (int)(seconds * 1000) : -1;
    ctl->timeout_said = true;
    return 0;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
    for (unsigned i = 0; argc && commands[i]; i++)
        if (strcmp(commands[i]->name, argv[0]) == 0)
            return commands[i]->run(ctl, argc - 1, argv + 1);
    fprintf(stderr, "ringblkctl: %s%s; see --help\n", argc ? "no such command: " : "no command",
            argc ? argv[0] : "");
    return CTL_USAGE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "socket", required_argument, NULL, 's' },  { "json", no_argument, NULL, 'j' },
        { "timeout", required_argument, NULL, 't' }, { "help", no_argument, NULL, 'h' },
        { "version", no_argument, NULL, 'v' },       { 0 }
    };
    struct ctl ctl = { .connection = { .fd = -1, .patience = CTL_TIMEOUT_DEFAULT * 1000 } };
    int option, status;

    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_DFL); /* a reader that has seen enough ends us quietly */
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case 's': ctl.socket = optarg; break;
        case 'j': ctl.json = true; break;
        case 't':
            if (take_timeout(&ctl, optarg) < 0)
                return CTL_USAGE;
            break;
        case 'h': print_help(); return CTL_OK;
        case 'v': printf("ringblkctl %s\n", PACKAGE_VERSION); return CTL_OK;
        default: return CTL_USAGE;
        }
    }
    qmp_register_types();
    status = run(&ctl, argc - optind, argv + optind);
    ctl_disconnect(&ctl.connection);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "ringblkctl: cannot write the output: %s\n", strerror(errno));
        return CTL_USAGE;
    }
    return status;
}
