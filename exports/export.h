/* SPDX-License-Identifier: MIT */
/*
 * Exports: the doors through which a node is seen from outside.  An export is
 * what a virtual machine monitor would call a device: its id is the device
 * name, it has statistics and an error policy.  A kind of export is
 * one constant table.  Control ring only, unless said otherwise.
 */
#ifndef EXPORTS_EXPORT_H
#define EXPORTS_EXPORT_H

#include "base/row.h"
#include "block/io.h"
#include "exports/policy.h"

struct export_driver;

/* BlockExportOptions: a flat union by `type`. */
struct block_export_options {
    int type; /* index in row_block_export_type */
    char *id;
    char *node_name;
    char *iothread;
    bool fixed_iothread;
    bool writable;                        /* default false */
    bool writethrough;                    /* default false */
    bool account_invalid, account_failed; /* default true */
    struct row_list stats_intervals;      /* of uint32_t, seconds */
    uint32_t request_deadline;            /* seconds; 0: none */
    int rerror, werror;                   /* enum on_error */
    void *driver_options;
};
extern struct row_type row_block_export_type;    /* enum, filled in by exports_register() */
extern struct row_type row_block_export_options; /* union */

struct export
{
    const struct export_driver *driver;
    char *id;
    struct root *root; /* its edge leads to the exported node; root->stats are the device's */
    struct error_policy policy;
    bool writable, writethrough;
    bool ready; /* made whole: queries show it */
    bool shutting_down;
    unsigned holds;                    /* queries that look at it */
    uint64_t serial;                   /* no two exports have the same, ever */
    struct block_export_options *said; /* as given, owned */
    void *state;                       /* driver->state_size bytes, zeroed */
    struct list link;                  /* oldest first */
};

/* How clients find an export; what does not apply to its kind is NULL.  All owned. */
struct export_door {
    char *name, *server, *uri;
    char *device; /* "/dev/ublkb0" */
};

struct export_driver {
    const char *name; /* BlockExportType */
    const struct row_type *options;
    size_t state_size;
    enum on_error on_read_error, on_write_error; /* what "auto" means */
    struct root_driver root;                     /* resized, drain_begin, drain_end */
    /* Open for clients; the root is ready.  When it fails nothing is left behind. */
    int co_fn (*start)(struct export *x, const void *options, struct err *err);
    /* Has it clients (an opener)? */
    bool co_fn (*in_use)(struct export *x);
    /* Fill in @door, which is zeroed; 0 or -ENOMEM, also then the caller frees what is in it.  May be NULL. */
    int (*describe)(struct export *x, struct export_door *door);
    /* No new clients; with @hard those there are are cut off.  Returns at once. */
    void (*shutdown)(struct export *x, bool hard);
    /* Wait until the last client is gone and free what start() made. */
    void co_fn (*stop)(struct export *x);
};

void exports_register(const struct export_driver *const *list); /* NULL-ended; before any parsing */

/** export_add - make an export; errors as QEMU's: dup id, unknown node, read-only node made writable ... */
int co_fn export_add(const struct block_export_options *options, struct export **out,
                     struct err *err);

enum export_remove_mode { EXPORT_REMOVE_SAFE, EXPORT_REMOVE_HARD };

/** export_del - request that it goes: refused in mode safe while in use.  It is gone (and its id free) when
 * BLOCK_EXPORT_DELETED is sent, which a background coroutine does after the last client left.
 */
int co_fn export_del(const char *id, enum export_remove_mode mode, struct err *err);

/** export_del_wait - the same, and wait until it is gone */
void co_fn export_del_wait(struct export *x);

/** exports_shutdown - all of them go, hard; returns when the last is gone (the daemon stops) */
void co_fn exports_shutdown(void);

struct export *export_find(const char *id);
/* All that are ready, oldest first. */
struct export *export_first(void);
struct export *export_next(struct export *x);

/** export_hold / export_release - keep an export that is being removed from being freed, for a moment: for
 * commands that look at its statistics and yield
 */
void export_hold(struct export *x);
void export_release(struct export *x);

extern const struct event_type event_block_export_deleted;

#endif
