/* SPDX-License-Identifier: MIT */
/* `ringblkctl qmp`: one command, or a shell; and `ringblkctl complete` for the completion of other shells. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qmp/commands.h"
#include "qmp/text.h"
#include "tools/ctl-arguments.h"
#include "tools/ctl-complete.h"
#include "tools/ctl-json.h"
#include "tools/ctl-shell.h"

const struct qmp_command *ctl_qmp_find(const char *name)
{
    for (unsigned i = 0; qmp_families[i]; i++)
        for (const struct qmp_command *c = qmp_families[i]; c->name; c++)
            if (strcmp(c->name, name) == 0)
                return c;
    return NULL;
}

static int print_result(const struct ctl *ctl, struct json_object *result)
{
    autofree char *text = NULL;
    size_t len;

    if (ctl->json)
        return ctl_print(result) == CTL_OK ? 0 : -ENOMEM;
    text = qmp_text(result, true, &len);
    if (!text)
        return -ENOMEM;
    for (const char *s = text; *s; s++) /* lines end as they do here, not as in QMP */
        if (*s != '\r')
            putchar(*s);
    return 0;
}

int ctl_qmp_run(struct ctl *ctl, const char *name, struct json_object *arguments, struct err *err)
{
    struct json_object *result = NULL;
    int r = ctl_execute(&ctl->connection, name, arguments, &result, err);

    if (r < 0)
        return r;
    r = print_result(ctl, result);
    json_object_put(result);
    return r < 0 ? err_set(err, r, "out of memory") : 0;
}

int ctl_schema_ask(struct ctl *ctl, struct ctl_schema *schema, struct err *err)
{
    struct json_object *list;
    int r = ctl_query(ctl, "query-qmp-schema", NULL, &list, err);

    if (r < 0)
        return r;
    r = ctl_schema_init(schema, list);
    json_object_put(list);
    return r < 0 ? err_set(err, r, "out of memory") : 0;
}

static int run_qmp(struct ctl *ctl, int argc, char **argv)
{
    const struct qmp_command *c = argc ? ctl_qmp_find(argv[0]) : NULL;
    struct json_object *arguments = NULL;
    autoerr err = { 0 };
    int status = CTL_OK;

    if (argc && ctl_arguments(c ? c->args : NULL, argv + 1, (size_t)argc - 1, &arguments, &err) < 0)
        return ctl_fail(&err);
    if (ctl_open(ctl, &err) < 0) {
        json_object_put(arguments);
        return ctl_fail(&err);
    }
    if (!ctl->timeout_said) /* what a command does may take long */
        ctl->connection.patience = -1;
    if (!argc)
        status = ctl_shell(ctl);
    else if (ctl_qmp_run(ctl, argv[0], arguments, &err) < 0)
        status = ctl_fail(&err);
    json_object_put(arguments);
    return status;
}

const struct ctl_command ctl_qmp_command = {
    "qmp", "[COMMAND [KEY=VALUE...|JSON]]",
    "run a QMP command and print what it returns; without one a shell, "
    "which reads commands",
    run_qmp
};

/* ---- complete ---- */

static struct json_object *ask(const char *command, void *arg)
{
    struct json_object *list;
    autoerr err = { 0 };

    return ctl_query(arg, command, NULL, &list, &err) < 0 ? NULL : list;
}

static int run_complete(struct ctl *ctl, int argc, char **argv)
{
    struct ctl_schema schema;
    struct ctl_completion c = { .schema = &schema, .ask = ask, .arg = ctl };
    autoerr err = { 0 };
    int r;

    if (argc != 1)
        return ctl_usage(&ctl_complete_command);
    if (ctl_open(ctl, &err) < 0 || ctl_schema_ask(ctl, &schema, &err) < 0)
        return ctl_fail(&err);
    r = ctl_complete(&c, argv[0]);
    printf("%zu\n", c.start);
    for (size_t i = 0; i < c.count; i++)
        puts(c.words[i]);
    ctl_completion_free(&c);
    ctl_schema_free(&schema);
    return r < 0 ? CTL_USAGE : CTL_OK;
}

const struct ctl_command ctl_complete_command = {
    "complete", "LINE",
    "print how LINE, the beginning of a command of qmp, may go on: for the completion of shells",
    run_complete
};
