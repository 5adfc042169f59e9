/* SPDX-License-Identifier: MIT */
/* `ringblkctl stats`: what exports or nodes did so far, or do now. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tools/ctl-figures.h"
#include "tools/ctl-json.h"
#include "tools/ctl.h"

struct stats {
    struct ctl *ctl;
    bool nodes;
    double interval; /* s; 0: once */
    struct json_object *before, *now;
    double before_at, now_at; /* s of CLOCK_MONOTONIC */
};

/* @argv is used up; CTL_OK or CTL_USAGE, told. */
static int take_arguments(struct stats *s, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--nodes") == 0) {
            s->nodes = true;
        } else if (strcmp(argv[i], "--watch") == 0) {
            s->interval = 1;
            if (i + 1 < argc && argv[i + 1][0] != '-' &&
                ctl_seconds(argv[++i], 0.01, &s->interval) < 0)
                return ctl_usage(&ctl_stats_command);
        } else {
            return ctl_usage(&ctl_stats_command);
        }
    }
    return CTL_OK;
}

static double clock_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What was now is before. */
static int ask(struct stats *s, struct err *err)
{
    struct json_object *arguments = json_object_new_object();
    int r;

    json_object_put(s->before);
    s->before = s->now;
    s->before_at = s->now_at;
    s->now = NULL;
    if (s->nodes)
        json_object_object_add(arguments, "query-nodes", json_object_new_boolean(true));
    r = ctl_query(s->ctl, "query-blockstats", arguments, &s->now, err);
    s->now_at = clock_now();
    json_object_put(arguments);
    return r;
}

static int print(const struct stats *s)
{
    if (s->ctl->json)
        return ctl_print(s->now);
    return ctl_figures_print(s->before, s->now, s->now_at - s->before_at,
                             s->nodes ? "node-name" : "device", stdout) < 0
               ? CTL_USAGE
               : CTL_OK;
}

/* Between two tables: a terminal is cleared, elsewhere an empty line. */
static void print_gap(bool first)
{
    const char *terminal = getenv("TERM");

    if (isatty(STDOUT_FILENO) && terminal && strcmp(terminal, "dumb") != 0)
        fputs("\033[H\033[2J", stdout);
    else if (!first)
        putchar('\n');
}

static void sleep_until(double at)
{
    struct timespec t = { .tv_sec = (time_t)at };

    t.tv_nsec = (long)((at - (double)t.tv_sec) * 1e9);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* Until something fails, or a signal ends the program. */
static int watch(struct stats *s, struct err *err)
{
    double next = s->now_at;
    int status = CTL_OK;

    for (bool first = true; status == CTL_OK; first = false) {
        next += s->interval;
        if (next < s->now_at) /* it took longer than the interval */
            next = s->now_at;
        sleep_until(next);
        if (ask(s, err) < 0)
            return ctl_fail(err);
        if (!s->ctl->json)
            print_gap(first);
        status = print(s);
        if (fflush(stdout) != 0)
            status = CTL_USAGE;
    }
    return status;
}

static int run_stats(struct ctl *ctl, int argc, char **argv)
{
    struct stats s = { .ctl = ctl };
    autoerr err = { 0 };
    int status = take_arguments(&s, argc, argv);

    if (status != CTL_OK)
        return status;
    if (ctl_open(ctl, &err) < 0 || ask(&s, &err) < 0)
        status = ctl_fail(&err);
    else
        status = s.interval > 0 ? watch(&s, &err) : print(&s);
    json_object_put(s.before);
    json_object_put(s.now);
    return status;
}

const struct ctl_command ctl_stats_command = {
    "stats", "[--nodes] [--watch [SECONDS]]",
    "what exports (or nodes) did so far, or with --watch do in each second", run_stats
};
