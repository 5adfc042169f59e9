/* SPDX-License-Identifier: MIT */
/*
 * The list of command families: one table in each cmd-*.c.  Only commands.c
 * knows them all.
 */
#ifndef QMP_COMMANDS_H
#define QMP_COMMANDS_H

#include "qmp/qmp.h"

extern const struct qmp_command *const qmp_families[]; /* NULL-ended */

extern const struct qmp_command qmp_monitor_commands[];
extern const struct qmp_command qmp_object_commands[];
extern const struct qmp_command qmp_qom_commands[];
extern const struct qmp_command qmp_fd_commands[];
extern const struct qmp_command qmp_block_commands[];
extern const struct qmp_command qmp_query_commands[];
extern const struct qmp_command qmp_stats_commands[];
extern const struct qmp_command qmp_export_commands[];
extern const struct qmp_command qmp_policy_commands[];
extern const struct qmp_command qmp_yank_commands[];
extern const struct qmp_command qmp_job_commands[];

#endif
