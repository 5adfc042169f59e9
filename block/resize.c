/* SPDX-License-Identifier: MIT */
/*
 * Growing and shrinking a node: one edit, with everything that can reach it
 * drained.  The driver changes its storage; then all above learn of it.
 */
#include <errno.h>

#include "block/edit.h"
#include "block/io.h"

/* Parents take over what they derive from the node; roots tell their owners. */
static void tell_parents(struct node *n)
{
    struct edge *e;

    list_for_each (e, &n->parents, in_child) {
        if (e->parent_node) {
            if (e->parent_node->driver->refresh) {
                e->parent_node->driver->refresh(e->parent_node);
                tell_parents(e->parent_node);
            }
        } else if (e->parent_root->driver && e->parent_root->driver->resized) {
            e->parent_root->driver->resized(e->parent_root, node_size(n));
        }
    }
}

static struct edge *filtered(const struct node *n)
{
    struct edge *e;

    list_for_each (e, &n->children, in_parent)
        if (e->role == ROLE_FILTERED)
            return e;
    return NULL;
}

static int co_fn resize(struct node *n, struct operation *o, uint64_t size, bool exact,
                        enum io_flags flags, struct err *err)
{
    struct edge *e = filtered(n);
    int result;

    if (n->read_only)
        return err_set(err, -EACCES, "Image is read-only");
    if (!(n->shared & PERM_RESIZE))
        return err_set(err, -EPERM,
                       "Node '%s' is used by something that does not allow it to be resized",
                       node_label(n));
    if (!n->driver->resize && !e)
        return err_set(err, -ENOTSUP, "Image format driver does not support resize");
    if (n->driver->resize)
        result = n->driver->resize(n, o, size, exact, flags, err);
    else
        result = resize(e->child, o, size, exact, flags, err);
    if (result < 0)
        return result;
    if (n->driver->refresh)
        n->driver->refresh(n);
    else
        atomic_store(&n->size, size);
    return 0;
}

int co_fn io_resize_child(struct operation *o, struct edge *e, uint64_t size, bool exact,
                          enum io_flags flags, struct err *err)
{
    return resize(e->child, o, size, exact, flags, err);
}

int co_fn io_resize(struct node *n, uint64_t size, struct err *err)
{
    struct edit *edit = edit_begin("resize");

    if (edit_drain(edit, n, err) < 0 || resize(n, NULL, size, true, 0, err) < 0) {
        edit_abort(edit);
        return err->code;
    }
    tell_parents(n);
    return edit_commit(edit, err);
}
