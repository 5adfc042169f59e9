/* SPDX-License-Identifier: MIT */
/* Commands for jobs, and blockdev-create. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "jobs/create.h"
#include "jobs/job.h"
#include "qmp/commands.h"

struct job_args {
    char *id;
};

static const struct row job_rows[] = {
    ROW_REQ(struct job_args, "id", id, row_str, .help = "The job"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_job_args, "job-arg", struct job_args, job_rows);

static int co_fn pause_job(struct monitor *m, void *args, void *result, struct err *err)
{
    struct job *j = job_find(((struct job_args *)args)->id, err);

    (void)m, (void)result;
    return j ? job_pause(j, err) : err->code;
}

static int co_fn resume_job(struct monitor *m, void *args, void *result, struct err *err)
{
    struct job *j = job_find(((struct job_args *)args)->id, err);

    (void)m, (void)result;
    return j ? job_resume(j, err) : err->code;
}

static int co_fn cancel_job(struct monitor *m, void *args, void *result, struct err *err)
{
    struct job *j = job_find(((struct job_args *)args)->id, err);

    (void)m, (void)result;
    return j ? job_cancel(j, err) : err->code;
}

static int co_fn complete_job(struct monitor *m, void *args, void *result, struct err *err)
{
    struct job *j = job_find(((struct job_args *)args)->id, err);

    (void)m, (void)result;
    return j ? job_complete(j, err) : err->code;
}

static int co_fn finalize_job(struct monitor *m, void *args, void *result, struct err *err)
{
    struct job *j = job_find(((struct job_args *)args)->id, err);

    (void)m, (void)result;
    return j ? job_finalize(j, err) : err->code;
}

static int co_fn dismiss_job(struct monitor *m, void *args, void *result, struct err *err)
{
    struct job *j = job_find(((struct job_args *)args)->id, err);

    (void)m, (void)result;
    return j ? job_dismiss(j, err) : err->code;
}

/* ---- query-jobs ---- */

struct job_info {
    char *id;
    int type, status;
    int64_t current_progress, total_progress;
    char *error;
};

static const struct row job_info_rows[] = {
    ROW_REQ(struct job_info, "id", id, row_str, .help = "The job"),
    ROW_REQ(struct job_info, "type", type, row_job_type, .help = "Its kind"),
    ROW_REQ(struct job_info, "status", status, row_job_status, .help = "Its state"),
    ROW_REQ(struct job_info, "current-progress", current_progress, row_int,
            .help = "How much is done, in a unit of the job's own"),
    ROW_REQ(struct job_info, "total-progress", total_progress, row_int,
            .help = "How much there is, as far as is known"),
    ROW_OPT(struct job_info, "error", error, row_str, .help = "Why it failed"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_job_info, "JobInfo", struct job_info, job_info_rows,
                       .help = "A job and how far it is");
static ROW_LIST_TYPE(row_job_infos, row_job_info);

static int describe(const struct job *j, struct job_info *info)
{
    info->id = strdup(j->id);
    info->type = j->driver->type;
    info->status = j->status;
    info->current_progress = (int64_t)j->progress;
    info->total_progress = (int64_t)j->progress_total;
    if (j->err.code)
        info->error = strdup(j->err.msg);
    return info->id && (info->error || !j->err.code) ? 0 : -ENOMEM;
}

static int co_fn query_jobs(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m, (void)args;
    for (struct job *j = job_first(); j; j = job_next(j)) {
        struct job_info *info = row_list_append(&row_job_infos, result);
        if (!info || describe(j, info) < 0)
            return err_set(err, -ENOMEM, "out of memory");
    }
    return 0;
}

/* ---- blockdev-create ---- */

struct create_args {
    char *job_id;
    struct blockdev_create_options options;
};

static const struct row create_rows[] = {
    ROW_REQ(struct create_args, "job-id", job_id, row_str, .help = "What the job is to be called"),
    ROW_REQ(struct create_args, "options", options, row_blockdev_create_options,
            .help = "The image"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_create_args, "blockdev-create-arg", struct create_args, create_rows);

static int co_fn create(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct create_args *a = args;

    (void)m, (void)result;
    return job_create(a->job_id, &a->options, err);
}

const struct qmp_command qmp_job_commands[] = {
    { .name = "job-pause",
      .args = &row_job_args,
      .run = pause_job,
      .help = "Have a job wait at its next pause point" },
    { .name = "job-resume",
      .args = &row_job_args,
      .run = resume_job,
      .help = "Let a paused job go on" },
    { .name = "job-cancel",
      .args = &row_job_args,
      .run = cancel_job,
      .help = "Have a job stop as soon as it can; it counts as failed" },
    { .name = "job-complete",
      .args = &row_job_args,
      .run = complete_job,
      .help = "Let a job that is ready come to its end" },
    { .name = "job-finalize",
      .args = &row_job_args,
      .run = finalize_job,
      .help = "Let the result of a pending job take effect" },
    { .name = "job-dismiss",
      .args = &row_job_args,
      .run = dismiss_job,
      .help = "Forget a concluded job; its id is free again" },
    { .name = "query-jobs",
      .result = &row_job_infos,
      .run = query_jobs,
      .help = "All jobs, newest first, concluded ones included" },
    { .name = "blockdev-create",
      .args = &row_create_args,
      .run = create,
      .help = "Begin a job that makes an image; it stays until job-dismiss" },
    { 0 },
};
