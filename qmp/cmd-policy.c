/* SPDX-License-Identifier: MIT */
/* Commands for exports that have stopped after an error. */
#include <errno.h>

#include "exports/export.h"
#include "qmp/commands.h"

static int co_fn told(int result, struct err *err)
{
    return result < 0 ? err_set(err, result, "Out of memory") : 0;
}

static int co_fn cont(struct monitor *m, void *args, void *result, struct err *err)
{
    int r = 0;

    (void)m;
    (void)args;
    (void)result;
    for (struct export *x = export_first(), *next; x; x = next) {
        export_hold(x);
        int one = policy_go_on(&x->policy);
        if (one < 0)
            r = one;
        next = export_next(x);
        export_release(x);
    }
    return told(r, err);
}

struct name_args {
    char *id;
};

static const struct row name_rows[] = {
    ROW_REQ(struct name_args, "id", id, row_str, .help = "The export"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_resume_args, "x-ringblk-export-resume-arg", struct name_args, name_rows);
static ROW_STRUCT_TYPE(row_fail_args, "x-ringblk-export-fail-arg", struct name_args, name_rows);

static int co_fn for_one(const char *id, int co_fn (*fn)(struct error_policy *p), struct err *err)
{
    struct export *x = export_find(id);
    int result;

    if (!x || !x->ready)
        return err_set(err, -ENOENT, "Export '%s' is not found", id);
    export_hold(x);
    result = fn(&x->policy);
    export_release(x);
    return told(result, err);
}

static int co_fn resume(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return for_one(((struct name_args *)args)->id, policy_go_on, err);
}

static int co_fn fail(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return for_one(((struct name_args *)args)->id, policy_fail, err);
}

enum run_state { RUN_STATE_IO_ERROR, RUN_STATE_RUNNING };
static const char *const run_state_names[] = { "io-error", "running", NULL };
static const char *const run_state_help[] = { "an export has stopped after an error",
                                              "no export has stopped" };
static ROW_ENUM_TYPE(row_run_state, "RunState", run_state_names, .value_help = run_state_help,
                     .help = "Whether requests are served");

struct status_info {
    bool running, singlestep;
    int status;
};

static const struct row status_rows[] = {
    ROW_REQ(struct status_info, "running", running, row_bool, .help = "No export has stopped"),
    ROW_REQ(struct status_info, "singlestep", singlestep, row_bool, .help = "Always false"),
    ROW_REQ(struct status_info, "status", status, row_run_state, .help = "The same as a word"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_status_info, "StatusInfo", struct status_info, status_rows,
                       .help = "Whether requests are served");

static int co_fn query_status(struct monitor *m, void *args, void *result, struct err *err)
{
    struct status_info *info = result;

    (void)m;
    (void)args;
    (void)err;
    info->running = policy_stopped_count() == 0;
    info->status = info->running ? RUN_STATE_RUNNING : RUN_STATE_IO_ERROR;
    return 0;
}

const struct qmp_command qmp_policy_commands[] = {
    { .name = "cont", .run = cont, .help = "All exports that have stopped after an error go on" },
    { .name = "x-ringblk-export-resume",
      .args = &row_resume_args,
      .run = resume,
      .help = "An export that has stopped after an error goes on: what waits is tried again" },
    { .name = "x-ringblk-export-fail",
      .args = &row_fail_args,
      .run = fail,
      .help = "An export that has stopped after an error goes on: what waits fails" },
    { .name = "query-status",
      .result = &row_status_info,
      .run = query_status,
      .help = "Has an export stopped after an error?" },
    { 0 },
};
