/* SPDX-License-Identifier: MIT */
/*
 * The walk of one request down the graph.  It goes node by node in a loop, to
 * where map() says its bytes lie; a level is kept only of nodes that have
 * something left to do: the rest of a range that map() cut in two, or work
 * when the request is over.  So a chain of any length needs one stack.
 */
#ifndef BLOCK_ROAD_H
#define BLOCK_ROAD_H

#include "block/node.h"
#include "block/root.h"

enum road_kind { ROAD_READ, ROAD_WRITE, ROAD_ZERO, ROAD_DISCARD };

/* A part of the request, at one node. */
struct stop {
    struct node *node;
    enum road_kind kind; /* zero detection may make a write a zero, from a node on downwards */
    unsigned flags;
    uint64_t at, len; /* bytes */
};

struct tracked;

/* What of a node above is to be come back to. */
struct level {
    struct level *up;
    struct stop rest;  /* still to be done once the piece below is; .len 0: nothing */
    struct stop whole; /* what arrived at the node */
    bool has_end;      /* the rest of these is valid: work at the end */
    bool grows, observed;
    struct tracked *range, *guard;
};

enum { ROAD_LEVELS = 4 };

struct road {
    struct operation *operation;
    const struct span *v; /* read, write: the client's bytes */
    unsigned count;
    uint64_t done;     /* bytes of v that are finished */
    bool fua;          /* stable when the call returns */
    bool flush;        /* by a flush at the end, because some node on the way can't */
    struct level *top; /* the stack of levels ... */
    unsigned depth;    /* ... so many, the first few of which lie here */
    struct level levels[ROAD_LEVELS];
};

/** road_run - carry out @first; 0 or a negative errno.  Bounds were checked. */
int co_fn road_run(struct road *w, const struct stop *first);

/* ---- arrive.c: what is done at a node before and after ---- */

/** road_level - remember something about the node of @s; NULL when out of memory */
struct level *road_level(struct road *w, const struct stop *s);

/** arrive - count a request at its node and do what the node's watchers ask for, which may change it */
int co_fn arrive(struct road *w, struct stop *s);

/** depart - the end of what arrive() began, in the level that it left */
void depart(struct level *l, int result);

#endif
