/* SPDX-License-Identifier: MIT */
/*
 * Edges and permissions.  Every parent says of each child what it needs (perm)
 * and what it lets the child's other parents do (shared); a driver derives the
 * needs of its children from the sum of what its own parents need.
 *
 * A change is made in three phases.  The edges are changed, then the new
 * permissions are computed downwards into next_perm and next_shared until
 * nothing changes any more, checked, and offered to the drivers (PREPARE); then
 * they are put in force everywhere (COMMIT) or forgotten (ABORT) and the edges
 * changed back.  Drivers may yield, so a lock keeps changes one after another.
 */
#include "block/graph.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "block/io.h"
#include "block/root.h"

static struct turn graph_turn = TURN_INIT(graph_turn);

/* ---- a lock of the control ring ---- */

struct turn_waiter {
    struct list link;
    struct co *co;
};

void co_fn turn_take(struct turn *t)
{
    if (t->taken) {
        struct turn_waiter w = { .co = co_self() };
        list_push_back(&t->waiting, &w.link);
        co_yield (); /* whoever leaves hands it over */
    }
    t->taken = true;
}

void turn_leave(struct turn *t)
{
    struct list *item = list_pop_front(&t->waiting);
    if (item)
        co_wake(container_of(item, struct turn_waiter, link)->co);
    else
        t->taken = false;
}

/* ---- walks ---- */

uint64_t graph_new_walk(void)
{
    static uint64_t last;
    return ++last;
}

static void visit(struct list *todo, struct node *n, uint64_t walk)
{
    if (n->walk.visited == walk)
        return;
    n->walk.visited = walk;
    list_push_back(todo, &n->walk.todo);
}

/* Is @below reached from @above, going down? */
static bool leads_to(struct node *above, const struct node *below)
{
    uint64_t walk = graph_new_walk();
    struct list todo = LIST_INIT(todo), *item;
    visit(&todo, above, walk);
    while ((item = list_pop_front(&todo))) {
        struct edge *e;
        struct node *n = container_of(item, struct node, walk.todo);
        list_for_each (e, &n->children, in_parent)
            visit(&todo, e->child, walk);
    }
    return below->walk.visited == walk;
}

/* Into the list, highest first: a parent is always higher than its child. */
static void take_up(struct descent *d, struct node *n)
{
    struct list *at = d->todo.prev;
    if (n->walk.visited == d->number)
        return;
    n->walk.visited = d->number;
    while (at != &d->todo && container_of(at, struct node, walk.todo)->walk.height < n->walk.height)
        at = at->prev;
    list_insert_before(at->next, &n->walk.todo);
}

void descent_begin(struct descent *d, struct node *top)
{
    list_init(&d->todo);
    d->number = graph_new_walk();
    d->not_backing = false;
    take_up(d, top);
}

struct node *descent_next(struct descent *d)
{
    struct list *item = list_pop_front(&d->todo);
    struct edge *e;
    if (!item)
        return NULL;
    struct node *n = container_of(item, struct node, walk.todo);
    list_for_each (e, &n->children, in_parent) {
        if (!d->not_backing || e->role != ROLE_BACKING)
            take_up(d, e->child);
    }
    return n;
}

bool node_under_root(const struct node *n, const struct root *root)
{
    struct edge *e;
    list_for_each (e, &root->edges, in_parent) {
        if (leads_to(e->child, n))
            return true;
    }
    return false;
}

struct edge *node_child(const struct node *n, const char *name)
{
    struct edge *e;
    list_for_each (e, &n->children, in_parent) {
        if (!strcmp(e->name, name))
            return e;
    }
    return NULL;
}

/* ---- what parents need of a child ---- */

/* Whoever writes may have to copy the rest of a cluster from below, or to look whether there is something
 * to hide: that is reading, even if nobody reads the node itself. */
static void for_backing(unsigned *perm, unsigned *shared)
{
    *perm = *perm & PERM_ALL ? PERM_READ : 0;
    *shared =
        PERM_READ | PERM_WRITE_UNCHANGED | (*shared & PERM_WRITE ? PERM_WRITE | PERM_RESIZE : 0);
}

/* A format's own storage: it may write there whatever its parents do, and nobody else may. */
static void for_metadata(const struct node *n, unsigned *perm, unsigned *shared)
{
    bool read_only = n->read_only && !(n->walk.next_perm & (PERM_WRITE | PERM_WRITE_UNCHANGED));
    *perm |= PERM_READ;
    if (!read_only)
        *perm |= PERM_WRITE | PERM_RESIZE;
    *shared &= ~(unsigned)(PERM_WRITE | PERM_RESIZE);
}

static void for_data(unsigned *perm, unsigned *shared)
{
    if (*perm & PERM_WRITE_UNCHANGED)
        *perm |= PERM_WRITE;
    if (*perm & PERM_WRITE)
        *perm |= PERM_RESIZE;
    *shared &= ~(unsigned)PERM_RESIZE;
}

static void default_permissions(const struct node *n, const struct edge *e, unsigned *perm,
                                unsigned *shared)
{
    switch (e->role) {
    case ROLE_BACKING: for_backing(perm, shared); break;
    case ROLE_FILE: for_metadata(n, perm, shared); break;
    case ROLE_DATA: for_data(perm, shared); break;
    case ROLE_FILTERED:
    case ROLE_MEMBER: break;
    }
}

/* What @e's parent, a node, needs and shares, given what its own parents are going to. */
static void edge_needs(const struct edge *e, unsigned *perm, unsigned *shared)
{
    const struct node *n = e->parent_node;
    *perm = n->walk.next_perm;
    *shared = n->walk.next_shared;
    if (n->driver->child_permissions)
        n->driver->child_permissions(n, e, *perm, *shared, perm, shared);
    else
        default_permissions(n, e, perm, shared);
    if (e->child->options.force_share)
        *shared = PERM_ALL;
}

/* ---- a change of permissions ---- */

struct change {
    struct list queue;   /* struct node.walk.queued: to be computed again */
    struct list touched; /* struct node.walk.touched */
};

static void change_init(struct change *c)
{
    list_init(&c->queue);
    list_init(&c->touched);
}

static void touch(struct change *c, struct node *n)
{
    if (list_empty(&n->walk.touched))
        list_push_back(&c->touched, &n->walk.touched);
    if (list_empty(&n->walk.queued))
        list_push_back(&c->queue, &n->walk.queued);
}

static void compute_children(struct change *c, struct node *n)
{
    struct edge *e;
    list_for_each (e, &n->children, in_parent) {
        unsigned perm, shared;
        edge_needs(e, &perm, &shared);
        if (perm == e->next_perm && shared == e->next_shared)
            continue;
        e->next_perm = perm;
        e->next_shared = shared;
        touch(c, e->child);
    }
}

static void compute(struct change *c)
{
    struct list *item;
    while ((item = list_pop_front(&c->queue))) {
        struct node *n = container_of(item, struct node, walk.queued);
        unsigned perm = 0, shared = PERM_ALL;
        struct edge *e;
        list_for_each (e, &n->parents, in_child) {
            perm |= e->next_perm;
            shared &= e->next_shared;
        }
        n->walk.next_perm = perm;
        n->walk.next_shared = shared;
        compute_children(c, n);
    }
}

/* ---- is it allowed? ---- */

static const char *describe_permissions(unsigned perm, char *buf, size_t size)
{
    static const char *const names[] = { "consistent read", "write", "write unchanged", "resize" };
    size_t used = 0;
    buf[0] = 0;
    for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (perm & 1U << i && used < size)
            used += (size_t)snprintf(buf + used, size - used, "%s%s", used ? ", " : "", names[i]);
    return buf;
}

static const char *describe_user(const struct edge *e, char *buf, size_t size)
{
    static const char *const kinds[] = { "export", "job", "command", "background work" };
    bool node = e->parent_node != NULL;
    snprintf(buf, size, "%s '%s' (uses node '%s' as '%s' child)",
             node ? "node" : kinds[e->parent_root->kind],
             node ? e->parent_node->name : e->parent_root->name, e->child->name, e->name);
    return buf;
}

static int conflict(const struct edge *needs, const struct edge *shares, struct err *err)
{
    char what[80], who[256], against[256];
    return err_set(err, -EPERM,
                   "Permission conflict on node '%s': permissions '%s' are both required by %s and "
                   "unshared by %s.",
                   needs->child->name,
                   describe_permissions(needs->next_perm & ~shares->next_shared, what, sizeof what),
                   describe_user(needs, who, sizeof who),
                   describe_user(shares, against, sizeof against));
}

/* Is there, for this one permission, an edge that needs it and another that doesn't share it?  Looks at
 * every parent once, the newest first, so that the sentence is about the one just made. */
static bool find_conflict(struct node *n, unsigned bit, struct edge **needs, struct edge **shares)
{
    struct edge *need[2] = { NULL, NULL }, *unshared[2] = { NULL, NULL };
    for (struct list *at = n->parents.prev; at != &n->parents; at = at->prev) {
        struct edge *e = container_of(at, struct edge, in_child);
        if (e->next_perm & bit && !need[1])
            need[need[0] != NULL] = e;
        if (!(e->next_shared & bit) && !unshared[1])
            unshared[unshared[0] != NULL] = e;
    }
    *needs = need[0];
    *shares = unshared[0];
    if (need[0] == unshared[0] && need[1])
        *needs = need[1];
    else if (need[0] == unshared[0])
        *shares = unshared[1];
    return *needs && *shares;
}

static int check_conflicts(struct node *n, struct err *err)
{
    unsigned doubtful = n->walk.next_perm & ~n->walk.next_shared;
    struct edge *needs, *shares;
    for (unsigned bit = 1; bit & PERM_ALL; bit <<= 1)
        if (doubtful & bit && find_conflict(n, bit, &needs, &shares))
            return conflict(needs, shares, err);
    return 0;
}

static bool can_become_writable(const struct node *n)
{
    return n->options.auto_read_only && !n->options.read_only && n->driver->permissions &&
           !(n->driver->flags & DRIVER_READ_ONLY);
}

static int check_node(struct node *n, struct err *err)
{
    bool writes = n->walk.next_perm & (PERM_WRITE | PERM_WRITE_UNCHANGED);
    if (writes && n->read_only && !can_become_writable(n))
        return err_set(err, -EACCES, "Block node is read-only: '%s'", node_label(n));
    return check_conflicts(n, err);
}

static int co_fn prepare_node(struct node *n, struct err *err)
{
    if (!n->driver->permissions ||
        (n->walk.next_perm == n->perm && n->walk.next_shared == n->shared))
        return 0;
    int result =
        n->driver->permissions(n, n->walk.next_perm, n->walk.next_shared, PERM_PREPARE, err);
    n->walk.prepared = result == 0;
    return result;
}

/* ---- commit and abort ---- */

static void co_fn settle(struct node *n, enum permission_phase phase)
{
    if (!n->walk.prepared)
        return;
    autoerr ignored = { 0 };
    n->walk.prepared = false;
    n->driver->permissions(n, n->walk.next_perm, n->walk.next_shared, phase, &ignored);
}

/* Only what changes is written: data rings look at it meanwhile. */
static void put_in_force(struct node *n)
{
    struct edge *e;
    list_for_each (e, &n->parents, in_child) {
        if (e->perm != e->next_perm)
            e->perm = e->next_perm;
        if (e->shared != e->next_shared)
            e->shared = e->next_shared;
    }
    n->perm = n->walk.next_perm;
    n->shared = n->walk.next_shared;
    if (n->read_only && n->perm & (PERM_WRITE | PERM_WRITE_UNCHANGED))
        n->read_only = false; /* auto-read-only: PREPARE made it writable */
}

static void forget(struct node *n)
{
    struct edge *e;
    list_for_each (e, &n->parents, in_child) {
        e->next_perm = e->perm;
        e->next_shared = e->shared;
    }
    n->walk.next_perm = n->perm;
    n->walk.next_shared = n->shared;
}

static void co_fn change_end(struct change *c, enum permission_phase phase)
{
    struct list *item;
    while ((item = list_pop_front(&c->touched))) {
        struct node *n = container_of(item, struct node, walk.touched);
        settle(n, phase);
        if (phase == PERM_COMMIT)
            put_in_force(n);
        else
            forget(n);
    }
}

/* Compute, check and offer; to be followed by change_end() either way. */
static int co_fn change_prepare(struct change *c, struct err *err)
{
    struct node *n;
    compute(c);
    list_for_each (n, &c->touched, walk.touched) {
        if (check_node(n, err) < 0)
            return err->code;
    }
    list_for_each (n, &c->touched, walk.touched) {
        if (prepare_node(n, err) < 0)
            return err->code;
    }
    return 0;
}

/* ---- depth ---- */

static unsigned height_of(const struct node *n)
{
    const struct edge *e;
    unsigned height = 0;
    list_for_each (e, &n->children, in_parent)
        if (e->child->walk.height >= height)
            height = e->child->walk.height + 1;
    return height;
}

/* The children of @n changed: note how deep it and all above it are now.  Return: the deepest. */
static unsigned update_heights(struct node *n)
{
    struct list todo = LIST_INIT(todo), *item;
    struct edge *e;
    unsigned deepest = 0;
    list_push_back(&todo, &n->walk.todo);
    while ((item = list_pop_front(&todo))) {
        struct node *at = container_of(item, struct node, walk.todo);
        unsigned height = height_of(at);
        if (height > deepest)
            deepest = height;
        if (height == at->walk.height)
            continue;
        at->walk.height = height;
        list_for_each (e, &at->parents, in_child)
            if (e->parent_node && list_empty(&e->parent_node->walk.todo))
                list_push_back(&todo, &e->parent_node->walk.todo);
    }
    return deepest;
}

static int check_depth(struct node *parent, struct err *err)
{
    if (!parent || update_heights(parent) < GRAPH_DEPTH_MAX)
        return 0;
    return err_set(err, -EMLINK, "Node '%s' would be part of a chain of more than %d nodes",
                   parent->name, GRAPH_DEPTH_MAX);
}

/* ---- edges ---- */

static void edge_free(struct edge *e)
{
    free(e->name);
    free(e);
}

static int edge_new(struct node *parent_node, struct root *parent_root, struct node *child,
                    const char *name, enum edge_role role, struct edge **out, struct err *err)
{
    struct edge *e = calloc(1, sizeof *e);
    if (!e || !(e->name = strdup(name))) {
        free(e);
        return err_set(err, -ENOMEM, "out of memory");
    }
    e->role = role;
    e->parent_node = parent_node;
    e->parent_root = parent_root;
    e->child = child;
    e->shared = e->next_shared = PERM_ALL;
    list_init(&e->in_parent);
    list_init(&e->in_child);
    *out = e;
    return 0;
}

/* An export's id and the name of a node that is not its own are never the same. */
static int check_export_name(const struct root *r, const struct node *child, struct err *err)
{
    struct node *other = r && r->kind == ROOT_EXPORT ? node_find(r->name) : NULL;
    if (other && other != child)
        return err_set(err, -EEXIST, "Device name '%s' conflicts with an existing node name",
                       r->name);
    return 0;
}

static int check_cycle(const struct node *parent, struct node *child, const char *name,
                       struct err *err)
{
    /* Nothing leads to a node without parents but itself. */
    if (parent == child || (!list_empty(&parent->parents) && leads_to(child, parent)))
        return err_set(err, -ELOOP, "Making '%s' a %s child of '%s' would create a cycle",
                       child->name, name, parent->name);
    return 0;
}

static int co_fn attach(struct edge *e, struct err *err)
{
    struct change c;
    struct list *siblings = e->parent_node ? &e->parent_node->children : &e->parent_root->edges;
    change_init(&c);
    list_push_back(siblings, &e->in_parent);
    list_push_back(&e->child->parents, &e->in_child);
    if (e->parent_node)
        edge_needs(e, &e->next_perm, &e->next_shared);
    int result = check_depth(e->parent_node, err);
    if (result == 0) {
        touch(&c, e->child);
        result = change_prepare(&c, err);
    }
    if (result < 0) {
        list_remove(&e->in_parent);
        list_remove(&e->in_child);
        if (e->parent_node)
            update_heights(e->parent_node);
    }
    change_end(&c, result < 0 ? PERM_ABORT : PERM_COMMIT);
    return result;
}

int co_fn edge_attach(struct node *parent_node, struct root *parent_root, struct node *child,
                      const char *name, enum edge_role role, unsigned perm, unsigned shared,
                      struct edge **out, struct err *err)
{
    struct edge *e = NULL;
    *out = NULL;
    if (check_export_name(parent_root, child, err) < 0)
        return err->code;
    if (edge_new(parent_node, parent_root, child, name, role, &e, err) < 0)
        return err->code;
    e->next_perm = perm;
    e->next_shared = shared;
    node_ref(child);
    turn_take(&graph_turn);
    int result = parent_node ? check_cycle(parent_node, child, name, err) : 0;
    if (result == 0)
        result = attach(e, err);
    turn_leave(&graph_turn);
    if (result < 0) {
        edge_free(e);
        node_unref(child);
        return result;
    }
    if (parent_root)
        shortcut_recompute(parent_root);
    *out = e;
    return 0;
}

/* Fewer needs can't be refused; a driver that can't give a lock back keeps it. */
static void co_fn lessen(struct change *c, const struct node *n)
{
    autoerr err = { 0 };
    if (change_prepare(c, &err) < 0)
        log_warning("node '%s': giving permissions back: %s", n->name, err.msg);
    change_end(c, PERM_COMMIT);
}

struct node *co_fn edge_cut(struct edge *e)
{
    struct change c;
    struct node *child = e->child;
    turn_take(&graph_turn);
    change_init(&c);
    list_remove(&e->in_parent);
    list_remove(&e->in_child);
    if (e->parent_node)
        update_heights(e->parent_node);
    touch(&c, child);
    lessen(&c, child);
    turn_leave(&graph_turn);
    if (e->parent_root)
        shortcut_recompute(e->parent_root);
    edge_free(e);
    return child;
}

void co_fn edge_detach(struct edge *e)
{
    node_unref(edge_cut(e));
}

int co_fn edge_set_permissions(struct edge *e, unsigned perm, unsigned shared, struct err *err)
{
    struct change c;
    turn_take(&graph_turn);
    change_init(&c);
    e->next_perm = perm;
    e->next_shared = shared;
    touch(&c, e->child);
    int result = change_prepare(&c, err);
    change_end(&c, result < 0 ? PERM_ABORT : PERM_COMMIT);
    turn_leave(&graph_turn);
    return result;
}

/* ---- replacing ---- */

static void lead(struct change *c, struct edge *e, struct node *to)
{
    touch(c, e->child);
    touch(c, to);
    list_remove(&e->in_child);
    list_push_back(&to->parents, &e->in_child);
    e->child = to;
}

static int check_replace(struct edge *const *edges, unsigned count, struct node *to,
                         struct err *err)
{
    for (unsigned i = 0; i < count; i++) {
        struct edge *e = edges[i];
        if (e->parent_node && check_cycle(e->parent_node, to, e->name, err) < 0)
            return err->code;
        if (check_export_name(e->parent_root, to, err) < 0)
            return err->code;
    }
    return 0;
}

/* Also takes notice of what was changed back. */
static int check_depths(struct edge *const *edges, unsigned count, struct err *err)
{
    int result = 0;
    for (unsigned i = 0; i < count; i++)
        if (result == 0)
            result = check_depth(edges[i]->parent_node, err);
        else if (edges[i]->parent_node)
            update_heights(edges[i]->parent_node);
    return result;
}

static int co_fn replace(struct edge *const *edges, unsigned count, struct node *to,
                         struct node **old, struct err *err)
{
    struct change c;
    if (check_replace(edges, count, to, err) < 0)
        return err->code;
    change_init(&c);
    for (unsigned i = 0; i < count; i++) {
        old[i] = edges[i]->child;
        lead(&c, edges[i], to);
        if (edges[i]->parent_node)
            edge_needs(edges[i], &edges[i]->next_perm, &edges[i]->next_shared);
    }
    int result = check_depths(edges, count, err);
    if (result == 0)
        result = change_prepare(&c, err);
    if (result < 0) {
        autoerr same = { 0 };
        for (unsigned i = 0; i < count; i++)
            lead(&c, edges[i], old[i]);
        check_depths(edges, count, &same);
    }
    while (list_pop_front(&c.queue))
        ;
    change_end(&c, result < 0 ? PERM_ABORT : PERM_COMMIT);
    return result;
}

int co_fn edges_replace(struct edge *const *edges, unsigned count, struct node *to, struct err *err)
{
    struct node **old = calloc(count ? count : 1, sizeof *old);
    if (!old)
        return err_set(err, -ENOMEM, "out of memory");
    turn_take(&graph_turn);
    int result = replace(edges, count, to, old, err);
    turn_leave(&graph_turn);
    for (unsigned i = 0; result == 0 && i < count; i++) {
        node_ref(to);
        node_unref(old[i]);
    }
    free(old);
    return result;
}

/* ---- news from below ---- */

static void tell_roots(struct node *n, uint64_t size)
{
    struct edge *e;
    list_for_each (e, &n->parents, in_child) {
        struct root *r = e->parent_root;
        if (r && r->driver && r->driver->resized && root_edge(r) == e)
            r->driver->resized(r, size);
    }
}

static void refresh(struct node *n)
{
    struct edge *below;
    if (n->driver->refresh) {
        n->driver->refresh(n);
        return;
    }
    list_for_each (below, &n->children, in_parent) {
        if (below->role != ROLE_FILTERED)
            continue;
        n->limits = below->child->limits;
        atomic_store_explicit(&n->size, node_size(below->child), memory_order_relaxed);
        return;
    }
}

/* Parents are visited breadth first and again whenever something below them changed, so that a parent
 * of two changed children ends up with both. */
void node_changed(struct node *n)
{
    struct list todo = LIST_INIT(todo), *item;
    struct edge *e;
    tell_roots(n, node_size(n));
    list_push_back(&todo, &n->walk.todo);
    while ((item = list_pop_front(&todo))) {
        struct node *below = container_of(item, struct node, walk.todo);
        list_for_each (e, &below->parents, in_child) {
            struct node *up = e->parent_node;
            if (!up)
                continue;
            uint64_t before = node_size(up);
            struct limits limits = up->limits;
            refresh(up);
            if (node_size(up) == before && !memcmp(&limits, &up->limits, sizeof limits))
                continue;
            if (node_size(up) != before)
                tell_roots(up, node_size(up));
            if (list_empty(&up->walk.todo))
                list_push_back(&todo, &up->walk.todo);
        }
    }
}
