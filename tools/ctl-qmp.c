/* SPDX-License-Identifier: MIT */
/* `ringblkctl qmp COMMAND ...` and `ringblkctl events`: QMP as it is. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <string.h>
#include <time.h>

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
        return CTL_TROUBLE;
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
    if (ctl_connect(ctl->socket, &ctl->connection, &err) < 0) {
        status = ctl_fail(&err);
    } else if (ctl_execute(&ctl->connection, argv[0], arguments, &result, &err) < 0) {
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

/* ---- events ---- */

static void print_event(struct json_object *event)
{
    struct json_object *time = NULL, *seconds = NULL, *micros = NULL, *name = NULL, *data = NULL;
    autofree char *name_text = NULL, *data_text = NULL;
    char when[32] = "?";
    struct tm tm;
    time_t t;

    json_object_object_get_ex(event, "event", &name);
    json_object_object_get_ex(event, "data", &data);
    if (json_object_object_get_ex(event, "timestamp", &time) &&
        json_object_is_type(time, json_type_object)) {
        json_object_object_get_ex(time, "seconds", &seconds);
        json_object_object_get_ex(time, "microseconds", &micros);
    }
    t = (time_t)json_object_get_int64(seconds);
    if (localtime_r(&t, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    name_text = json_object_get_string(name) ? ctl_escape(json_object_get_string(name)) : NULL;
    data_text = data ? json_text(data) : NULL;
    printf("%s.%06" PRId64 " %s%s%s\n", when, json_object_get_int64(micros),
           name_text ? name_text : "?", data_text ? " " : "", data_text ? data_text : "");
}

static int run_events(struct ctl *ctl, int argc, char **argv)
{
    autoerr err = { 0 };

    (void)argv;
    if (argc)
        return ctl_usage(&ctl_events_command);
    if (ctl_connect(ctl->socket, &ctl->connection, &err) < 0)
        return ctl_fail(&err);
    for (;;) {
        struct json_object *message;

        if (ctl_read(&ctl->connection, -1, &message, &err) < 0)
            return ctl_fail(&err);
        if (json_object_object_get_ex(message, "event", NULL)) {
            if (ctl->json)
                ctl_print(message);
            else
                print_event(message);
            fflush(stdout);
        }
        json_object_put(message);
    }
}

const struct ctl_command ctl_events_command = { "events", "", "print events as they come",
                                                run_events };
