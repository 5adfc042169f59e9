/* SPDX-License-Identifier: MIT */
/*
 * BlockdevOptions: the common options of every node, as rows, and the union
 * over all registered drivers.  Also the places where options of a child come
 * from its parent.
 */
#ifndef BLOCK_OPTIONS_H
#define BLOCK_OPTIONS_H

#include "base/row.h"
#include "block/types.h"

enum discard_mode { DISCARD_IGNORE, DISCARD_UNMAP };
enum detect_zeroes { DETECT_ZEROES_OFF, DETECT_ZEROES_ON, DETECT_ZEROES_UNMAP };
enum on_off_auto { OOA_AUTO, OOA_ON, OOA_OFF };

struct cache_options {
    bool has_direct, direct;
    bool has_no_flush, no_flush;
};

/* The union BlockdevOptions; row_blockdev_options describes it. */
struct blockdev_options {
    int driver; /* index in row_blockdev_driver */
    char *node_name;
    bool has_discard;
    int discard;
    struct cache_options *cache;
    bool has_read_only, read_only;
    bool has_auto_read_only, auto_read_only;
    bool has_force_share, force_share;
    bool has_detect_zeroes;
    int detect_zeroes;
    void *driver_options; /* the struct that driver->options describes */
    bool
        guessed; /* no row, never said: the format was guessed, so the image may name no other file */
};

extern struct row_type row_blockdev_driver;            /* enum; filled in by drivers_register() */
extern struct row_type row_blockdev_options;           /* union */
extern const struct row_type row_blockdev_ref;         /* alternate: options or a node's name */
extern const struct row_type row_blockdev_ref_or_null; /* the same, or null; "" counts as null */
extern const struct row_type row_blockdev_discard, row_detect_zeroes, row_cache_options,
    row_on_off_auto;

/* What most formats have: `file`. */
struct generic_format_options {
    struct row_choice file;
};
extern const struct row_type row_generic_format_options;

/* And of formats whose images may lie over others: `backing`, too. */
struct generic_cow_format_options {
    struct generic_format_options base;
    struct row_choice backing;
};
extern const struct row_type row_generic_cow_format_options;

/* The common options of one node after defaults and inheritance. */
struct node_options {
    enum discard_mode discard;
    enum detect_zeroes detect_zeroes;
    bool direct, no_flush;
    bool read_only, auto_read_only, force_share;
    bool guessed; /* formats refuse to follow the names of files in their headers; inherited */
};

/** options_resolve - apply what was said, then what the parent hands down, then the defaults of QEMU
 * @parent: the parent's resolved options, NULL for a node that stands for itself
 * An inline child inherits cache, read-only, auto-read-only and force-share; a protocol child under a
 * format gets discard=unmap; a backing child is read-only.
 */
int options_resolve(const struct blockdev_options *said, const struct node_options *parent,
                    enum edge_role role, struct node_options *out, struct err *err);

#endif
