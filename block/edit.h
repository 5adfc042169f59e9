/* SPDX-License-Identifier: MIT */
/*
 * Edits: the one way to change the graph.  Prepare whole, journal, commit,
 * open - or roll back whole.
 *
 *   edit_begin     waits for the edit lock (first come, first served)
 *   edit_drain     shuts the gates of the clients and jobs above the places, waits until nobody is
 *                  inside, then those of background roots below, top down; a deadline of 30 s, then
 *                  everything opens again and the error names node, root and age of the oldest request
 *   edit_step      adds an undo and a commit action
 *   edit_note      says what the edit changes about the configuration
 *   edit_commit    hands what was noted to the journal (which may refuse), runs the commit actions,
 *                  recomputes the short-cut bits, opens the gates
 *   edit_abort     runs the undo actions in reverse order, opens the gates
 */
#ifndef BLOCK_EDIT_H
#define BLOCK_EDIT_H

#include "base/row.h"
#include "block/node.h"
#include "block/root.h"

/* What an edit changes about the configuration, that is, about what has to be said to come to the same
 * graph again.  Objects and NBD servers belong to it, too: an edit that drains nothing. */
enum edit_change_kind {
    EDIT_NODE_ADDED, /* the monitor's, with its inline children; .options: struct blockdev_options */
    EDIT_NODE_REMOVED,
    EDIT_NODE_RESIZED,   /* .size; noted before it is tried, see edit_journal() */
    EDIT_EDGE_MOVED,     /* the edge .edge of .name, a node or an export, leads to node .to */
    EDIT_EXPORT_ADDED,   /* .options: struct block_export_options */
    EDIT_EXPORT_REMOVED, /* asked to go: it is gone once its last client has left */
    EDIT_OBJECT_ADDED,   /* .options: struct object_options */
    EDIT_OBJECT_CHANGED, /* .options: its properties, of the type .type */
    EDIT_OBJECT_REMOVED,
    EDIT_SERVER_ADDED, /* .options: struct nbd_server_options */
    EDIT_SERVER_REMOVED,
};

struct edit_change {
    enum edit_change_kind kind;
    const char *name;            /* NULL: the default NBD server */
    const struct row_type *type; /* of .options, as they were given; NULL: there are none */
    const void *options;
    const char *edge, *to;
    uint64_t size; /* bytes */
};

/* All that one edit changes, in order: applied to the configuration before the edit it gives the one after.
 * The memory lasts until the journal returns. */
struct edit_record {
    const char *what; /* the edit's description */
    const struct edit_change *changes;
    unsigned count; /* > 0 */
};

struct edit_step {
    void (*commit)(void *arg);
    void co_fn (*abort)(void *arg);
    void co_fn (*clean)(void *arg); /* after either, when the gates are open again: closing */
    void *arg;
};

/** edit_begin - control ring, in a coroutine; the edit is the caller's until commit or abort */
struct edit *co_fn edit_begin(const char *what);

/** edit_drain - quiet everything that can reach @n; may be called for several nodes */
int co_fn edit_drain(struct edit *e, struct node *n, struct err *err);

/** edit_drain_below - quiet everything that can reach @n or anything below it */
int co_fn edit_drain_below(struct edit *e, struct node *n, struct err *err);

/** edit_drain_root - quiet one root (an export that goes away) */
int co_fn edit_drain_root(struct edit *e, struct root *r, struct err *err);

int edit_step(struct edit *e, const struct edit_step *step, struct err *err);

/** edit_note - to be recorded when the edit is committed; what @change points to stays until then */
int edit_note(struct edit *e, const struct edit_change *change, struct err *err);

/** edit_commit - 0; negative: the journal refused and all was rolled back */
int co_fn edit_commit(struct edit *e, struct err *err);
void co_fn edit_abort(struct edit *e);

/** edit_journal - have the record written now, not by edit_commit(): for what can't be undone and may fail
 * when it is tried.  Should it fail, the record says too much; whoever reads it finds the size that a node
 * really has.
 * Return: 0; negative: the journal refused, and edit_abort() must follow.
 */
int co_fn edit_journal(struct edit *e, struct err *err);

/** edit_set_journal - called before an edit that changes the configuration is committed, when all is
 * prepared and every gate concerned is still shut; NULL: none.  It may yield (but not begin an edit) and
 * returns when the record is safe; negative refuses the edit.
 */
void edit_set_journal(int co_fn (*journal)(const struct edit_record *record, struct err *err));

/** edit_set_drain_deadline - ns; 30 s by default (tests) */
void edit_set_drain_deadline(uint64_t ns);

#endif
