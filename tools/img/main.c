/* SPDX-License-Identifier: MIT */
/*
 * ringblk-img: make, look at, compare and convert disk images, with qemu-img's
 * subcommands and options, over the drivers that the daemon has.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/parse.h"
#include "config.h"
#include "crypto/object.h"
#include "qmp/qmp.h"
#include "tools/img/img.h"
#include "uring/ring.h"

static const struct img_command *const commands[] = {
    &img_check, &img_compare, &img_convert, &img_create, &img_dd,
    &img_info,  &img_map,     &img_measure, &img_resize, NULL,
};

static void complain(const char *fmt, va_list arguments)
{
    fflush(stdout);
    fprintf(stderr, "ringblk-img: ");
    vfprintf(stderr, fmt, arguments);
    fputc('\n', stderr);
}

int img_error(const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    complain(fmt, arguments);
    va_end(arguments);
    return IMG_FAILED;
}

int img_usage(const char *fmt, ...)
{
    va_list arguments;

    va_start(arguments, fmt);
    complain(fmt, arguments);
    va_end(arguments);
    fprintf(stderr, "Try 'ringblk-img --help' for more information\n");
    return IMG_FAILED;
}

int img_parse(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    int r = parse_size(text, out);

    if (r == 0 && *out >= min && *out <= max)
        return 0;
    if (r == -EINVAL) {
        img_error("Invalid %s specified. You may use k, M, G, T, P or E suffixes for", what);
        img_error("kilobytes, megabytes, gigabytes, terabytes, petabytes and exabytes.");
    } else {
        img_error("Invalid %s specified. Must be between %" PRIu64 " and %" PRIu64 ".", what, min,
                  max);
    }
    return -EINVAL;
}

/* ---- progress ---- */

void progress_show(struct progress *p, uint64_t done, uint64_t total)
{
    double now = total ? 100.0 * (double)done / (double)total : 100.0;

    if (!p->on || (now - p->shown < 1 && now < 100))
        return;
    p->shown = now;
    printf("    (%3.2f/100%%)\r", now);
    fflush(stdout);
}

void progress_end(struct progress *p)
{
    if (p->on)
        printf("    (100.00/100%%)\r\n");
}

/* ---- running ---- */

struct run {
    const struct img_command *command;
    int argc;
    char **argv;
    int status;
};

static void co_fn run_command(void *arg)
{
    struct run *r = arg;

    co_deadline_exempt(true);
    r->status = r->command->run(r->argc, r->argv);
    objects_del_all();
    ring_stop();
}

static int run(struct run *r)
{
    const struct rings_config config = { .count = 1 };
    autoerr err = { 0 };

    qmp_register_types();
    if (qmp_register_all(&err) < 0 || rings_init(&config, &err) < 0)
        return img_error("%s", err.msg);
    if (co_start(run_command, r, r->command->name) < 0)
        return img_error("out of memory");
    ring_run();
    rings_exit();
    qmp_unregister_all();
    if (fflush(stdout) != 0 || ferror(stdout))
        return img_error("cannot write the output: %s", strerror(errno));
    return r->status;
}

static void print_help(void)
{
    printf("usage: ringblk-img COMMAND [OPTION...] FILE...\n"
           "Make, look at, compare and convert disk images, as qemu-img does.\n\n");
    for (unsigned i = 0; commands[i]; i++)
        printf("  %s %s\n", commands[i]->name, commands[i]->usage);
    printf("\nSizes take the suffixes k, M, G, T, P and E.  See ringblk-img(1).\n");
}

int main(int argc, char **argv)
{
    struct run r = { .argc = argc - 1, .argv = argv + 1 };
    const char *name = argc > 1 ? argv[1] : NULL;

    log_init("ringblk-img");
    log_set_level(LOG_LEVEL_WARNING);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is an error of that file */
    if (!name)
        return img_usage("Not enough arguments");
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) {
        print_help();
        return IMG_OK;
    }
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        printf("ringblk-img version %s\n", PACKAGE_VERSION);
        return IMG_OK;
    }
    for (unsigned i = 0; commands[i]; i++) {
        if (strcmp(commands[i]->name, name))
            continue;
        r.command = commands[i];
        argv[1] = (char *)"ringblk-img"; /* for getopt's messages */
        return run(&r);
    }
    return img_usage("Command not found: %s", name);
}
