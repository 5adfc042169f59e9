/* SPDX-License-Identifier: MIT */
/* Commands about the control channel itself, and the end of the daemon. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "config.h"
#include "qmp/commands.h"
#include "qmp/schema-info.h"
#include "qmp/version.h"
#include "uring/ring.h"

/* ---- qmp_capabilities ---- */

enum capability { CAPABILITY_OOB };

static const char *const capability_names[] = { "oob", NULL };
static ROW_ENUM_TYPE(row_capability, "QMPCapability", capability_names,
                     .help = "What a client may switch on");
static ROW_LIST_TYPE(row_capability_list, row_capability);

struct capabilities_args {
    struct row_list enable;
};

static const struct row capabilities_rows[] = {
    ROW_OPT(struct capabilities_args, "enable", enable, row_capability_list,
            .help = "What to switch on"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_capabilities_args, "qmp_capabilities-arg", struct capabilities_args,
                       capabilities_rows);

static int co_fn capabilities(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct capabilities_args *a = args;

    (void)result;
    return monitor_negotiate(m, a->enable.n > 0, err);
}

/* ---- query-version ---- */
struct version_triple {
    int64_t major, minor, micro;
};

struct version {
    struct version_triple qemu;
    char *package;
};

static const struct row triple_rows[] = {
    ROW_REQ(struct version_triple, "major", major, row_int, .help = "The major version"),
    ROW_REQ(struct version_triple, "minor", minor, row_int, .help = "The minor version"),
    ROW_REQ(struct version_triple, "micro", micro, row_int, .help = "The micro version"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_triple, "VersionTriple", struct version_triple, triple_rows);

static const struct row version_rows[] = {
    ROW_REQ(struct version, "qemu", qemu, row_triple,
            .help = "The version of QEMU whose commands are understood"),
    ROW_REQ(struct version, "package", package, row_str, .help = "Our own name and version"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_version, "VersionInfo", struct version, version_rows);

struct json_object *qmp_version(void)
{
    const struct version v = { { QMP_MAJOR, QMP_MINOR, QMP_MICRO },
                               (char *)"ringblk " PACKAGE_VERSION };

    return row_print(&row_version, &v);
}

static int co_fn query_version(struct monitor *m, void *args, void *result, struct err *err)
{
    struct version *v = result;

    (void)m;
    (void)args;
    v->qemu = (struct version_triple){ QMP_MAJOR, QMP_MINOR, QMP_MICRO };
    v->package = strdup("ringblk " PACKAGE_VERSION);
    return v->package ? 0 : err_set(err, -ENOMEM, "Out of memory");
}

/* ---- query-commands ---- */

struct command_info {
    char *name;
};

static const struct row command_rows[] = {
    ROW_REQ(struct command_info, "name", name, row_str, .help = "The command's name"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_command, "CommandInfo", struct command_info, command_rows);
static ROW_LIST_TYPE(row_commands, row_command);

static int co_fn query_commands(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)args;
    for (const struct qmp_command *c = qmp_next(NULL); c; c = qmp_next(c)) {
        struct command_info *info = row_list_append(&row_commands, result);
        if (!info || !(info->name = strdup(c->name)))
            return err_set(err, -ENOMEM, "Out of memory");
    }
    return 0;
}

/* ---- query-qmp-schema ---- */

static int co_fn query_schema(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)args;
    *(struct json_object **)result = qmp_schema();
    return *(struct json_object **)result ? 0 : err_set(err, -ENOMEM, "Out of memory");
}

/* ---- quit ---- */

static void (*quit_hook)(void);
static bool quitting;

void qmp_set_quit(void (*quit)(void))
{
    quit_hook = quit;
}

static void quit_now(struct work *w)
{
    (void)w;
    quitting = false;
    quit_hook();
}

static int co_fn quit(struct monitor *m, void *args, void *result, struct err *err)
{
    static struct work later;

    (void)m;
    (void)args;
    (void)result;
    (void)err;
    if (!quit_hook || quitting)
        return 0;
    quitting = true;
    later.fn = quit_now;
    ring_post(ring_control(), &later);
    return 0;
}

/* ---- SHUTDOWN ---- */

struct shutdown_event {
    bool guest;
    int reason;
};

static const char *const reason_names[] = { "host-qmp-quit", "host-signal", "host-error", NULL };
static ROW_ENUM_TYPE(row_reason, "ShutdownCause", reason_names, .help = "Why the daemon stops");

static const struct row shutdown_rows[] = {
    ROW_REQ(struct shutdown_event, "guest", guest, row_bool, .help = "Always false here"),
    ROW_REQ(struct shutdown_event, "reason", reason, row_reason, .help = "Why the daemon stops"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_shutdown, "SHUTDOWN-arg", struct shutdown_event, shutdown_rows);

const struct event_type event_shutdown = {
    .name = "SHUTDOWN",
    .data = &row_shutdown,
    .help = "The daemon is about to stop",
};

void qmp_send_shutdown(enum shutdown_reason reason)
{
    struct shutdown_event data = { .guest = false, .reason = reason };

    event_send(&event_shutdown, &data);
}

const struct qmp_command qmp_monitor_commands[] = {
    { .name = "qmp_capabilities",
      .args = &row_capabilities_args,
      .flags = QMP_NEGOTIATION,
      .run = capabilities,
      .help = "End the negotiation, switching on what the client wants; commands may follow" },
    { .name = "query-version",
      .result = &row_version,
      .flags = QMP_ALLOW_OOB,
      .run = query_version,
      .help = "Which version this is" },
    { .name = "query-commands",
      .result = &row_commands,
      .run = query_commands,
      .help = "The names of all commands" },
    { .name = "query-qmp-schema",
      .result = &row_schema_infos,
      .flags = QMP_PRINTED,
      .run = query_schema,
      .help = "All commands, events and types, for programs" },
    { .name = "quit",
      .flags = QMP_WHILE_STOPPING,
      .run = quit,
      .help = "Stop the daemon; all that was written is flushed first" },
    { 0 },
};
