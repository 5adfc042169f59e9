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
    _Atomic unsigned perm,
        shared; /* enum permission, in force; may change while others use the child */
    unsigned next_perm, next_shared; /* graph.c: the same while a change is being checked */
    struct list in_parent; /* node->children or root->edges, in the order they were made */
    struct list in_child;  /* child->parents */
};

/* What one ring keeps about a node; a cache line of its own each. */
struct node_ring {
    _Alignas(64) unsigned in_flight;
    struct io_counters counters;
    uint64_t visited;          /* number of a walk on this ring that does not yield (flush.c) */
    uint64_t write_generation; /* writes that completed on this ring; read by flush on any ring */
    void *channel;             /* NULL until node_channel() made it */
    bool channel_opening;
    struct list channel_waiters; /* coroutines of this ring that wait for it (node.c) */
};

struct node {
    char *name;       /* as given, or "#block123" */
    char *label;      /* node_label() of a node without a given name; may be NULL */
    bool named;       /* by the user */
    bool monitor_ref; /* the monitor owns a reference (block/blockdev.h) */
    bool visible;     /* wholly open: node_find() and node_next() show it */
    const struct driver *driver;
    void *state; /* the driver's */
    struct blockdev_options
        *said;                   /* as the user gave them, owned: for queries and the saved state */
    struct node_options options; /* in force */
    bool
        guarded_raw; /* guessed raw: writes that leave a signature in the first 2 KiB are refused */
    _Atomic bool read_only; /* as opened; auto-read-only may have chosen, and a writer may end it */
    _Atomic uint64_t size;  /* bytes; outside an edit it only grows */
    struct limits limits;
    unsigned perm, shared; /* sum over the parents, in force */

    struct list children;   /* struct edge.in_parent */
    struct list parents;    /* struct edge.in_child */
    struct list link;       /* in the list of all nodes, oldest first */
    struct list background; /* struct root.in_background: its own background work */
    unsigned refs;          /* control ring only: parents, the monitor, commands that change it */
    unsigned holds;         /* control ring only: queries that look at it on a worker */

    /* Scratch of the walks over the graph; control ring only. */
    struct {
        unsigned next_perm, next_shared; /* as perm and shared while a change is being checked */
        bool prepared;                   /* driver->permissions(PREPARE) ran */
        struct list touched, queued;     /* graph.c, under its lock */
        uint64_t visited, finished;      /* numbers of walks */
        struct list todo;                /* of a walk that does not yield */
        struct node *below;              /* drain.c's way up */
        struct list *at;
        unsigned height;     /* graph.c: the longest way down from here, in edges */
        unsigned depth;      /* node.c: how many nodes this one is opened in */
        struct list drained; /* drain.c: driver->drain_begin() was called */
    } walk;

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
    _Atomic(struct node_ring *) rings[]; /* by ring index, rings_count() + 1 of them; made on demand
                                            by that ring, NULL before */
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

/** node_hold / node_release - keep the node from being closed while a worker looks at it.  Not a use, as a
 * reference is: blockdev_del() does not refuse, it waits.  Control ring, only for a moment.
 */
void node_hold(struct node *n);
void node_release(struct node *n);

/** node_size - bytes */
static inline uint64_t node_size(const struct node *n)
{
    return atomic_load_explicit(&n->size, memory_order_relaxed);
}

/** node_here - this ring's part of a node; NULL when out of memory */
struct node_ring *node_here(struct node *n);

/** node_channel - this ring's channel of a node whose driver has channels, made on first use; data rings,
 * inside a gate
 * Return: 0; what driver->channel_open() said; -ENOMEM.
 */
int co_fn node_channel(struct node *n, void **out);

/** node_child - the edge of that name, or NULL */
struct edge *node_child(const struct node *n, const char *name);

/** node_label - how error sentences name it: its name, or its file's name when it has none given */
const char *node_label(const struct node *n);

/** node_filename - the plain name that would open the same thing again, or "json:{...}" with the options
 * that matter; malloc'd, NULL when out of memory
 */
char *node_filename(const struct node *n);

/** node_fall_back_to_read_only - for driver->open: writing turned out to be impossible
 * Return: 0 when the node is read-only already or auto-read-only lets it become so; else an error with
 * the sentence @why.
 */
int node_fall_back_to_read_only(struct node *n, const char *why, struct err *err);

/** node_changed - the node's size or limits are new: parents take note (driver->refresh), roots above are
 * told when their size changed; control ring, drained unless the size only grew
 */
void node_changed(struct node *n);

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

/** edges_replace - make all of @edges lead to @to instead of where they lead now; all or none
 * Control ring, in an edit that has drained where they led.  The edges' references move along; the
 * caller holds one of its own on the old children, so that none is closed here.
 */
int co_fn edges_replace(struct edge *const *edges, unsigned count, struct node *to,
                        struct err *err);

/** node_under_root - does @n lie under @root? */
bool node_under_root(const struct node *n, const struct root *root);

#endif
