/* SPDX-License-Identifier: MIT */
/* `help` in the shell: what commands there are, what arguments they take. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/ctl-json.h"
#include "tools/ctl-shell.h"
#include "tools/ctl-table.h"
#include "tools/ctl.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(ctl_string(CTL_GET(*(struct json_object *const *)a, "name")),
                  ctl_string(CTL_GET(*(struct json_object *const *)b, "name")));
}

static int print_commands(const struct ctl_schema *schema)
{
    size_t count = 0, all = ctl_length(schema->list);
    autofree struct json_object **infos = calloc(all + 1, sizeof(*infos));
    struct ctl_table t = { .columns = 2 };
    int r;

    if (!infos)
        return -ENOMEM;
    for (size_t i = 0; i < all; i++) {
        struct json_object *info = ctl_at(schema->list, i);

        if (strcmp(ctl_schema_kind(info), "command") == 0 && ctl_string(CTL_GET(info, "name")))
            infos[count++] = info;
    }
    qsort(infos, count, sizeof(*infos), by_name);
    for (size_t i = 0; i < count; i++) {
        const char *name = ctl_string(CTL_GET(infos[i], "name"));
        const struct qmp_command *c = ctl_qmp_find(name);

        ctl_table_addf(&t, "  %s", name);
        ctl_table_add(&t, c ? c->help : "");
    }
    r = ctl_table_print(&t, stdout);
    ctl_table_clear(&t);
    return r;
}

/* What the schema says of a command that has no rows here. */
static int print_members(const struct ctl_schema *schema, const char *command)
{
    struct json_object *members = CTL_GET(ctl_schema_arguments(schema, command), "members");
    struct ctl_table t = { .columns = 2 };
    int r;

    for (size_t i = 0; i < ctl_length(members); i++) {
        struct json_object *member = ctl_at(members, i);
        struct json_object *type = ctl_schema_member_type(schema, member);
        const char *builtin = ctl_string(CTL_GET(type, "json-type"));

        ctl_table_addf(&t, "  %s=<%s>", ctl_string(CTL_GET(member, "name")),
                       builtin ? builtin : ctl_schema_kind(type));
        ctl_table_add(&t, json_object_object_get_ex(member, "default", NULL) ? "" : "[needed]");
    }
    r = ctl_table_print(&t, stdout);
    ctl_table_clear(&t);
    return r;
}

int ctl_help(const struct ctl_schema *schema, const char *command, struct err *err)
{
    const struct qmp_command *c = command ? ctl_qmp_find(command) : NULL;
    struct json_object *info = ctl_schema_find(schema, command);
    int r = 0;

    if (!command) {
        r = print_commands(schema);
        printf(
            "\nCOMMAND KEY=VALUE... runs one; help COMMAND tells its arguments; exit or Ctrl-D "
            "leaves.\n"
            "A tab completes; JSON is taken too: {\"execute\": COMMAND, \"arguments\": {...}}\n");
    } else if (strcmp(ctl_schema_kind(info), "command") != 0) {
        return err_set(err, -EREMOTEIO, "there is no command %s", command);
    } else if (c) {
        printf("%s: %s\n", c->name, c->help);
        if (c->args)
            row_help(c->args, stdout);
    } else {
        printf("%s\n", command);
        r = print_members(schema, command);
    }
    return r < 0 ? err_set(err, r, "out of memory") : 0;
}
