/* SPDX-License-Identifier: MIT */
/*
 * The monitor's nodes.  Opening is slow and comes before the edit; the edit
 * makes the node the monitor's, so that it is journalled like any other change.
 */
#include "block/blockdev.h"

#include <errno.h>

#include "block/edit.h"
#include "block/root.h"

static void own(void *arg)
{
    struct node *n = arg;
    n->monitor_ref = true;
}

/* Takes the caller's reference over. */
static int co_fn give_to_monitor(struct node *n, struct err *err)
{
    struct edit *e = edit_begin("blockdev-add");
    const struct edit_step step = { .commit = own, .arg = n };
    const struct edit_change change = {
        .kind = EDIT_NODE_ADDED, .name = n->name, .type = &row_blockdev_options, .options = n->said
    };
    int result = edit_step(e, &step, err);
    if (result == 0)
        result = edit_note(e, &change, err);
    if (result < 0)
        edit_abort(e);
    else
        result = edit_commit(e, err);
    if (result < 0)
        node_unref(n);
    return result;
}

int co_fn blockdev_add(const struct blockdev_options *options, struct err *err)
{
    struct node *n;
    if (!options->node_name)
        return err_set(err, -EINVAL, "'node-name' must be specified for the root node");
    if (node_open(options, NULL, ROLE_FILE, &n, err) < 0)
        return err->code;
    return give_to_monitor(n, err);
}

static bool has_root(const struct node *n)
{
    const struct edge *e;
    list_for_each (e, &n->parents, in_child) {
        if (e->parent_root)
            return true;
    }
    return false;
}

static int check_del(const char *name, struct node **out, struct err *err)
{
    struct node *n = *out = node_find(name);
    if (!n)
        return err_set(err, -ENOENT, "Failed to find node with node-name='%s'", name);
    if (has_root(n))
        return err_set(err, -EBUSY, "Node %s is in use", name);
    if (!n->monitor_ref)
        return err_set(err, -EPERM, "Node %s is not owned by the monitor", name);
    if (n->refs > 1)
        return err_set(err, -EBUSY, "Block device %s is in use", name);
    return 0;
}

/* While the journal is written nobody may begin to use what will be gone. */
static void hide(struct node *n)
{
    n->visible = false;
    n->monitor_ref = false;
}

static void co_fn unhide(void *arg)
{
    struct node *n = arg;
    n->visible = true;
    n->monitor_ref = true;
}

static void co_fn drop(void *arg)
{
    struct node *n = arg;
    if (!n->monitor_ref)
        node_unref(n);
}

int co_fn blockdev_del(const char *name, struct err *err)
{
    struct node *n;
    struct edit *e = edit_begin("blockdev-del");
    if (check_del(name, &n, err) < 0) {
        edit_abort(e);
        return err->code;
    }
    const struct edit_change change = { .kind = EDIT_NODE_REMOVED, .name = n->name };
    const struct edit_step step = { .abort = unhide, .clean = drop, .arg = n };
    if (edit_note(e, &change, err) < 0 || edit_step(e, &step, err) < 0) {
        edit_abort(e);
        return err->code;
    }
    hide(n);
    return edit_commit(e, err);
}

static struct node *newest_owned(void)
{
    struct node *found = NULL;
    for (struct node *n = node_first(); n; n = node_next(n))
        if (n->monitor_ref)
            found = n;
    return found;
}

void co_fn blockdev_close_all(void)
{
    struct node *n;
    while ((n = newest_owned())) {
        n->monitor_ref = false;
        node_unref(n);
    }
}
