/* SPDX-License-Identifier: MIT */
/* The job that makes an image. */
#ifndef JOBS_CREATE_H
#define JOBS_CREATE_H

#include "block/create.h"

/** job_create - begin making an image under the job id @id; such a job is never dismissed by itself
 * @options: copied
 */
int job_create(const char *id, const struct blockdev_create_options *options, struct err *err);

#endif
