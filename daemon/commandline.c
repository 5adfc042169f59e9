/* SPDX-License-Identifier: MIT */
/* The options of the command line and what each of them does. */
#include "daemon/commandline.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/parse.h"
#include "block/blockdev.h"
#include "config.h"
#include "crypto/object.h"
#include "daemon/chardev.h"
#include "daemon/notify.h"
#include "exports/nbd.h"
#include "qmp/qmp.h"
#include "uring/ring.h"

enum option_code {
    OPTION_ITEM = 256, /* + enum item_kind */
    OPTION_DAEMONIZE = 300,
    OPTION_PIDFILE,
    OPTION_RINGS,
    OPTION_LOG_LEVEL,
    OPTION_QMP,
    OPTION_NBD,
    OPTION_FORMAT,
    OPTION_READ_ONLY,
    OPTION_QMP_REFERENCE,
};

static const struct option long_options[] = {
    { "object", required_argument, NULL, OPTION_ITEM + ITEM_OBJECT },
    { "chardev", required_argument, NULL, OPTION_ITEM + ITEM_CHARDEV },
    { "monitor", required_argument, NULL, OPTION_ITEM + ITEM_MONITOR },
    { "blockdev", required_argument, NULL, OPTION_ITEM + ITEM_BLOCKDEV },
    { "nbd-server", required_argument, NULL, OPTION_ITEM + ITEM_NBD_SERVER },
    { "export", required_argument, NULL, OPTION_ITEM + ITEM_EXPORT },
    { "daemonize", no_argument, NULL, OPTION_DAEMONIZE },
    { "pidfile", required_argument, NULL, OPTION_PIDFILE },
    { "rings", required_argument, NULL, OPTION_RINGS },
    { "log-level", required_argument, NULL, OPTION_LOG_LEVEL },
    { "qmp", required_argument, NULL, OPTION_QMP },
    { "nbd", required_argument, NULL, OPTION_NBD },
    { "format", required_argument, NULL, OPTION_FORMAT },
    { "read-only", no_argument, NULL, OPTION_READ_ONLY },
    { "qmp-reference", no_argument, NULL, OPTION_QMP_REFERENCE },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { 0 },
};

static void print_help(void)
{
    printf(
        "Usage: ringblkd [OPTION...]\n"
        "       ringblkd [--qmp ADDRESS] [--nbd ADDRESS] [--format FORMAT] [--read-only] IMAGE...\n"
        "\n"
        "Serves disk images over NBD, managed over QMP. The first form takes\n"
        "qemu-storage-daemon's options, in order, each as key=value,... or JSON;\n"
        "the second one exports each IMAGE under its file name.\n"
        "\n"
        "  --object qom-type=TYPE,id=ID,...     create an object\n"
        "  --blockdev driver=DRIVER,...         open an image as a node of the graph\n"
        "  --nbd-server addr.type=...,...       listen for NBD clients\n"
        "  --export type=nbd,id=ID,node-name=N  export a node\n"
        "  --chardev socket,id=ID,path=PATH,... where a monitor's clients come from\n"
        "  --monitor chardev=ID                 speak QMP there\n"
        "  --daemonize                          go to the background when all is up\n"
        "  --pidfile FILE                       write the process id there when all is up\n"
        "  --rings N                            threads for I/O (default: one per CPU)\n"
        "  --log-level LEVEL                    error, warning, info (the default) or debug\n"
        "  --qmp ADDRESS, --nbd ADDRESS         a unix socket's path, or HOST:PORT (second form)\n"
        "  --format FORMAT                      the images' format; guessed when left out\n"
        "  --read-only                          clients may not write\n"
        "  --qmp-reference                      print the reference of all QMP commands\n"
        "  --help, --version\n");
    printf("\nOptions of --blockdev:\n");
    row_help(&row_blockdev_options, stdout);
    printf("\nOptions of --nbd-server:\n");
    row_help(&row_nbd_server_options, stdout);
    printf("\nOptions of --export:\n");
    row_help(&row_block_export_options, stdout);
    printf("\nOptions of --chardev:\n");
    row_help(&row_chardev_options, stdout);
    printf("\nOptions of --monitor:\n");
    row_help(&row_monitor_options, stdout);
}

static int take_rings(struct command_line *c, const char *text, struct err *err)
{
    uint64_t n;

    if (parse_u64(text, &n) < 0 || n < 1 || n > RINGS_MAX)
        return err_set(err, -EINVAL, "--rings takes a number from 1 to %d, not '%s'", RINGS_MAX,
                       text);
    c->rings = (unsigned)n;
    return 0;
}

static int take_log_level(struct command_line *c, const char *text, struct err *err)
{
    static const char *const names[] = { "error", "warning", "info", "debug" };

    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
        if (strcmp(text, names[i]) == 0) {
            c->log_level = (enum log_level)i;
            return 0;
        }
    }
    return err_set(err, -EINVAL, "--log-level takes error, warning, info or debug, not '%s'", text);
}

static int take_option(struct command_line *c, int code, struct err *err)
{
    switch (code) {
    case OPTION_DAEMONIZE: c->daemonize = true; return 0;
    case OPTION_PIDFILE: c->pidfile = optarg; return 0;
    case OPTION_RINGS: return take_rings(c, optarg, err);
    case OPTION_LOG_LEVEL: return take_log_level(c, optarg, err);
    case OPTION_QMP: c->qmp = optarg; return 0;
    case OPTION_NBD: c->nbd = optarg; return 0;
    case OPTION_FORMAT: c->format = optarg; return 0;
    case OPTION_READ_ONLY: c->read_only = true; return 0;
    case OPTION_QMP_REFERENCE: qmp_reference(stdout); exit(EXIT_SUCCESS);
    case 'h': print_help(); exit(EXIT_SUCCESS);
    case 'V': printf("ringblkd version %s\n", PACKAGE_VERSION); exit(EXIT_SUCCESS);
    case '?': return err_set(err, -EINVAL, "unknown or incomplete option; see --help");
    default:
        c->items[c->item_count++] = (struct item){ (enum item_kind)(code - OPTION_ITEM), optarg };
        return 0;
    }
}

int command_line_parse(int argc, char **argv, struct command_line *out, struct err *err)
{
    int code;

    *out = (struct command_line){ .items = calloc((size_t)argc, sizeof(struct item)),
                                  .log_level = LOG_LEVEL_INFO };
    if (!out->items)
        return err_set(err, -ENOMEM, "out of memory");
    while ((code = getopt_long(argc, argv, "hV", long_options, NULL)) != -1)
        if (take_option(out, code, err) < 0)
            return err->code;
    out->images = (const char *const *)argv + optind;
    out->image_count = (unsigned)(argc - optind);
    if (!out->image_count && (out->qmp || out->nbd || out->format || out->read_only))
        return err_set(
            err, -EINVAL,
            "--qmp, --nbd, --format and --read-only go with IMAGE arguments; see --help");
    return 0;
}

void command_line_free(struct command_line *c)
{
    free(c->items);
    c->items = NULL;
}

static int co_fn add_object(const char *text, struct err *err)
{
    struct object_options o;
    int result;

    if (row_parse_text(&row_object_options, text, "qom-type", &o, err) < 0)
        return err->code;
    result = qmp_object_add(&o, err);
    row_release(&row_object_options, &o);
    return result;
}

static int co_fn add_blockdev(const char *text, struct err *err)
{
    struct blockdev_options o;
    int result;

    if (row_parse_text(&row_blockdev_options, text, "driver", &o, err) < 0)
        return err->code;
    result = blockdev_add(&o, err);
    row_release(&row_blockdev_options, &o);
    return result;
}

static int co_fn add_nbd_server(const char *text, struct err *err)
{
    struct nbd_server_options o;
    int result;

    if (row_parse_text(&row_nbd_server_options, text, NULL, &o, err) < 0)
        return err->code;
    result = nbd_server_start(&o, notify_inherited_fd, NULL, err);
    row_release(&row_nbd_server_options, &o);
    return result;
}

static int co_fn add_export(const char *text, struct err *err)
{
    struct block_export_options o;
    int result;

    if (row_parse_text(&row_block_export_options, text, "type", &o, err) < 0)
        return err->code;
    result = export_add(&o, NULL, err);
    row_release(&row_block_export_options, &o);
    return result;
}

static int co_fn run_item(const struct item *i, struct err *err)
{
    switch (i->kind) {
    case ITEM_OBJECT: return add_object(i->text, err);
    case ITEM_CHARDEV: return chardev_add(i->text, err);
    case ITEM_MONITOR: return chardev_monitor(i->text, err);
    case ITEM_BLOCKDEV: return add_blockdev(i->text, err);
    case ITEM_NBD_SERVER: return add_nbd_server(i->text, err);
    case ITEM_EXPORT: return add_export(i->text, err);
    }
    return 0;
}

int co_fn command_line_run(const struct command_line *c, struct err *err)
{
    for (unsigned i = 0; i < c->item_count; i++) {
        if (c->abandoned)
            return err_set(err, -ECANCELED, "stopped before it was up");
        /* The text itself stays out of the message: it may hold a password. */
        if (run_item(&c->items[i], err) < 0)
            return err_prefix(err, "--%s", long_options[c->items[i].kind].name);
    }
    if (!c->item_count && !c->image_count && c->listen_fds)
        return err_set(err, -EINVAL,
                       "sockets were passed by socket activation, but nothing says what for: with "
                       "--nbd-server say addr.type=fd,addr.str=NAME or a number from 3 on");
    return c->image_count ? plain_run(c, err) : 0;
}
