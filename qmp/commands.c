/* SPDX-License-Identifier: MIT */
/* The one list of all command families. */
#include "qmp/commands.h"

const struct qmp_command *const qmp_families[] = {
    qmp_monitor_commands, qmp_object_commands, qmp_qom_commands,   qmp_fd_commands,
    qmp_block_commands,   qmp_query_commands,  qmp_stats_commands, qmp_export_commands,
    qmp_policy_commands,  qmp_yank_commands,   qmp_job_commands,   NULL,
};
