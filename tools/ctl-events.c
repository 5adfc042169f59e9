/* SPDX-License-Identifier: MIT */
/* `ringblkctl events`: what happens, as it comes. */
#include <inttypes.h>
#include <time.h>

#include "base/cleanup.h"
#include "tools/ctl-json.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

void ctl_print_event(struct json_object *event)
{
    struct json_object *seconds = CTL_GET(event, "timestamp", "seconds");
    struct json_object *micros = CTL_GET(event, "timestamp", "microseconds");
    struct json_object *data = CTL_GET(event, "data");
    const char *name = ctl_string(CTL_GET(event, "event"));
    autofree char *name_text = ctl_escape(name ? name : "?");
    autofree char *data_text = data ? json_text(data) : NULL;
    char when[32] = "?";
    struct tm tm;
    time_t t;

    t = (time_t)json_object_get_int64(seconds);
    if (localtime_r(&t, &tm))
        strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
    printf("%s.%06" PRId64 " %s%s%s\n", when, json_object_get_int64(micros),
           name_text ? name_text : "?", data_text ? " " : "", data_text ? data_text : "");
}

static int run_events(struct ctl *ctl, int argc, char **argv)
{
    autoerr err = { 0 };

    (void)argv;
    if (argc)
        return ctl_usage(&ctl_events_command);
    if (ctl_open(ctl, &err) < 0)
        return ctl_fail(&err);
    for (;;) {
        struct json_object *message;

        if (ctl_read(&ctl->connection, -1, &message, &err) < 0)
            return ctl_fail(&err);
        if (json_object_object_get_ex(message, "event", NULL)) {
            if (ctl->json)
                ctl_print(message);
            else
                ctl_print_event(message);
            fflush(stdout);
        }
        json_object_put(message);
    }
}

const struct ctl_command ctl_events_command = { "events", "", "print events as they come",
                                                run_events };
