/* SPDX-License-Identifier: MIT */
/*
 * jobs/job.c: which states a job goes through, and what may be asked for in
 * which.  The toy job works until it is told that it is done, may become ready,
 * and writes down how it ended.
 */
#include <json-c/json.h>

#include "base/json.h"
#include "jobs/job.h"
#include "tests/unit/graph-fixture.h"

static struct toy {
    bool becomes_ready;
    int result, prepare_result; /* what run and prepare return */
    bool done;
    struct co_cond wake;
    char ends[64]; /* the calls at the end, in order */
} toy;

static int co_fn toy_run(struct job *j, struct err *err)
{
    bool ready = false;

    j->progress_total = 7;
    while (!toy.done) {
        if (job_pause_point(j) < 0)
            return -ECANCELED;
        if (toy.becomes_ready && !ready) {
            ready = true;
            job_ready(j);
        }
        co_pause();
    }
    j->progress = 7;
    return toy.result < 0 ? err_set(err, toy.result, "the toy broke") : 0;
}

static void toy_complete(struct job *j)
{
    (void)j;
    toy.done = true;
}

static int co_fn toy_prepare(struct job *j, struct err *err)
{
    (void)j;
    strcat(toy.ends, "prepare ");
    return toy.prepare_result < 0 ? err_set(err, toy.prepare_result, "it can't take effect") : 0;
}

static void co_fn toy_commit(struct job *j)
{
    (void)j;
    strcat(toy.ends, "commit ");
}

static void co_fn toy_abort(struct job *j)
{
    (void)j;
    strcat(toy.ends, "abort ");
}

static void co_fn toy_clean(struct job *j)
{
    (void)j;
    strcat(toy.ends, "clean ");
}

static void toy_release(struct job *j)
{
    (void)j;
    strcat(toy.ends, "release");
}

static const struct job_driver toy_driver = {
    .type = JOB_TYPE_CREATE,
    .run = toy_run,
    .complete = toy_complete,
    .prepare = toy_prepare,
    .commit = toy_commit,
    .abort = toy_abort,
    .clean = toy_clean,
    .release = toy_release,
};

/* ---- what clients saw ---- */

static char seen[512];

static void sink(const struct event_type *type, struct json_object *data, uint64_t seconds,
                 uint64_t microseconds)
{
    struct json_object *status;
    (void)seconds, (void)microseconds;
    ck_assert_ptr_eq(type, &event_job_status_change);
    ck_assert(json_object_object_get_ex(data, "status", &status));
    strcat(seen, json_object_get_string(status));
    strcat(seen, " ");
    json_object_put(data);
}

static void saw(const char *expected)
{
    for (int i = 0; i < 10; i++)
        co_pause();
    ck_assert_str_eq(seen, expected);
    seen[0] = '\0';
}

static struct job *begin(bool auto_finalize, bool auto_dismiss)
{
    autoerr err = { 0 };
    event_set_sink(sink);
    must(job_start(&toy_driver, "j", NULL, auto_finalize, auto_dismiss, &err), &err);
    struct job *j = job_find("j", &err);
    ck_assert_ptr_nonnull(j);
    return j;
}

static void ok(int co_fn (*verb)(struct job *j, struct err *err), struct job *j)
{
    autoerr err = { 0 };
    must(verb(j, &err), &err);
}

static void fails(int co_fn (*verb)(struct job *j, struct err *err), struct job *j,
                  const char *message)
{
    autoerr err = { 0 };
    ck_assert_int_lt(verb(j, &err), 0);
    ck_assert_str_eq(err.msg, message);
}

static void co_fn until(struct job *j, enum job_status status)
{
    while (j->status != status)
        co_pause();
}

/* ---- tests ---- */

CO_TEST(a_job_that_works_goes_its_way_and_is_gone)
{
    struct job *j = begin(true, true);
    saw("created running ");
    toy.done = true;
    saw("waiting pending concluded null ");
    ck_assert_str_eq(toy.ends, "prepare commit clean release");
    ck_assert_ptr_null(job_first());
    (void)j;
}

CO_TEST(without_auto_finalize_and_auto_dismiss_it_waits_for_the_word)
{
    struct job *j = begin(false, false);
    toy.done = true;
    until(j, JOB_PENDING);
    fails(job_dismiss, j, "Job 'j' in state 'pending' cannot accept command verb 'dismiss'");
    fails(job_pause, j, "Job 'j' in state 'pending' cannot accept command verb 'pause'");
    fails(job_complete, j, "Job 'j' in state 'pending' cannot accept command verb 'complete'");
    ck_assert_str_eq(toy.ends, "");
    ok(job_finalize, j);
    ck_assert_int_eq(j->status, JOB_CONCLUDED);
    ck_assert_uint_eq(j->progress, 7);
    ck_assert_int_eq(j->err.code, 0);
    fails(job_finalize, j, "Job 'j' in state 'concluded' cannot accept command verb 'finalize'");
    fails(job_cancel, j, "Job 'j' in state 'concluded' cannot accept command verb 'cancel'");
    ok(job_dismiss, j);
    saw("created running waiting pending concluded null ");
}

CO_TEST(a_job_that_fails_aborts_and_says_why)
{
    struct job *j = begin(true, false);
    toy.result = -EIO;
    toy.done = true;
    until(j, JOB_CONCLUDED);
    ck_assert_str_eq(j->err.msg, "the toy broke");
    ck_assert_str_eq(toy.ends, "abort clean ");
    ok(job_dismiss, j);
    saw("created running aborting concluded null ");
}

CO_TEST(a_result_that_cannot_take_effect_aborts_the_job)
{
    struct job *j = begin(true, false);
    toy.prepare_result = -EIO;
    toy.done = true;
    until(j, JOB_CONCLUDED);
    ck_assert_str_eq(j->err.msg, "it can't take effect");
    ck_assert_str_eq(toy.ends, "prepare abort clean ");
    ok(job_dismiss, j);
    saw("created running waiting pending aborting concluded null ");
}

CO_TEST(a_job_can_be_cancelled_while_it_runs_is_paused_or_pending)
{
    struct job *j = begin(true, false);
    co_pause();
    ok(job_cancel, j);
    until(j, JOB_CONCLUDED);
    ck_assert_str_eq(j->err.msg, "Operation canceled");
    ok(job_dismiss, j);
    saw("created running aborting concluded null ");

    j = begin(true, false);
    ok(job_pause, j);
    until(j, JOB_PAUSED);
    ok(job_cancel, j);
    until(j, JOB_CONCLUDED);
    ok(job_dismiss, j);
    saw("created running paused running aborting concluded null ");

    toy.done = true;
    j = begin(false, false);
    until(j, JOB_PENDING);
    ok(job_cancel, j);
    ck_assert_int_eq(j->status, JOB_CONCLUDED);
    ok(job_dismiss, j);
    saw("created running waiting pending aborting concluded null ");
}

CO_TEST(pausing_twice_and_resuming_what_runs_are_refused)
{
    struct job *j = begin(true, true);
    fails(job_resume, j, "Can't resume a job that was not paused");
    ok(job_pause, j);
    fails(job_pause, j, "Job is already paused");
    until(j, JOB_PAUSED);
    fails(job_complete, j, "Job 'j' in state 'paused' cannot accept command verb 'complete'");
    toy.done = true; /* but it is paused */
    saw("created running paused ");
    ok(job_resume, j);
    saw("running waiting pending concluded null ");
}

CO_TEST(a_ready_job_stands_by_while_paused_and_ends_when_told)
{
    toy.becomes_ready = true;
    struct job *j = begin(true, true);
    until(j, JOB_READY);
    ok(job_pause, j);
    until(j, JOB_STANDBY);
    ok(job_resume, j);
    until(j, JOB_READY);
    ok(job_complete, j);
    saw("created running ready standby ready waiting pending concluded null ");
}

CO_TEST(ids_are_checked)
{
    autoerr err = { 0 };
    struct job *j = begin(true, true);
    ck_assert_int_eq(job_start(&toy_driver, "j", NULL, true, true, &err), -EEXIST);
    ck_assert_str_eq(err.msg, "Job ID 'j' already in use");
    ck_assert_int_eq(job_start(&toy_driver, "1", NULL, true, true, &err), -EINVAL);
    ck_assert_str_eq(err.msg, "Invalid job ID '1'");
    ck_assert_ptr_null(job_find("k", &err));
    ck_assert_str_eq(err.msg, "Job not found");
    ok(job_cancel, j);
    saw("created running aborting concluded null ");
}

CO_TEST(when_the_daemon_stops_every_job_goes_and_none_comes)
{
    autoerr err = { 0 };
    struct job *j = begin(false, false);
    toy.done = true;
    until(j, JOB_PENDING);
    must(job_start(&toy_driver, "k", NULL, true, false, &err), &err);
    until(job_find("k", &err), JOB_CONCLUDED);
    jobs_shutdown();
    ck_assert_ptr_null(job_first());
    ck_assert_int_eq(job_start(&toy_driver, "j", NULL, true, true, &err), -ESHUTDOWN);
}

int main(void)
{
    return run_tests("job", (const TTest *const[]){
                                a_job_that_works_goes_its_way_and_is_gone,
                                without_auto_finalize_and_auto_dismiss_it_waits_for_the_word,
                                a_job_that_fails_aborts_and_says_why,
                                a_result_that_cannot_take_effect_aborts_the_job,
                                a_job_can_be_cancelled_while_it_runs_is_paused_or_pending,
                                pausing_twice_and_resuming_what_runs_are_refused,
                                a_ready_job_stands_by_while_paused_and_ends_when_told,
                                ids_are_checked,
                                when_the_daemon_stops_every_job_goes_and_none_comes,
                                NULL,
                            });
}
