/* SPDX-License-Identifier: MIT */
/*
 * Inside matters of nodes and edges, for the files of block/ that make up the
 * graph (node.c, graph.c, edit.c, drain.c).  Control ring only.
 */
#ifndef BLOCK_GRAPH_H
#define BLOCK_GRAPH_H

#include "block/node.h"

/* Nodes below one another, at most.  Backing chains that anybody uses are shorter; without a limit a client
 * could make one on which every walk that recurses runs out of stack. */
enum { GRAPH_DEPTH_MAX = 512 };

/* A lock of the control ring: first come, first served. */
struct turn {
    bool taken;
    struct list waiting;
};
#define TURN_INIT(t)                                                                               \
    {                                                                                              \
        .waiting = LIST_INIT((t).waiting)                                                          \
    }
void co_fn turn_take(struct turn *t);
void turn_leave(struct turn *t);

/** graph_new_walk - a number for a walk over the graph that does not yield: what node->walk.visited is set to */
uint64_t graph_new_walk(void);

/* A walk over a node and all that is below it, each once however many ways lead there, top down: a node
 * comes after everything in the walk that is above it. */
struct descent {
    struct list todo; /* struct node.walk.todo */
    uint64_t number;
    bool not_backing; /* leave out what is only reached as a backing file */
};

/** descent_begin - start at @top; no yield and no other walk over node->walk.todo before the end
 * descent_next - the next node, @top first; NULL: that was all.  Its children are taken up when it is handed
 * out.
 */
void descent_begin(struct descent *d, struct node *top);
struct node *descent_next(struct descent *d);

/** edge_cut - edge_detach() that leaves the reference on the child to the caller
 * Return: the child.
 */
struct node *co_fn edge_cut(struct edge *e);

#endif
