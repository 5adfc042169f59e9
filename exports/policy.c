/* SPDX-License-Identifier: MIT */
/*
 * Error policies.  A ring that has stopped and has been told to go on may have
 * its report of the stop still under way: the generation tells the control ring
 * that it is old news.
 */
#include "exports/policy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static unsigned stopped_count; /* exports; control ring */

static const char *const on_error_names[] = { "report", "ignore", "enospc", "stop", "auto", NULL };
ROW_ENUM_TYPE(
    row_on_error, "BlockdevOnError", on_error_names,
    .help =
        "What to do when a request fails. report: the client gets the error; ignore: the client is "
        "told "
        "that it succeeded, a read gives zeroes; stop: requests wait until they are told to go on; "
        "enospc: stop when space runs out, else report; auto: what suits the kind of export");

static const char *const io_status_names[] = { "ok", "failed", "nospace", NULL };
ROW_ENUM_TYPE(row_io_status, "BlockDeviceIoStatus", io_status_names,
              .help = "Whether requests wait because one has failed");

const struct event_type event_stop = {
    .name = "STOP",
    .help = "An export has stopped after an error, and none was before: its requests wait",
};

const struct event_type event_resume = {
    .name = "RESUME",
    .help = "No export is stopped after an error any more",
};

int policy_init(struct error_policy *p, struct root *root, enum on_error on_read,
                enum on_error on_write)
{
    *p = (struct error_policy){ .on_read = on_read, .on_write = on_write, .root = root };
    p->stops = on_read >= ON_ERROR_ENOSPC || on_write >= ON_ERROR_ENOSPC;
    co_cond_init(&p->idle);
    p->reports = calloc(rings_count() + 1, sizeof(*p->reports));
    if (!p->reports)
        return -ENOMEM;
    for (unsigned i = 0; i <= rings_count(); i++)
        p->reports[i].policy = p;
    return 0;
}

unsigned policy_stopped_count(void)
{
    return stopped_count;
}

/* ---- news: generation in the upper half, then the kind of request, then the errno ---- */

static uint64_t news_of(uint32_t generation, enum io_kind kind, int result)
{
    return (uint64_t)generation << 32 | (uint64_t)kind << 16 | (uint64_t)-result;
}

static uint32_t news_generation(uint64_t news)
{
    return (uint32_t)(news >> 32);
}

static bool news_read(uint64_t news)
{
    return (news >> 16 & 0xffff) == IO_READ;
}

static int news_result(uint64_t news)
{
    return -(int)(news & 0xffff);
}

/* ---- the control ring ---- */

static void set_status(struct error_policy *p, enum io_status status)
{
    bool was_stopped = p->status != IO_STATUS_OK, is_stopped = status != IO_STATUS_OK;

    p->status = status;
    if (is_stopped && !was_stopped && stopped_count++ == 0)
        event_send(&event_stop, NULL);
    if (was_stopped && !is_stopped && --stopped_count == 0)
        event_send(&event_resume, NULL);
}

static void end_busy(struct error_policy *p)
{
    if (--p->busy == 0)
        co_cond_wake_all(&p->idle);
}

static void co_fn wait_idle(struct error_policy *p)
{
    while (p->busy)
        co_cond_wait(&p->idle, NULL);
}

static int stop_here(void *arg)
{
    const struct error_policy *p = arg;

    gate_stop_here(p->root);
    return 0;
}

static void co_fn stop_everywhere(void *arg)
{
    struct error_policy *p = arg;

    gate_set_unstarted(p->root, GATE_STOPPED, true);
    rings_call_all(stop_here, p);
    end_busy(p);
}

static bool out_of_space(int result)
{
    return result == -ENOSPC || result == -EDQUOT;
}

static void report_arrives(struct work *work)
{
    struct stop_report *report = container_of(work, struct stop_report, work);
    struct error_policy *p = report->policy;
    uint64_t news;

    atomic_store(&report->on_its_way,
                 false); /* before the news are read: later ones are sent again */
    news = atomic_load(&report->news);
    if (news_generation(news) != p->generation || p->status != IO_STATUS_OK)
        return;
    p->error = news_result(news);
    log_error("export '%s' has stopped: a %s failed: %s; its requests wait for 'cont', "
              "x-ringblk-export-resume or x-ringblk-export-fail",
              p->root->name, news_read(news) ? "read" : "write", strerror(-p->error));
    set_status(p, out_of_space(p->error) ? IO_STATUS_NOSPACE : IO_STATUS_FAILED);
    p->busy++;
    /* Without memory for that, each other ring stops when a request of its own fails. */
    if (ring_spawn(ring_control(), stop_everywhere, p, "stopping an export") < 0)
        end_busy(p);
}

/* The end of a stop, as the rings are told of it. */
struct going_on {
    struct error_policy *policy;
    uint32_t generation;
    int error; /* for those who wait; 0: they try again */
};

static int go_on_here(void *arg)
{
    const struct going_on *go = arg;
    struct error_policy *p = go->policy;

    p->reports[ring_index(this_ring)].generation = go->generation;
    if (go->error)
        gate_fail_here(p->root, go->error, NULL, NULL);
    gate_go_on_here(p->root);
    return 0;
}

static int co_fn end_stop(struct error_policy *p, bool fail)
{
    struct going_on go = { .policy = p };
    enum io_status was;
    int result;

    wait_idle(p);
    if (p->status == IO_STATUS_OK)
        return 0;
    was = p->status;
    p->busy++;
    go.error = fail ? p->error : 0;
    go.generation = ++p->generation;
    gate_set_unstarted(p->root, GATE_STOPPED, false);
    set_status(p, IO_STATUS_OK);
    result = rings_call_all(go_on_here, &go);
    if (result < 0 && p->status == IO_STATUS_OK)
        set_status(p, was); /* a ring was not told: it still waits */
    end_busy(p);
    return result;
}

int co_fn policy_go_on(struct error_policy *p)
{
    return end_stop(p, false);
}

int co_fn policy_fail(struct error_policy *p)
{
    return end_stop(p, true);
}

void co_fn policy_end(struct error_policy *p)
{
    if (p->reports)
        wait_idle(p);
    set_status(p, IO_STATUS_OK);
    free(p->reports);
    p->reports = NULL;
}

/* ---- the ring of the request ---- */

static enum io_error_action decide(const struct error_policy *p, enum io_kind kind, int result)
{
    switch (kind == IO_READ ? p->on_read : p->on_write) {
    case ON_ERROR_IGNORE: return IO_ERROR_IGNORE;
    case ON_ERROR_STOP: return IO_ERROR_STOP;
    case ON_ERROR_ENOSPC: return out_of_space(result) ? IO_ERROR_STOP : IO_ERROR_REPORT;
    default: return IO_ERROR_REPORT;
    }
}

static void stop_from_here(struct error_policy *p, enum io_kind kind, int result)
{
    struct stop_report *report = &p->reports[ring_index(this_ring)];

    gate_stop_here(p->root);
    atomic_store(&report->news, news_of(report->generation, kind, result));
    if (atomic_exchange(&report->on_its_way, true))
        return;
    report->work.fn = report_arrives;
    ring_post(ring_control(), &report->work);
}

enum io_error_action policy_failed(struct error_policy *p, enum io_kind kind, int result)
{
    enum io_error_action action = decide(p, kind, result);
    struct io_error_event data = {
        .device = p->root->name,
        .node_name = root_node(p->root)->name,
        .operation = kind != IO_READ,
        .action = action,
        .has_nospace = p->stops,
        .nospace = p->stops && out_of_space(result),
        .reason = strerror(-result),
    };

    event_send(&event_block_io_error, &data);
    if (action == IO_ERROR_STOP)
        stop_from_here(p, kind, result);
    return action;
}
