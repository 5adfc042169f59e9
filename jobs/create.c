/* SPDX-License-Identifier: MIT */
/* The job that makes an image.  It has no pause points: the driver's work is one piece. */
#include "jobs/create.h"

#include <errno.h>

#include "jobs/job.h"

struct create {
    struct blockdev_create_options options;
    atomic_bool stop;
};

static int co_fn create_run(struct job *j, struct err *err)
{
    struct create *c = j->state;
    int result;

    j->progress_total = 1;
    result = image_create(&c->options, &c->stop, err);
    j->progress = 1;
    return result;
}

static void create_cancel(struct job *j)
{
    struct create *c = j->state;

    atomic_store(&c->stop, true);
}

static void create_release(struct job *j)
{
    struct create *c = j->state;

    row_release(&row_blockdev_create_options, &c->options);
}

static const struct job_driver create_driver_table = {
    .type = JOB_TYPE_CREATE,
    .state_size = sizeof(struct create),
    .run = create_run,
    .cancel = create_cancel,
    .release = create_release,
};

int job_create(const char *id, const struct blockdev_create_options *options, struct err *err)
{
    struct create c = { .stop = false };

    if (!create_driver(options, err))
        return err->code;
    if (row_copy(&row_blockdev_create_options, options, &c.options) < 0)
        return err_set(err, -ENOMEM, "job '%s': out of memory", id);
    if (job_start(&create_driver_table, id, &c, true, false, err) < 0)
        row_release(&row_blockdev_create_options, &c.options);
    return err->code;
}
