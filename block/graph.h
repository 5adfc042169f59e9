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

/** edge_cut - edge_detach() that leaves the reference on the child to the caller
 * Return: the child.
 */
struct node *co_fn edge_cut(struct edge *e);

#endif
