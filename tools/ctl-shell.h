/* SPDX-License-Identifier: MIT */
/* The QMP shell, and what it shares with one-shot commands. */
#ifndef TOOLS_CTL_SHELL_H
#define TOOLS_CTL_SHELL_H

#include "qmp/qmp.h"
#include "tools/ctl-schema.h"
#include "tools/ctl.h"

/** ctl_qmp_find - a command that this program knows the rows of; NULL: none of that name */
const struct qmp_command *ctl_qmp_find(const char *name);

/** ctl_qmp_run - run a command and print what it returns
 * Return: 0; as ctl_execute(); -EINVAL: the output can't be printed.
 */
int ctl_qmp_run(struct ctl *ctl, const char *name, struct json_object *arguments, struct err *err);

/** ctl_schema_ask - the server's schema, to be released by ctl_schema_free() */
int ctl_schema_ask(struct ctl *ctl, struct ctl_schema *schema, struct err *err);

/** ctl_help - print all commands, or the arguments of one
 * @command: NULL: all
 * Return: 0; -EREMOTEIO: there is none of that name; -ENOMEM.
 */
int ctl_help(const struct ctl_schema *schema, const char *command, struct err *err);

/** ctl_shell - read commands from stdin until its end: with editing where it is a terminal, else stopping at the
 * first that fails; connected already.  An exit status.
 */
int ctl_shell(struct ctl *ctl);

#endif
