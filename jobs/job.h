/* SPDX-License-Identifier: MIT */
/*
 * Jobs: background work with a name, a state that clients follow, and an end
 * that they may have a say in.  A kind of job is one constant table.  A job is
 * a controller, a coroutine of the control ring that lives as long as the job's
 * work; what moves data runs on data rings on its behalf.
 *
 *     created --> running <--> paused
 *                  |   \
 *                  |    ready <--> standby       (kinds that stay in step until told to complete)
 *                  |    |
 *                  waiting                       the work is done
 *                  pending                       until job_finalize(), unless auto-finalize
 *                  concluded --> null            until job_dismiss(), unless auto-dismiss
 *
 * A job that fails or is cancelled goes from running, ready, waiting or pending
 * over aborting to concluded.  Every step sends JOB_STATUS_CHANGE.
 *
 * Control ring only.
 */
#ifndef JOBS_JOB_H
#define JOBS_JOB_H

#include "base/row.h"
#include "block/event.h"
#include "uring/sync.h"

enum job_status {
    JOB_UNDEFINED,
    JOB_CREATED,
    JOB_RUNNING,
    JOB_PAUSED,
    JOB_READY,
    JOB_STANDBY,
    JOB_WAITING,
    JOB_PENDING,
    JOB_ABORTING,
    JOB_CONCLUDED,
    JOB_NULL,
};

enum job_type { JOB_TYPE_CREATE };

extern const struct row_type row_job_status, row_job_type;
extern const struct event_type event_job_status_change;

struct job;

struct job_driver {
    enum job_type type;
    size_t state_size;
    /* The work: 0, or negative with @err set.  It calls job_pause_point() now and then, and when that says
     * so it leaves off and returns its result. */
    int co_fn (*run)(struct job *j, struct err *err);
    /* Asked to leave the state ready and come to an end; NULL: this kind ends by itself. */
    void (*complete)(struct job *j);
    /* Asked to stop: wake up what waits elsewhere than in job_pause_point(); NULL: nothing does. */
    void (*cancel)(struct job *j);
    /* The end.  prepare does what may still fail; then commit, or, whatever failed before, abort; then
     * clean.  All may be NULL. */
    int co_fn (*prepare)(struct job *j, struct err *err);
    void co_fn (*commit)(struct job *j);
    void co_fn (*abort)(struct job *j);
    void co_fn (*clean)(struct job *j);
    /* The job is freed: release what state holds; NULL: nothing. */
    void (*release)(struct job *j);
};

struct job {
    const struct job_driver *driver;
    char *id;
    void *state; /* driver->state_size bytes */
    enum job_status status;
    bool auto_finalize, auto_dismiss;
    uint64_t progress, progress_total; /* in the kind's own unit; for clients */
    struct err err;                    /* why it failed */

    bool user_paused, cancelled, finalize_asked;
    struct co_cond changed; /* one of the three above, or the status */
    unsigned refs;          /* the list of all jobs, the controller, commands that wait */
    struct list link;       /* newest first */
};

/** job_start - begin a job
 * @id: malformed or taken: refused
 * @state: driver->state_size bytes, copied; what it owns is the job's when 0 is returned
 */
int job_start(const struct job_driver *driver, const char *id, const void *state,
              bool auto_finalize, bool auto_dismiss, struct err *err);

/* ---- for the driver, in the controller ---- */

/** job_pause_point - wait here while the job is paused
 * Return: 0; -ECANCELED when it is to stop.
 */
int co_fn job_pause_point(struct job *j);

/** job_ready - from now on job_complete() is accepted */
void job_ready(struct job *j);

/* ---- for commands ---- */

/** job_find - NULL with err set when there is none */
struct job *job_find(const char *id, struct err *err);

/* All jobs, newest first; no yield in between. */
struct job *job_first(void);
struct job *job_next(struct job *j);

/* Each is refused, with the job's state and the verb, in states where it makes no sense. */

/** job_cancel - have it stop and undo; returns when that was seen, a pending job when it is concluded */
int co_fn job_cancel(struct job *j, struct err *err);

/** job_pause / job_resume - pausing takes effect at the job's next pause point */
int job_pause(struct job *j, struct err *err);
int job_resume(struct job *j, struct err *err);

/** job_complete - let a ready job come to its end */
int job_complete(struct job *j, struct err *err);

/** job_finalize - have a pending job's result take effect; returns when it is concluded */
int co_fn job_finalize(struct job *j, struct err *err);

/** job_dismiss - forget a concluded job */
int job_dismiss(struct job *j, struct err *err);

/** jobs_shutdown - cancel and dismiss all; returns when the last is gone (the daemon stops) */
void co_fn jobs_shutdown(void);

#endif
