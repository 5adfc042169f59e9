/* SPDX-License-Identifier: MIT */
/* `ringblkctl exports`: a table of what is exported. */
#include "tools/ctl-json.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

enum { COLUMNS = 10 };

/* "rw" or "ro" by what the export says of itself; older daemons and others say it of the device only. */
static const char *access_of(struct json_object *export, struct json_object *device)
{
    struct json_object *writable = CTL_GET(export, "writable");
    struct json_object *ro = CTL_GET(device, "inserted", "ro");

    if (writable)
        return json_object_get_boolean(writable) ? "rw" : "ro";
    return !ro ? "" : json_object_get_boolean(ro) ? "ro" : "rw";
}

static void add_row(struct ctl_table *t, struct json_object *export, struct json_object *device)
{
    struct json_object *size = CTL_GET(device, "inserted", "image", "virtual-size");
    struct json_object *where = CTL_GET(export, "uri");
    char text[CTL_NUMBER_MAX];

    ctl_table_add(t, ctl_string(CTL_GET(export, "id")));
    ctl_table_add(t, ctl_string(CTL_GET(export, "type")));
    ctl_table_add(t, ctl_string(CTL_GET(export, "node-name")));
    ctl_table_add(t, size ? ctl_size_text(json_object_get_double(size), text) : "");
    ctl_table_add(t, access_of(export, device));
    ctl_table_add(t, !device                                              ? ""
                     : json_object_get_boolean(CTL_GET(device, "locked")) ? "yes"
                                                                          : "no");
    ctl_table_add(t, json_object_get_boolean(CTL_GET(export, "shutting-down")) ? "ending" : "up");
    ctl_table_add(t, ctl_string(CTL_GET(export, "server")));
    ctl_table_add(t, ctl_string(CTL_GET(export, "name")));
    ctl_table_add(t, ctl_string(where ? where : CTL_GET(export, "device")));
}

static int print_table(struct json_object *exports, struct json_object *devices)
{
    static const char *const head[COLUMNS] = { "ID",      "TYPE",  "NODE",   "SIZE", "ACCESS",
                                               "CLIENTS", "STATE", "SERVER", "NAME", "CONNECT-TO" };
    static const bool right[COLUMNS] = { [3] = true };
    struct ctl_table t = { .columns = COLUMNS, .right = right, .drop_empty = true };
    int r;

    for (unsigned i = 0; i < COLUMNS; i++)
        ctl_table_add(&t, head[i]);
    for (size_t i = 0; i < ctl_length(exports); i++) {
        struct json_object *export = ctl_at(exports, i);
        add_row(&t, export, ctl_find_near(devices, i, "device", ctl_string(CTL_GET(export, "id"))));
    }
    r = ctl_table_print(&t, stdout);
    ctl_table_clear(&t);
    return r;
}

static int run_exports(struct ctl *ctl, int argc, char **argv)
{
    struct json_object *exports = NULL, *devices = NULL;
    autoerr err = { 0 };
    int status = CTL_OK;

    (void)argv;
    if (argc)
        return ctl_usage(&ctl_exports_command);
    if (ctl_open(ctl, &err) < 0 ||
        ctl_query(ctl, "query-block-exports", NULL, &exports, &err) < 0 ||
        (!ctl->json && ctl_query(ctl, "query-block", NULL, &devices, &err) < 0))
        status = ctl_fail(&err);
    else if (ctl->json)
        status = ctl_print(exports);
    else if (print_table(exports, devices) < 0)
        status = CTL_USAGE;
    json_object_put(exports);
    json_object_put(devices);
    return status;
}

const struct ctl_command ctl_exports_command = { "exports", "", "list the exports", run_exports };
