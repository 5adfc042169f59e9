/* SPDX-License-Identifier: MIT */
/* Commands for exports and NBD servers. */
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "exports/nbd.h"
#include "qmp/commands.h"

static int co_fn server_start(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)result;
    return nbd_server_start(args, monitor_resolve_fd, m, err);
}

struct server_stop_args {
    char *id;
};

static const struct row server_stop_rows[] = {
    ROW_OPT(struct server_stop_args, "id", id, row_str, .since = "0.1",
            .help = "The server; default: the one without an id"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_server_stop_args, "nbd-server-stop-arg", struct server_stop_args,
                       server_stop_rows);

static int co_fn server_stop(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return nbd_server_stop(((struct server_stop_args *)args)->id, err);
}

static int co_fn add(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return export_add(args, NULL, err);
}

static const char *const mode_names[] = { "safe", "hard", NULL };
static ROW_ENUM_TYPE(row_mode, "BlockExportRemoveMode", mode_names,
                     .help = "safe: not while it is in use; hard: its clients are cut off");

struct del_args {
    char *id;
    int mode;
};

static const struct row del_rows[] = {
    ROW_REQ(struct del_args, "id", id, row_str, .help = "The export"),
    ROW_OPT(struct del_args, "mode", mode, row_mode, .fallback = "safe",
            .help = "What to do about its clients; default: safe"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_del_args, "block-export-del-arg", struct del_args, del_rows);

static int co_fn del(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct del_args *a = args;

    (void)m;
    (void)result;
    return export_del(a->id, (enum export_remove_mode)a->mode, err);
}

/* ---- the older commands ---- */

struct nbd_add_args {
    char *device, *name, *description, *bitmap;
    bool writable;
};

static const struct row nbd_add_rows[] = {
    ROW_REQ(struct nbd_add_args, "device", device, row_str,
            .help = "The node to export, or an export whose node it is"),
    ROW_OPT(struct nbd_add_args, "name", name, row_str, .help = "Default: the device"),
    ROW_OPT(struct nbd_add_args, "description", description, row_str, .help = "Free text"),
    ROW_OPT(struct nbd_add_args, "writable", writable, row_bool,
            .help = "May clients write, unless the node is read-only? Default: no"),
    ROW_OPT(struct nbd_add_args, "bitmap", bitmap, row_str, .help = "A dirty bitmap to offer"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_nbd_add_args, "nbd-server-add-arg", struct nbd_add_args, nbd_add_rows);

/* The name of the node that @device means, an export's first; the caller's to free. */
static char *node_of_device(const char *device, struct err *err)
{
    const struct export *x = export_find(device);
    const struct node *n = x ? root_node(x->root) : NULL;
    char *name = strdup(n ? n->name : device);

    if (!name)
        err_set(err, -ENOMEM, "Out of memory");
    return name;
}

static int co_fn nbd_add(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct nbd_add_args *a = args;
    const char *name = a->name ? a->name : a->device;
    autofree char *node_name = node_of_device(a->device, err);
    const struct node *n = node_name ? node_find(node_name) : NULL;
    struct nbd_export_options nbd = { .name = (char *)name, .description = a->description };
    struct block_export_options o = {
        .type = row_enum_value(&row_block_export_type, "nbd"),
        .id = (char *)name,
        .node_name = node_name,
        /* Unlike block-export-add, this one serves a read-only node as it is. */
        .writable = a->writable && !(n && n->read_only && !n->options.auto_read_only),
        .account_invalid = true,
        .account_failed = true,
        .rerror = ON_ERROR_AUTO,
        .werror = ON_ERROR_AUTO,
        .driver_options = &nbd,
    };

    (void)m;
    (void)result;
    if (!node_name)
        return err->code;
    if (a->bitmap) {
        nbd.bitmaps.v = (void *)&a->bitmap;
        nbd.bitmaps.n = 1;
    }
    if (!nbd_server_running(NULL))
        return err_set(err, -ENOENT, "NBD server not running");
    if (nbd_export_by_name(NULL, name))
        return err_set(err, -EEXIST, "NBD server already has export named '%s'", name);
    return export_add(&o, NULL, err);
}

struct nbd_remove_args {
    char *name;
    int mode;
};

static const struct row nbd_remove_rows[] = {
    ROW_REQ(struct nbd_remove_args, "name", name, row_str, .help = "The export's name or id"),
    ROW_OPT(struct nbd_remove_args, "mode", mode, row_mode, .fallback = "safe",
            .help = "What to do about its clients; default: safe"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_nbd_remove_args, "nbd-server-remove-arg", struct nbd_remove_args,
                       nbd_remove_rows);

static int co_fn nbd_remove(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct nbd_remove_args *a = args;
    struct export *x = nbd_export_by_name(NULL, a->name);

    (void)m;
    (void)result;
    return export_del(x ? x->id : a->name, (enum export_remove_mode)a->mode, err);
}

/* ---- query-block-exports ---- */

struct export_info {
    char *id, *node_name;
    int type;
    bool shutting_down, writable;
    struct export_door door;
};

static const struct row info_rows[] = {
    ROW_REQ(struct export_info, "id", id, row_str, .help = "Its id"),
    ROW_REQ(struct export_info, "type", type, row_block_export_type, .help = "Its kind"),
    ROW_REQ(struct export_info, "node-name", node_name, row_str, .help = "The exported node"),
    ROW_REQ(struct export_info, "shutting-down", shutting_down, row_bool,
            .help = "It waits for its last client to leave"),
    ROW_REQ(struct export_info, "writable", writable, row_bool, .since = "0.1",
            .help = "Clients may write"),
    ROW_OPT(struct export_info, "name", door.name, row_str, .since = "0.1",
            .help = "What NBD clients call it"),
    ROW_OPT(struct export_info, "server", door.server, row_str, .since = "0.1",
            .help = "The id of its NBD server; absent: the default one"),
    ROW_OPT(struct export_info, "uri", door.uri, row_str, .since = "0.1",
            .help = "Where NBD clients find it, if a URI can say that"),
    ROW_OPT(struct export_info, "device", door.device, row_str, .since = "0.1",
            .help = "The disk of this host that it is"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_export_info, "BlockExportInfo", struct export_info, info_rows);
static ROW_LIST_TYPE(row_export_infos, row_export_info);

static int co_fn query(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)args;
    for (struct export *x = export_first(); x; x = export_next(x)) {
        struct export_info *info = row_list_append(&row_export_infos, result);
        struct node *n = root_node(x->root);

        if (!info)
            return err_set(err, -ENOMEM, "Out of memory");
        info->id = strdup(x->id);
        info->node_name = strdup(n ? n->name : x->said->node_name);
        info->type = x->said->type;
        info->shutting_down = x->shutting_down;
        info->writable = x->writable;
        if (!info->id || !info->node_name ||
            (x->driver->describe && x->driver->describe(x, &info->door) < 0))
            return err_set(err, -ENOMEM, "Out of memory");
    }
    return 0;
}

const struct qmp_command qmp_export_commands[] = {
    { .name = "nbd-server-start",
      .args = &row_nbd_server_options_legacy,
      .run = server_start,
      .help = "Listen for NBD clients" },
    { .name = "nbd-server-stop",
      .args = &row_server_stop_args,
      .run = server_stop,
      .help = "Stop listening, cut off all clients, remove all exports of the server" },
    { .name = "nbd-server-add",
      .args = &row_nbd_add_args,
      .flags = QMP_DEPRECATED,
      .run = nbd_add,
      .help = "Export a node over NBD; the older form of block-export-add" },
    { .name = "nbd-server-remove",
      .args = &row_nbd_remove_args,
      .flags = QMP_DEPRECATED,
      .run = nbd_remove,
      .help = "Remove an export; the older form of block-export-del" },
    { .name = "block-export-add",
      .args = &row_block_export_options,
      .run = add,
      .help = "Export a node" },
    { .name = "block-export-del",
      .args = &row_del_args,
      .run = del,
      .help = "Remove an export; BLOCK_EXPORT_DELETED tells when it is gone" },
    { .name = "query-block-exports",
      .result = &row_export_infos,
      .run = query,
      .help = "All exports" },
    { 0 },
};
