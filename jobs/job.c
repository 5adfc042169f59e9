/* SPDX-License-Identifier: MIT */
/*
 * The life of a job: two tables say which state may follow which and what may
 * be asked for in which; enter() alone changes the state.
 */
#include "jobs/job.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/parse.h"
#include "uring/co.h"

enum job_verb { VERB_CANCEL, VERB_PAUSE, VERB_RESUME, VERB_COMPLETE, VERB_FINALIZE, VERB_DISMISS };

static const char *const verb_names[] = { "cancel",   "pause",    "resume",
                                          "complete", "finalize", "dismiss" };

#define IN(status) (1u << (status))

static const unsigned followers[] = {
    [JOB_UNDEFINED] = IN(JOB_CREATED),
    [JOB_CREATED] = IN(JOB_RUNNING),
    [JOB_RUNNING] = IN(JOB_PAUSED) | IN(JOB_READY) | IN(JOB_WAITING) | IN(JOB_ABORTING),
    [JOB_PAUSED] = IN(JOB_RUNNING),
    [JOB_READY] = IN(JOB_STANDBY) | IN(JOB_WAITING) | IN(JOB_ABORTING),
    [JOB_STANDBY] = IN(JOB_READY),
    [JOB_WAITING] = IN(JOB_PENDING) | IN(JOB_ABORTING),
    [JOB_PENDING] = IN(JOB_CONCLUDED) | IN(JOB_ABORTING),
    [JOB_ABORTING] = IN(JOB_CONCLUDED),
    [JOB_CONCLUDED] = IN(JOB_NULL),
    [JOB_NULL] = 0,
};

enum {
    UNDER_WAY = IN(JOB_CREATED) | IN(JOB_RUNNING) | IN(JOB_PAUSED) | IN(JOB_READY) | IN(JOB_STANDBY)
};

static const unsigned accepted_in[] = {
    [VERB_CANCEL] = UNDER_WAY | IN(JOB_WAITING) | IN(JOB_PENDING),
    [VERB_PAUSE] = UNDER_WAY,
    [VERB_RESUME] = UNDER_WAY,
    [VERB_COMPLETE] = IN(JOB_READY) | IN(JOB_STANDBY),
    [VERB_FINALIZE] = IN(JOB_PENDING),
    [VERB_DISMISS] = IN(JOB_CONCLUDED),
};

/* ---- rows ---- */

static const char *const status_names[] = { "undefined", "created",   "running", "paused",
                                            "ready",     "standby",   "waiting", "pending",
                                            "aborting",  "concluded", "null",    NULL };
static const char *const status_help[] = {
    "No job is ever seen like this",
    "It has not started",
    "It works",
    "It waits for job-resume",
    "It stays in step until job-complete or job-cancel",
    "Ready, but it waits for job-resume",
    "Its work is done",
    "It waits for job-finalize",
    "It failed or was cancelled, and undoes what it must",
    "It has ended and waits for job-dismiss",
    "It is gone",
    NULL,
};
ROW_ENUM_TYPE(row_job_status, "JobStatus", status_names, .value_help = status_help, .since = "0.1",
              .help = "How far a job is");

static const char *const type_names[] = { "create", NULL };
static const char *const type_help[] = { "blockdev-create", NULL };
ROW_ENUM_TYPE(row_job_type, "JobType", type_names, .value_help = type_help, .since = "0.1",
              .help = "A kind of job");

struct status_change {
    char *id;
    int status;
};

static const struct row status_change_rows[] = {
    ROW_REQ(struct status_change, "id", id, row_str, .help = "The job"),
    ROW_REQ(struct status_change, "status", status, row_job_status, .help = "Its new state"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_status_change, "JOB_STATUS_CHANGE-arg", struct status_change,
                       status_change_rows);

const struct event_type event_job_status_change = {
    .name = "JOB_STATUS_CHANGE",
    .data = &row_status_change,
    .since = "0.1",
    .help = "A job has another state",
};

/* ---- the list ---- */

static struct list jobs = LIST_INIT(jobs);
static bool shutting_down;

static struct job *lookup(const char *id)
{
    struct job *j;

    list_for_each (j, &jobs, link)
        if (!strcmp(j->id, id))
            return j;
    return NULL;
}

struct job *job_find(const char *id, struct err *err)
{
    struct job *j = lookup(id);

    if (!j)
        err_set(err, -ENOENT, "Job not found");
    return j;
}

struct job *job_first(void)
{
    return list_empty(&jobs) ? NULL : container_of(jobs.next, struct job, link);
}

struct job *job_next(struct job *j)
{
    return j->link.next == &jobs ? NULL : container_of(j->link.next, struct job, link);
}

static void job_free(struct job *j)
{
    err_clear(&j->err);
    free(j->state);
    free(j->id);
    free(j);
}

static void job_unref(struct job *j)
{
    if (--j->refs)
        return;
    if (j->driver->release)
        j->driver->release(j);
    job_free(j);
}

/* ---- states ---- */

static void enter(struct job *j, enum job_status to)
{
    const struct status_change data = { .id = j->id, .status = to };

    assert(followers[j->status] & IN(to));
    j->status = to;
    event_send(&event_job_status_change, &data);
    co_cond_wake_all(&j->changed);
}

static int check_verb(const struct job *j, enum job_verb verb, struct err *err)
{
    if (accepted_in[verb] & IN(j->status))
        return 0;
    return err_set(err, -EINVAL, "Job '%s' in state '%s' cannot accept command verb '%s'", j->id,
                   status_names[j->status], verb_names[verb]);
}

static void forget(struct job *j)
{
    enter(j, JOB_NULL);
    list_remove(&j->link);
    job_unref(j);
}

int co_fn job_pause_point(struct job *j)
{
    enum job_status from = j->status;

    if (j->user_paused && !j->cancelled) {
        enter(j, from == JOB_READY ? JOB_STANDBY : JOB_PAUSED);
        while (j->user_paused && !j->cancelled)
            co_cond_wait(&j->changed, NULL);
        enter(j, from);
    }
    return j->cancelled ? -ECANCELED : 0;
}

void job_ready(struct job *j)
{
    enter(j, JOB_READY);
}

/* The work is done: the job's result waits to take effect. */
static int co_fn wait_for_the_word(struct job *j)
{
    enter(j, JOB_WAITING);
    enter(j, JOB_PENDING);
    while (!j->auto_finalize && !j->finalize_asked && !j->cancelled)
        co_cond_wait(&j->changed, NULL);
    if (j->cancelled)
        return -ECANCELED;
    return j->driver->prepare ? j->driver->prepare(j, &j->err) : 0;
}

static int co_fn work(struct job *j)
{
    int result = job_pause_point(j);

    if (result == 0)
        result = j->driver->run(j, &j->err);
    if (result == 0 && j->cancelled)
        result = -ECANCELED;
    return result < 0 ? result : wait_for_the_word(j);
}

static void co_fn control(void *arg)
{
    struct job *j = arg;
    const struct job_driver *d = j->driver;
    int result;

    co_deadline_exempt(true);
    result = work(j);
    if (result < 0) {
        if (!j->err.code)
            err_set(&j->err, result, "%s", strerror(-result));
        enter(j, JOB_ABORTING);
        if (d->abort)
            d->abort(j);
    } else if (d->commit) {
        d->commit(j);
    }
    if (d->clean)
        d->clean(j);
    enter(j, JOB_CONCLUDED);
    if (j->auto_dismiss)
        forget(j);
    job_unref(j);
}

int job_start(const struct job_driver *driver, const char *id, const void *state,
              bool auto_finalize, bool auto_dismiss, struct err *err)
{
    struct job *j;

    if (!id_is_well_formed(id))
        return err_set(err, -EINVAL, "Invalid job ID '%s'", id);
    if (lookup(id))
        return err_set(err, -EEXIST, "Job ID '%s' already in use", id);
    if (shutting_down)
        return err_set(err, -ESHUTDOWN, "job '%s': the daemon is about to stop", id);
    j = calloc(1, sizeof(*j));
    if (!j)
        return err_set(err, -ENOMEM, "job '%s': out of memory", id);
    j->driver = driver;
    j->auto_finalize = auto_finalize;
    j->auto_dismiss = auto_dismiss;
    j->refs = 2;
    co_cond_init(&j->changed);
    j->id = strdup(id);
    j->state = malloc(driver->state_size ? driver->state_size : 1);
    if (!j->id || !j->state || co_start(control, j, "job") < 0) {
        job_free(j);
        return err_set(err, -ENOMEM, "job '%s': out of memory", id);
    }
    if (driver->state_size)
        memcpy(j->state, state, driver->state_size);
    list_push_front(&jobs, &j->link);
    enter(j, JOB_CREATED);
    enter(j, JOB_RUNNING);
    return 0;
}

/* ---- what clients ask for ---- */

static void co_fn wait_concluded(struct job *j)
{
    j->refs++;
    while (j->status != JOB_CONCLUDED && j->status != JOB_NULL)
        co_cond_wait(&j->changed, NULL);
    job_unref(j);
}

static void stop(struct job *j)
{
    j->cancelled = true;
    co_cond_wake_all(&j->changed);
    if (j->driver->cancel)
        j->driver->cancel(j);
}

int co_fn job_cancel(struct job *j, struct err *err)
{
    if (check_verb(j, VERB_CANCEL, err) < 0)
        return err->code;
    stop(j);
    if (j->status == JOB_PENDING)
        wait_concluded(j);
    return 0;
}

int job_pause(struct job *j, struct err *err)
{
    if (check_verb(j, VERB_PAUSE, err) < 0)
        return err->code;
    if (j->user_paused)
        return err_set(err, -EALREADY, "Job is already paused");
    j->user_paused = true;
    return 0;
}

int job_resume(struct job *j, struct err *err)
{
    if (!j->user_paused)
        return err_set(err, -EINVAL, "Can't resume a job that was not paused");
    if (check_verb(j, VERB_RESUME, err) < 0)
        return err->code;
    j->user_paused = false;
    co_cond_wake_all(&j->changed);
    return 0;
}

int job_complete(struct job *j, struct err *err)
{
    if (check_verb(j, VERB_COMPLETE, err) < 0)
        return err->code;
    if (j->cancelled || !j->driver->complete)
        return err_set(err, -EBUSY, "The active block job '%s' cannot be completed", j->id);
    j->driver->complete(j);
    return 0;
}

int co_fn job_finalize(struct job *j, struct err *err)
{
    if (check_verb(j, VERB_FINALIZE, err) < 0)
        return err->code;
    j->finalize_asked = true;
    co_cond_wake_all(&j->changed);
    wait_concluded(j);
    return 0;
}

int job_dismiss(struct job *j, struct err *err)
{
    if (check_verb(j, VERB_DISMISS, err) < 0)
        return err->code;
    forget(j);
    return 0;
}

void co_fn jobs_shutdown(void)
{
    struct job *j;

    shutting_down = true;
    list_for_each (j, &jobs, link)
        stop(j);
    while ((j = job_first())) {
        j->auto_dismiss = true;
        if (j->status == JOB_CONCLUDED)
            forget(j);
        else
            wait_concluded(j);
    }
}
