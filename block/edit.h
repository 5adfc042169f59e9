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
 *   edit_commit    hands the resulting configuration to the journal hook (which may refuse), runs the
 *                  commit actions, recomputes the short-cut bits, opens the gates
 *   edit_abort     runs the undo actions in reverse order, opens the gates
 */
#ifndef BLOCK_EDIT_H
#define BLOCK_EDIT_H

#include "block/node.h"
#include "block/root.h"

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

/** edit_commit - 0; negative: the journal refused and all was rolled back */
int co_fn edit_commit(struct edit *e, struct err *err);
void co_fn edit_abort(struct edit *e);

/** edit_set_journal - called with the edit's description before it is committed; NULL: none.  It may
 * yield; negative refuses the edit.
 */
void edit_set_journal(int co_fn (*journal)(const char *what, struct err *err));

/** edit_set_drain_deadline - ns; 30 s by default (tests) */
void edit_set_drain_deadline(uint64_t ns);

#endif
