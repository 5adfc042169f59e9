/* SPDX-License-Identifier: MIT */
/* `ringblkctl exports`: a table of what is exported. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

/* The member of @o by a path of names, ended by NULL; NULL when it is not there. */
static struct json_object *get(struct json_object *o, const char *const *path)
{
    for (; *path; path++)
        if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, *path, &o))
            return NULL;
    return o;
}
#define GET(o, ...) get(o, (const char *const[]){ __VA_ARGS__, NULL })

/* What query-block says of a device. */
static struct json_object *device(struct json_object *blocks, const char *id)
{
    for (size_t i = 0;
         json_object_is_type(blocks, json_type_array) && id && i < json_object_array_length(blocks);
         i++) {
        struct json_object *b = json_object_array_get_idx(blocks, i);
        const char *name = json_object_get_string(GET(b, "device"));

        if (name && strcmp(name, id) == 0)
            return b;
    }
    return NULL;
}

static void add_row(struct ctl_table *t, struct json_object *export, struct json_object *blocks)
{
    struct json_object *b = device(blocks, json_object_get_string(GET(export, "id")));
    struct json_object *size = b ? GET(b, "inserted", "image", "virtual-size") : NULL;
    struct json_object *ro = b ? GET(b, "inserted", "ro") : NULL;
    char text[CTL_NUMBER_MAX];

    ctl_table_add(t, json_object_get_string(GET(export, "id")));
    ctl_table_add(t, json_object_get_string(GET(export, "type")));
    ctl_table_add(t, json_object_get_string(GET(export, "node-name")));
    ctl_table_add(t, size ? ctl_size_text(json_object_get_double(size), text) : "-");
    ctl_table_add(t, !ro ? "-" : json_object_get_boolean(ro) ? "ro" : "rw");
    ctl_table_add(t, !b ? "-" : json_object_get_boolean(GET(b, "locked")) ? "yes" : "no");
    ctl_table_add(t, json_object_get_boolean(GET(export, "shutting-down")) ? "ending" : "up");
}

static int print_table(struct json_object *exports, struct json_object *blocks)
{
    static const char *const head[] = {
        "ID", "TYPE", "NODE", "SIZE", "NODE-IS", "CLIENTS", "STATE"
    };
    static const bool right[] = { false, false, false, true, false, false, false };
    struct ctl_table t = { .columns = 7, .right = right };
    int r;

    for (unsigned i = 0; i < 7; i++)
        ctl_table_add(&t, head[i]);
    for (size_t i = 0; i < json_object_array_length(exports); i++)
        add_row(&t, json_object_array_get_idx(exports, i), blocks);
    r = ctl_table_print(&t, stdout);
    ctl_table_clear(&t);
    return r < 0 ? CTL_TROUBLE : CTL_OK;
}

static int run_exports(struct ctl *ctl, int argc, char **argv)
{
    struct json_object *exports = NULL, *blocks = NULL;
    autoerr err = { 0 };
    int status;

    (void)argv;
    if (argc)
        return ctl_usage(&ctl_exports_command);
    if (ctl_connect(ctl->socket, &ctl->connection, &err) < 0 ||
        ctl_execute(&ctl->connection, "query-block-exports", NULL, &exports, &err) < 0)
        return ctl_fail(&err);
    if (ctl->json)
        status = ctl_print(exports);
    else if (!json_object_is_type(exports, json_type_array))
        status = (err_set(&err, -EPROTO, "query-block-exports returned no list"), ctl_fail(&err));
    else if (ctl_execute(&ctl->connection, "query-block", NULL, &blocks, &err) < 0)
        status = ctl_fail(&err);
    else
        status = print_table(exports, blocks);
    json_object_put(exports);
    json_object_put(blocks);
    return status;
}

const struct ctl_command ctl_exports_command = { "exports", "", "list the exports", run_exports };
