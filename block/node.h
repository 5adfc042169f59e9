/* SPDX-License-Identifier: MIT */
/*
 * Nodes and the edges between them.  The graph changes on the control ring
 * only, inside an edit (block/edit.h); data rings walk it without locks while
 * they are inside a root's gate.
 */
#ifndef BLOCK_NODE_H
#define BLOCK_NODE_H

#include <stdatomic.h>

#include "base/json.h"
#include "block/driver.h"
#include "block/options.h"
#include "block/stats.h"
#include "block/types.h"
#include "uring/ring.h"
#include "uring/sync.h"

enum { NODE_NAME_MAX = 31, NODE_GUARD_BYTES = 2048 };

/* A parent (a node or a root) uses a child.  Owned by the parent. */
struct edge {
    char *name; /* "file", "backing", "children.0", "root" */
    enum edge_role role;
    struct node *parent_node; /* NULL: parent_root has it */
    struct root *parent_root;
    struct node *child;
    unsigned perm, shared; /* enum permission, in force */
    struct list in_parent; /* node->children or root->edges, in the order they were made */
    struct list in_child;  /* child->parents */
};

/* What one ring keeps about a node; a cache line of its own each. */
struct node_ring {
    _Alignas(64) unsigned in_flight;
    struct io_counters counters;
    uint64_t write_generation; /* writes that completed on this ring; read by flush on any ring */
    void *channel;
};

struct node {
    char *name; /* as given, or "#block123" */
    bool named; /* by the user; owned by the monitor while monitor_ref */
    bool monitor_ref;
    const struct driver *driver;
    void *state; /* the driver's */
    struct blockdev_options
        *said;                   /* as the user gave them, owned: for queries and the saved state */
    struct node_options options; /* in force */
    bool
        guarded_raw; /* guessed raw: writes that leave a signature in the first 2 KiB are refused */
    bool read_only;  /* as opened (auto-read-only may have chosen) */
    _Atomic uint64_t size; /* bytes; outside an edit it only grows */
    struct limits limits;
    unsigned perm, shared; /* sum over the parents, in force */

    struct list children; /* struct edge.in_parent */
    struct list parents;  /* struct edge.in_child */
    struct list link;     /* in the list of all nodes, oldest first */
    unsigned refs;        /* control ring only: parents, the monitor, commands that look at it */

    /* block/io.c and its helpers; io_release() frees it when the node is closed. */
    _Atomic unsigned watch;            /* who wants to see writes: block/observe.h */
    struct observer *observers;        /* the list behind WATCH_OBSERVERS */
    struct tracked_requests *tracking; /* NULL: off (block/track.h) */
    unsigned track_required;           /* track_require() minus track_release() of this node */
    _Atomic(struct tracked_requests *) guard; /* orders writes to the first 2 KiB of guarded_raw */
    _Atomic(struct flush_state *) flush;      /* made by the first flush */
    struct node_stats stats;
    _Atomic uint64_t write_threshold; /* bytes; 0: none.  Set by an edit: no short cut while set */
    _Atomic bool broken;              /* a failed sync: flushes fail until it is reopened */
    struct node_ring *rings[RINGS_MAX + 1]; /* by ring index; made on demand by that ring */
};

/** node_find - by name, or NULL; control ring */
struct node *node_find(const char *name);

/** node_first / node_next - all nodes, oldest first; control ring, no yield in between */
struct node *node_first(void);
struct node *node_next(struct node *n);

/** node_open - build a node and its inline children as the options say, not yet visible to data rings
 * @said: copied.  @parent, @role: NULL and ROLE_FILE for a node that stands for itself.
 * Control ring, in a coroutine; opening may yield, so it goes before edit_begin().  The new node has
 * one reference, the caller's.  A name that is taken, malformed or equal to an export's id is
 * refused.  On failure nothing is left open.
 */
int co_fn node_open(const struct blockdev_options *said, const struct node_options *parent,
                    enum edge_role role, struct node **out, struct err *err);

/** node_open_child - for driver->open: resolve a BlockdevRef (open the definition or find the node) and
 * attach it as an edge named @name
 * @out: the new edge, owned by @n
 */
int co_fn node_open_child(struct node *n, const char *name, enum edge_role role,
                          const struct row_choice *ref, struct edge **out, struct err *err);

/** node_ref / node_unref - references; the last unref closes the node and drops its children (may yield:
 * closing goes to a worker, channels are closed on their rings).  Control ring.
 */
void node_ref(struct node *n);
void co_fn node_unref(struct node *n);

/** node_size - bytes */
static inline uint64_t node_size(const struct node *n)
{
    return atomic_load_explicit(&n->size, memory_order_relaxed);
}

/** node_here - this ring's part of a node; NULL when out of memory */
struct node_ring *node_here(struct node *n);

/** node_child - the edge of that name, or NULL */
struct edge *node_child(const struct node *n, const char *name);

/** node_label - how error sentences name it: its name, or its file's name when it has none given */
const char *node_label(const struct node *n);

/** edge_attach - make @parent_node or @parent_root use @child with these permissions; refused with QEMU's
 * kind of sentence when another parent does not share them or a cycle would come about
 * Takes a reference on @child.  Control ring, in an edit.
 */
int co_fn edge_attach(struct node *parent_node, struct root *parent_root, struct node *child,
                      const char *name, enum edge_role role, unsigned perm, unsigned shared,
                      struct edge **out, struct err *err);

/** edge_detach - undo that; may close the child */
void co_fn edge_detach(struct edge *e);

/** edge_set_permissions - change what a root needs of its node; 0 or an error with all as before */
int co_fn edge_set_permissions(struct edge *e, unsigned perm, unsigned shared, struct err *err);

/** node_under_root - does @n lie under @root? */
bool node_under_root(const struct node *n, const struct root *root);

#endif
