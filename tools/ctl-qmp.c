/* SPDX-License-Identifier: MIT */
/* `ringblkctl qmp COMMAND ...`: QMP as it is. */
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "qmp/commands.h"
#include "qmp/text.h"
#include "tools/ctl-arguments.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

static const struct row_type *rows_of(const char *name, bool *known)
{
    for (unsigned i = 0; qmp_families[i]; i++)
        for (const struct qmp_command *c = qmp_families[i]; c->name; c++)
            if (strcmp(c->name, name) == 0) {
                *known = true;
                return c->args;
            }
    *known = false;
    return NULL;
}

static int print_result(const struct ctl *ctl, struct json_object *result)
{
    autofree char *text = NULL;
    size_t len;

    if (ctl->json)
        return ctl_print(result);
    text = qmp_text(result, true, &len);
    if (!text)
        return CTL_USAGE;
    while (len > 0 && strchr("\r\n", text[len - 1]))
        len--;
    printf("%.*s\n", (int)len, text);
    return CTL_OK;
}

static int run_qmp(struct ctl *ctl, int argc, char **argv)
{
    struct json_object *arguments = NULL, *result = NULL;
    const struct row_type *type;
    autoerr err = { 0 };
    bool known;
    int status;

    if (argc < 1)
        return ctl_usage(&ctl_qmp_command);
    type = rows_of(argv[0], &known);
    if (ctl_arguments(type, argv + 1, (size_t)argc - 1, &arguments, &err) < 0)
        return ctl_fail(&err);
    if (ctl_open(ctl, &err) < 0) {
        json_object_put(arguments);
        return ctl_fail(&err);
    }
    if (!ctl->timeout_said) /* what a command does may take long */
        ctl->connection.patience = -1;
    if (ctl_execute(&ctl->connection, argv[0], arguments, &result, &err) < 0) {
        status = ctl_fail(&err);
    } else {
        status = print_result(ctl, result);
        json_object_put(result);
    }
    json_object_put(arguments);
    return status;
}

const struct ctl_command ctl_qmp_command = { "qmp", "COMMAND [KEY=VALUE...|JSON]",
                                             "run a QMP command and print what it returns",
                                             run_qmp };
