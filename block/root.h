/* SPDX-License-Identifier: MIT */
/*
 * Roots: the owners of I/O (an export, a job, a command, a node's background
 * work).  A root has one gate per ring, a plain counter that only this ring
 * touches.  The outermost operation enters it once, before it takes any range
 * or lock; whoever is inside may wait only for the kernel or for operations
 * that are inside.
 */
#ifndef BLOCK_ROOT_H
#define BLOCK_ROOT_H

#include "block/node.h"

enum root_kind { ROOT_EXPORT, ROOT_JOB, ROOT_COMMAND, ROOT_BACKGROUND };

/* A request that found the gate shut: a queued struct, not a coroutine. */
struct gate_waiter {
    struct list link;
    /* On this ring, without yielding, when the gate opened, in order of arrival and before anybody else can
     * enter; it tries to enter again. */
    void (*fn)(struct gate_waiter *w);
    /* The same, when it is not to enter any more: end with that negative errno.  NULL: it waits on. */
    void (*fail)(struct gate_waiter *w, int error);
};

/* Why a gate is shut: bits. */
enum {
    GATE_DRAINED = 1, /* for an edit: nobody is inside while the graph changes */
    GATE_STOPPED = 2, /* by an export's error policy, however long; drains come and go meanwhile */
};

struct gate {
    /* Written by this ring only; the first two are read by the control ring, too. */
    _Alignas(64) unsigned inside;
    uint64_t oldest; /* when the oldest operation inside entered, ring_turn_now(); 0: nobody is */
    unsigned shut;   /* GATE_ bits; 0: open */
    struct list waiting;      /* struct gate_waiter */
    struct list operations;   /* struct operation, oldest first: for the drain's error */
    struct drain_part *drain; /* told when inside becomes 0; NULL: nobody waits (drain.c) */
};

struct root_driver {
    /* The root's node has another size (any ring's turn, called on the control ring). */
    void (*resized)(struct root *r, uint64_t size);
    /* Gates shut and opened again (background roots pause their loops); control ring. */
    void (*drain_begin)(struct root *r);
    void (*drain_end)(struct root *r);
};

struct root {
    char *name; /* the export's or job's id */
    enum root_kind kind;
    const struct root_driver *driver; /* may be NULL */
    void *owner;                      /* the export, job ... */
    struct list edges;                /* struct edge.in_parent; usually one */
    struct list link;                 /* in the list of all roots, oldest first */
    struct node *background_of;       /* ROOT_BACKGROUND: whose work it is */
    struct list in_background;        /* background_of->background */
    struct list in_drain;             /* drain.c: in a list of the running edit */
    bool drain_told;                  /* drain.c: driver->drain_begin() was called */
    uint64_t visited;                 /* drain.c: number of a walk */
    /* May the short cut be taken, per direction?  Recomputed by every edit, gates shut. */
    bool shortcut_read, shortcut_write;
    uint64_t deadline;                 /* deadline.c: ns; 0: none */
    uint64_t deadline_told;            /* when the youngest request entered that the log told of */
    struct timer deadline_timer;       /* control ring */
    struct device_stats *stats;        /* exports: what the client asked for; else NULL */
    struct gate *gates[RINGS_MAX + 1]; /* by ring index, all there from the beginning */
};

/* One operation inside a gate; it lives as long as the operation does, in its owner's memory. */
struct operation {
    struct root *root;
    uint64_t since; /* ring_turn_now() at entry */
    struct list link;
};

/** root_new - a root without edges, all gates open; root_free - it must have no edges and be empty
 * The name of an export is a device's name: no other export may have it (-EEXIST), and no node but
 * the one that it leads to.
 */
struct root *root_new(const char *name, enum root_kind kind, const struct root_driver *driver,
                      struct err *err);
void root_free(struct root *r);

/** root_set_background - @r is the background work of @n (before it has edges); edits shut it after the
 * clients above @n
 */
void root_set_background(struct root *r, struct node *n);

/** root_find_export - the export of that name, or NULL */
struct root *root_find_export(const char *name);
struct root *root_first(void);
struct root *root_next(struct root *r);

/** root_node - what its first edge leads to; NULL while it has none */
struct node *root_node(const struct root *r);
struct edge *root_edge(const struct root *r);

/** root_inside - operations inside the gates of @r, on all rings, at about this moment
 * root_oldest - how long the oldest of them has been there, ns; 0: there are none
 * Control ring.
 */
unsigned root_inside(const struct root *r);
uint64_t root_oldest(const struct root *r);

/** operation_begin - enter this ring's gate; never yields
 * Return: false when the gate is shut: then queue with gate_queue(), or in a coroutine use
 * operation_enter().
 */
bool operation_begin(struct operation *o, struct root *r);
void gate_queue(struct root *r, struct gate_waiter *w);
/** gate_queue_first - the same, before those who wait: for one that has been inside already */
void gate_queue_first(struct root *r, struct gate_waiter *w);
void gate_unqueue(struct gate_waiter *w);
void co_fn operation_enter(struct operation *o, struct root *r);
void operation_end(struct operation *o);

/** gate_stop_here - let nobody in any more on this ring; those inside go on
 * gate_go_on_here - the end of that: those who wait enter, unless the gate is drained, too
 * gate_fail_here - those who wait and can fail do so, as far as @match (NULL: all) says yes; shut or not
 */
void gate_stop_here(struct root *r);
bool gate_stopped_here(const struct root *r);
void gate_go_on_here(struct root *r);
void gate_fail_here(struct root *r, int error, bool (*match)(struct gate_waiter *w, void *arg),
                    void *arg);

/** gate_set_unstarted - a GATE_ bit on all rings that were never started, where nobody can be; control ring */
void gate_set_unstarted(struct root *r, unsigned bit, bool on);

#endif
