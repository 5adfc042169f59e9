/* SPDX-License-Identifier: MIT */
/* Growing and shrinking nodes. */
#include <errno.h>
#include <inttypes.h>

#include "block/edit.h"
#include "block/io.h"
#include "block/road.h"

static struct edge *child_of_role(const struct node *n, enum edge_role role)
{
    struct edge *e;
    list_for_each (e, &n->children, in_parent)
        if (e->role == role)
            return e;
    return NULL;
}

/* A backing file that is longer than the old size must not show through the new bytes. */
static int co_fn hide_backing(struct operation *o, struct node *n, uint64_t old, struct err *err)
{
    const struct edge *e = child_of_role(n, ROLE_BACKING);
    uint64_t end = e ? node_size(e->child) : 0, size = node_size(n);
    if (end > size)
        end = size;
    if (end <= old)
        return 0;
    struct road w = { .operation = o };
    const struct stop first = { .node = n, .kind = ROAD_ZERO, .at = old, .len = end - old };
    int r = road_run(&w, &first);
    return r < 0 ? err_set_errno(err, r, "Failed to zero the new end of node '%s'", node_label(n))
                 : 0;
}

static int co_fn resize_node(struct operation *o, struct node *n, uint64_t size, bool exact,
                             enum io_flags flags, struct err *err)
{
    uint64_t old = node_size(n);
    struct edge *filtered = child_of_role(n, ROLE_FILTERED);
    int r;
    if (size > INT64_MAX)
        return err_set(err, -EFBIG, "Node '%s' cannot have %" PRIu64 " bytes", node_label(n), size);
    if (n->read_only)
        return err_set(err, -EACCES, "Image is read-only");
    if (n->driver->resize)
        r = n->driver->resize(n, o, size, exact, flags, err);
    else if (n->driver->kind == DRIVER_FILTER && filtered)
        r = io_resize_child(o, filtered, size, exact, flags, err);
    else
        r = err_set(err, -ENOTSUP, "Image format driver does not support resize");
    if (r < 0)
        return r;
    r = hide_backing(o, n, old, err);
    if (node_size(n) != old)
        node_changed(n);
    return r;
}

int co_fn io_resize_child(struct operation *o, struct edge *e, uint64_t size, bool exact,
                          enum io_flags flags, struct err *err)
{
    return resize_node(o, e->child, size, exact, flags, err);
}

/* As a root of its own, so that the permissions of the other users of the node are asked. */
static int co_fn resize_as_root(struct node *n, uint64_t size, struct err *err)
{
    struct root *root = root_new("block_resize", ROOT_COMMAND, NULL, err);
    if (!root)
        return err->code;
    struct edge *e;
    int r = edge_attach(NULL, root, n, "root", ROLE_FILE, PERM_RESIZE, PERM_ALL, &e, err);
    if (r == 0) {
        struct operation o;
        operation_enter(&o, root);
        r = resize_node(&o, n, size, true, 0, err);
        operation_end(&o);
        edge_detach(e);
    }
    root_free(root);
    return r;
}

int co_fn io_resize(struct node *n, uint64_t size, struct err *err)
{
    struct edit *edit = edit_begin("block_resize");
    const struct edit_change change = { .kind = EDIT_NODE_RESIZED, .name = n->name, .size = size };
    int r = edit_note(edit, &change, err);
    if (r == 0)
        r = edit_drain_below(edit, n, err); /* the nodes below change their size, too */
    if (r == 0)
        r = edit_journal(edit, err); /* bytes that were cut off do not come back */
    if (r == 0)
        r = resize_as_root(n, size, err);
    if (r == 0)
        return edit_commit(edit, err);
    edit_abort(edit);
    return r;
}
