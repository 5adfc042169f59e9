/* SPDX-License-Identifier: MIT */
/* Commands that make, remove and change nodes. */
#include <errno.h>
#include <string.h>

#include "block/blockdev.h"
#include "block/io.h"
#include "exports/export.h"
#include "qmp/commands.h"

/* A name that is an export's (a device's) first, then a node's. */
static struct node *find_device(const char *device, const char *node_name, struct err *err)
{
    struct export *x = device ? export_find(device) : NULL;
    struct node *n = x ? root_node(x->root) : NULL;

    if (!n && device)
        n = node_find(device);
    if (!n && node_name)
        n = node_find(node_name);
    if (!n && device)
        err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENODEV, "Device '%s' not found", device);
    else if (!n)
        err_set(err, -ENOENT, "Cannot find device='' nor node-name='%s'", node_name);
    return n;
}

static int co_fn add(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return blockdev_add(args, err);
}

struct node_name_args {
    char *node_name;
};

static const struct row node_name_rows[] = {
    ROW_REQ(struct node_name_args, "node-name", node_name, row_str, .help = "The node"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_node_name_args, "blockdev-del-arg", struct node_name_args,
                       node_name_rows);

static int co_fn del(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return blockdev_del(((struct node_name_args *)args)->node_name, err);
}

struct resize_args {
    char *device, *node_name;
    int64_t size;
};

static const struct row resize_rows[] = {
    ROW_OPT(struct resize_args, "device", device, row_str, .help = "An export, or a node"),
    ROW_OPT(struct resize_args, "node-name", node_name, row_str, .help = "A node"),
    ROW_REQ(struct resize_args, "size", size, row_int, .help = "The new size in bytes"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_resize_args, "block_resize-arg", struct resize_args, resize_rows);

static int co_fn resize(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct resize_args *a = args;
    struct node *n;
    int outcome;

    (void)m;
    (void)result;
    if (!a->device == !a->node_name)
        return err_set(err, -EINVAL, "Exactly one of 'device' and 'node-name' must be given");
    n = find_device(a->device, a->node_name, err);
    if (!n)
        return err->code;
    if (a->size < 0)
        return err_set(err, -EINVAL, "Parameter 'size' expects a >0 size");
    if (a->size % 512)
        return err_set(err, -EINVAL, "The new size must be a multiple of 512");
    node_ref(n);
    outcome = io_resize(n, (uint64_t)a->size, err);
    node_unref(n);
    return outcome;
}

struct threshold_args {
    char *node_name;
    uint64_t write_threshold;
};

static const struct row threshold_rows[] = {
    ROW_REQ(struct threshold_args, "node-name", node_name, row_str, .help = "The node"),
    ROW_REQ(struct threshold_args, "write-threshold", write_threshold, row_uint64,
            .help = "Bytes; 0: no event"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_threshold_args, "block-set-write-threshold-arg", struct threshold_args,
                       threshold_rows);

static int co_fn set_threshold(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct threshold_args *a = args;
    struct node *n = node_find(a->node_name);
    int outcome;

    (void)m;
    (void)result;
    if (!n)
        return err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENODEV, "Device '%s' not found",
                             a->node_name);
    node_ref(n);
    outcome = threshold_set(n, a->write_threshold, err);
    node_unref(n);
    return outcome;
}

struct passwd_args {
    char *device, *node_name, *password;
};

static const struct row passwd_rows[] = {
    ROW_OPT(struct passwd_args, "device", device, row_str, .help = "An export"),
    ROW_OPT(struct passwd_args, "node-name", node_name, row_str, .help = "A node"),
    ROW_REQ(struct passwd_args, "password", password, row_str, .help = "The password"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_passwd_args, "block_passwd-arg", struct passwd_args, passwd_rows);

static int co_fn passwd(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)args;
    (void)result;
    return err_set(err, -ENOTSUP,
                   "Setting block passwords directly is no longer supported: use a secret object");
}

const struct qmp_command qmp_block_commands[] = {
    { .name = "blockdev-add",
      .args = &row_blockdev_options,
      .run = add,
      .help = "Open an image as a node" },
    { .name = "blockdev-del",
      .args = &row_node_name_args,
      .run = del,
      .help = "Close a node that nothing uses" },
    { .name = "block_resize",
      .args = &row_resize_args,
      .run = resize,
      .help = "Grow or shrink a node; its exports follow" },
    { .name = "block-set-write-threshold",
      .args = &row_threshold_args,
      .run = set_threshold,
      .help = "Send BLOCK_WRITE_THRESHOLD once when a write ends past a byte" },
    { .name = "block_passwd",
      .args = &row_passwd_args,
      .flags = QMP_DEPRECATED,
      .run = passwd,
      .help = "Refused always: passwords are given as secret objects" },
    { 0 },
};
