/* SPDX-License-Identifier: MIT */
/*
 * The table by which a driver is reached.  A driver is one constant struct
 * driver at the end of its file; drivers/table.c lists them all.
 *
 * Data calls run on any ring, in a coroutine, inside a root's gate; io.c has
 * done bounds, alignment and splitting to the node's limits before.  They
 * return 0 or a negative errno.  A call that is NULL: io.c does without (zero
 * and discard fall back, flush goes to the children) or passes the request to
 * the filtered child.  A driver that has map() and no call of its own for a
 * kind of request has it carried out where map() says; zero and discard of its
 * own go before map().
 *
 * A node whose size is no multiple of its alignment: its last block is asked
 * for whole.  What is read past the end is ignored, what is written there is
 * zero and must not make the node grow: such a request has IO_PADDED.  Only a
 * request through an edge with PERM_RESIZE may really end past the size: then
 * the node grows (n->size is raised by io.c).
 */
#ifndef BLOCK_DRIVER_H
#define BLOCK_DRIVER_H

#include <stdatomic.h>

#include "base/row.h"
#include "block/types.h"

enum driver_kind { DRIVER_PROTOCOL, DRIVER_FORMAT, DRIVER_FILTER };

enum driver_flags {
    DRIVER_VECTORS = 1 << 0,   /* takes up to SPAN_MAX spans; else gets one, contiguous */
    DRIVER_OPAQUE = 1 << 1,    /* takes registered buffers */
    DRIVER_READ_ONLY = 1 << 2, /* cannot write at all */
    DRIVER_HAS_BACKING = 1 << 3,
    DRIVER_SEES_ALL = 1 << 4, /* must see every request: no short cut through it */
};

/* Where a range of a node lies: map()'s answer. */
enum map_kind {
    MAP_LONG_ROAD, /* can't tell without I/O, or the driver must see the bytes */
    MAP_CHILD,     /* in .edge's child at .offset */
    MAP_ZERO,      /* reads zero, nothing stored */
    MAP_HERE,      /* this is the storage: .file says where (protocol drivers) */
};

struct file_place {
    int fd;
    bool inline_read; /* a plain pread does not block (tmpfs) or RWF_NOWAIT answers */
    bool inline_write;
    bool nowait; /* inline calls must pass RWF_NOWAIT and no RWF_DSYNC; -EAGAIN and -EOPNOTSUPP take
                   the long road */
};

struct map {
    enum map_kind kind;
    struct edge *edge;      /* MAP_CHILD */
    uint64_t offset;        /* MAP_CHILD: in the child; MAP_HERE: in the file */
    uint64_t len;           /* bytes from the asked offset for which this holds; > 0 */
    bool stable;            /* the mapping itself is on disk: FUA needs no more than the data */
    struct file_place file; /* MAP_HERE */
};

/* What block status says of a range. */
enum extent_flags {
    EXTENT_DATA = 1 << 0,      /* stored here or below */
    EXTENT_ZERO = 1 << 1,      /* reads zero */
    EXTENT_ALLOCATED = 1 << 2, /* this node decides its content, not its backing file */
    EXTENT_OFFSET = 1 << 3,    /* .offset is valid */
    EXTENT_COMPRESSED = 1 << 4,
};

struct extent {
    unsigned flags;
    uint64_t len;      /* bytes; > 0 */
    uint64_t offset;   /* in .file's node, with EXTENT_OFFSET */
    struct node *node; /* that the offset is in */
    unsigned depth;    /* links of the chain above the layer that decides; 0: the asked node */
};

enum permission_phase { PERM_PREPARE, PERM_COMMIT, PERM_ABORT };

struct driver {
    const char *name; /* BlockdevDriver */
    enum driver_kind kind;
    unsigned flags;
    const struct row_type *options; /* a struct type; NULL: no options of its own */
    size_t state_size;              /* node->state, zeroed */
    size_t channel_size;            /* per ring that serves the node; 0: none */
    const char *filename_row; /* the option a plain file name goes to ("filename"); NULL: none */

    /* Making images: the driver's part of BlockdevCreateOptions, and the call that carries it out;
     * NULL: images of this driver can't be made.  Control ring.  It looks at @stop now and then, which
     * any thread may set: then it leaves off with -ECANCELED.  What is there already is lost, and
     * what a failed call leaves is no image. */
    const struct row_type *create_options;
    int co_fn (*create)(const void *options, const atomic_bool *stop, struct err *err);

    /* Control ring, in a coroutine; must not block (ring_block()).  open: n->said and n->options are
     * set; it opens its children with node_open_child(), sets n->size and n->limits.  When it fails
     * close is not called: it leaves nothing behind (children are dropped by the caller). */
    int co_fn (*open)(struct node *n, const void *options, struct err *err);
    void co_fn (*close)(struct node *n);

    /* Which permissions the node needs on a child, and shares, given what its parents need of it. */
    void (*child_permissions)(const struct node *n, const struct edge *e, unsigned perm,
                              unsigned shared, unsigned *child_perm, unsigned *child_shared);
    /* The sum of the parents' permissions changes: take and check locks, reopen (file).  Three
     * phases; only PREPARE may fail.  A node that auto-read-only made read-only is asked to PREPARE
     * for PERM_WRITE, too: it becomes writable or fails.  Requests may be running: what they use
     * (a descriptor, say) is swapped in place. */
    int co_fn (*permissions)(struct node *n, unsigned perm, unsigned shared,
                             enum permission_phase phase, struct err *err);
    /* The children's limits or sizes changed: set n->limits and n->size anew. */
    void (*refresh)(struct node *n);

    /* Per ring: made when a ring first serves the node, freed before close (on that ring). */
    int co_fn (*channel_open)(struct node *n, void *channel);
    void co_fn (*channel_close)(struct node *n, void *channel);

    /* Data. */
    int co_fn (*read)(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                      unsigned count, unsigned flags);
    int co_fn (*write)(struct node *n, struct operation *o, uint64_t offset, const struct span *v,
                       unsigned count, unsigned flags);
    int co_fn (*zero)(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                      unsigned flags);
    int co_fn (*discard)(struct node *n, struct operation *o, uint64_t offset, uint64_t len);
    /* This node's own storage only; io.c flushes the children after.  @o is NULL when a protocol's node is
     * about to be closed. */
    int co_fn (*flush)(struct node *n, struct operation *o);
    /* What the range [offset, offset+len) is, aligned like a request; fills in .len <= len.  want_zero false: only whether it
     * is allocated matters. */
    int co_fn (*status)(struct node *n, struct operation *o, uint64_t offset, uint64_t len,
                        bool want_zero, struct extent *out);
    /* Where a range lies.  Any ring.  may_yield false: from memory, at once, no coroutine. */
    int (*map)(struct node *n, uint64_t offset, uint64_t len, bool write, bool may_yield,
               struct map *out);
    /* Sets n->size to what it is then, unless the node takes that from a child (refresh).  Control ring,
     * inside an edit's drained section when it shrinks. */
    int co_fn (*resize)(struct node *n, struct operation *o, uint64_t size, bool exact,
                        enum io_flags flags, struct err *err);
    /* May hold requests without bound: let them go (credit) or unwind them with -ERESTART. */
    void (*drain_begin)(struct node *n);
    void (*drain_end)(struct node *n);
    /* May wait for somebody else without bound: fail what is in flight now (-EIO); what comes later is
     * tried again.  Any thread, must not wait.  Only nodes with this call can be yanked. */
    void (*yank)(struct node *n);

    /* Removable media, NULL: fixed.  Control ring.  present: is one in; eject: tray out, or in again;
     * lock: keep the button from opening it. */
    bool co_fn (*medium_present)(struct node *n);
    int co_fn (*medium_eject)(struct node *n, bool out, struct err *err);
    int co_fn (*medium_lock)(struct node *n, bool locked, struct err *err);

    /* Queries: what an image's file looks like. */
    int64_t (*allocated_size)(
        struct node *n); /* bytes on disk; negative: unknown; may block, so it is
                                                   called on a worker */
    /* malloc'd: the plain name that opens the same bytes; NULL: there is none, or out of memory.
     * Without this call a format goes by the name of its file, unless a telling option was given. */
    char *(*filename)(const struct node *n);
    /* NULL-ended: the options that decide which bytes are read and so belong into a name (child nodes
     * always do); NULL: all of them */
    const char *const *telling;
    void (*fill_block_device_stats)(struct node *n, void *stats);
};

/** drivers_register - make the drivers of a NULL-ended list known; before any option is parsed */
void drivers_register(const struct driver *const *list);

/** driver_by_index / driver_by_name - NULL when there is none */
const struct driver *driver_by_index(int index);
const struct driver *driver_by_name(const char *name);

#endif
