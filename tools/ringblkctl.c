/* SPDX-License-Identifier: MIT */
/* ringblkctl: speaks QMP to ringblkd for people and scripts.  Options, and the table of subcommands. */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <json-c/json.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "qmp/qmp.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

static const struct ctl_command *const commands[] = { &ctl_exports_command, &ctl_events_command,
                                                      &ctl_qmp_command, NULL };

int ctl_fail(const struct err *err)
{
    autofree char *text = ctl_escape(err->msg ? err->msg : "out of memory");

    fflush(stdout);
    fprintf(stderr, "%s%s\n", err->code == -EREMOTEIO ? "" : "ringblkctl: ", text ? text : "");
    return err->code == -EREMOTEIO ? CTL_REFUSED : CTL_TROUBLE;
}

int ctl_usage(const struct ctl_command *c)
{
    fprintf(stderr, "usage: ringblkctl %s %s\n", c->name, c->usage);
    return CTL_TROUBLE;
}

int ctl_print(struct json_object *value)
{
    autofree char *text = json_text(value);

    if (!text)
        return CTL_TROUBLE;
    puts(text);
    return CTL_OK;
}

static void print_help(void)
{
    printf("usage: ringblkctl [--socket ADDRESS] [--json] COMMAND\n\n");
    for (unsigned i = 0; commands[i]; i++)
        printf("  %s %s\n        %s\n", commands[i]->name, commands[i]->usage, commands[i]->help);
    printf("\n"
           "  --socket ADDRESS  ringblkd's QMP socket: a path, or HOST:PORT.  Default:\n"
           "                    $RINGBLK_SOCKET, else /run/ringblk/qmp.sock for root and\n"
           "                    $XDG_RUNTIME_DIR/ringblk/qmp.sock for others\n"
           "  --json            JSON on one line, for programs\n"
           "  --help, --version\n\n"
           "Exit status: 0, 1 when ringblkd refused, 2 for wrong usage or no connection.\n");
}

static int run(struct ctl *ctl, int argc, char **argv)
{
    for (unsigned i = 0; argc && commands[i]; i++)
        if (strcmp(commands[i]->name, argv[0]) == 0)
            return commands[i]->run(ctl, argc - 1, argv + 1);
    fprintf(stderr, "ringblkctl: %s%s; see --help\n", argc ? "no such command: " : "no command",
            argc ? argv[0] : "");
    return CTL_TROUBLE;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "socket", required_argument, NULL, 's' },
                                             { "json", no_argument, NULL, 'j' },
                                             { "help", no_argument, NULL, 'h' },
                                             { "version", no_argument, NULL, 'v' },
                                             { 0 } };
    struct ctl ctl = { .connection.fd = -1 };
    int option, status;

    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_DFL); /* a reader that has seen enough ends us quietly */
    while ((option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case 's': ctl.socket = optarg; break;
        case 'j': ctl.json = true; break;
        case 'h': print_help(); return CTL_OK;
        case 'v': printf("ringblkctl %s\n", PACKAGE_VERSION); return CTL_OK;
        default: return CTL_TROUBLE;
        }
    }
    qmp_register_types();
    status = run(&ctl, argc - optind, argv + optind);
    ctl_disconnect(&ctl.connection);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "ringblkctl: cannot write the output: %s\n", strerror(errno));
        return CTL_TROUBLE;
    }
    return status;
}
