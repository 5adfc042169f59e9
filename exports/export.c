/* SPDX-License-Identifier: MIT */
/*
 * The list of exports and what all kinds have in common: their options, their
 * root, and how they come and go.
 *
 * An export that is asked to go stays in the list, shutting down, until its
 * last client has left; a coroutine waits for that, takes the root apart and
 * sends BLOCK_EXPORT_DELETED, after which the id may be used again.
 */
#include "exports/export.h"

#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/parse.h"
#include "block/deadline.h"
#include "block/edit.h"
#include "block/event.h"
#include "block/iothread.h"
#include "uring/await.h"

enum { EXPORT_KINDS_MAX = 8 };

static const struct export_driver *kinds[EXPORT_KINDS_MAX];
static const char *kind_names[EXPORT_KINDS_MAX + 1];
static const struct row_type *kind_options[EXPORT_KINDS_MAX + 1];

static struct list exports = LIST_INIT(exports);
static struct hash by_id;
static struct co_cond unheld = CO_COND_INIT(unheld);
static struct co_cond gone = CO_COND_INIT(gone); /* woken whenever an export has been freed */
static uint64_t serials;

static ROW_LIST_TYPE(row_uint32_list, row_uint32);

struct row_type row_block_export_type = {
    .kind = ROW_ENUM,
    .name = "BlockExportType",
    .size = sizeof(int),
    .values = kind_names,
    .help = "A kind of block export",
};

static const struct row export_rows[] = {
    ROW_REQ(struct block_export_options, "type", type, row_block_export_type,
            .help = "The kind of export"),
    ROW_REQ(struct block_export_options, "id", id, row_str,
            .help = "The export's name; it is the device name of other commands"),
    ROW_REQ(struct block_export_options, "node-name", node_name, row_str,
            .help = "The node to export"),
    ROW_OPT(struct block_export_options, "iothread", iothread, row_str,
            .help = "The iothread object whose ring serves all clients; default: all rings do"),
    ROW_OPT(struct block_export_options, "fixed-iothread", fixed_iothread, row_bool,
            .help = "Accepted for compatibility: an export never leaves the ring it was given"),
    ROW_OPT(struct block_export_options, "writable", writable, row_bool,
            .help = "May clients write? Default: no"),
    ROW_OPT(struct block_export_options, "writethrough", writethrough, row_bool,
            .help = "Answer a write only when it is on stable storage; default: off"),
    ROW_OPT(struct block_export_options, "account-invalid", account_invalid, row_bool,
            .fallback = "true", .since = "0.1",
            .help = "Count refused requests in the time of the last access; default: on"),
    ROW_OPT(struct block_export_options, "account-failed", account_failed, row_bool,
            .fallback = "true", .since = "0.1",
            .help = "Count failed requests in latencies and the last access; default: on"),
    ROW_OPT(struct block_export_options, "stats-intervals", stats_intervals, row_uint32_list,
            .since = "0.1", .help = "Lengths in seconds of the intervals to keep statistics of"),
    ROW_OPT(struct block_export_options, "request-deadline", request_deadline, row_uint32,
            .since = "0.1",
            .help = "Seconds after which nodes below are yanked if a request is still in flight; "
                    "default 0: never"),
    ROW_OPT(struct block_export_options, "rerror", rerror, row_on_error, .fallback = "auto",
            .since = "0.1", .help = "What to do when a read fails; default: auto"),
    ROW_OPT(struct block_export_options, "werror", werror, row_on_error, .fallback = "auto",
            .since = "0.1", .help = "What to do when any other request fails; default: auto"),
    ROW_END,
};

struct row_type row_block_export_options = {
    .kind = ROW_UNION,
    .name = "BlockExportOptions",
    .size = sizeof(struct block_export_options),
    .rows = export_rows,
    .tag = "type",
    .branch_offset = offsetof(struct block_export_options, driver_options),
    .branches = kind_options,
    .help = "How a node is exported",
};

struct export_deleted {
    char *id;
};

static const struct row export_deleted_rows[] = {
    ROW_REQ(struct export_deleted, "id", id, row_str, .help = "The export's name"),
    ROW_END,
};

static ROW_STRUCT_TYPE(row_export_deleted, "BLOCK_EXPORT_DELETED-arg", struct export_deleted,
                       export_deleted_rows);

const struct event_type event_block_export_deleted = {
    .name = "BLOCK_EXPORT_DELETED",
    .data = &row_export_deleted,
    .help = "An export is gone and its id can be used again",
};

void exports_register(const struct export_driver *const *list)
{
    for (unsigned i = 0; list[i] && i < EXPORT_KINDS_MAX; i++) {
        kinds[i] = list[i];
        kind_names[i] = list[i]->name;
        kind_options[i] = list[i]->options;
    }
}

struct export *export_find(const char *id)
{
    return hash_get(&by_id, id);
}

static struct export *first_ready(struct list *l)
{
    for (; l != &exports; l = l->next) {
        struct export *x = container_of(l, struct export, link);
        if (x->ready)
            return x;
    }
    return NULL;
}

struct export *export_first(void)
{
    return first_ready(exports.next);
}

struct export *export_next(struct export *x)
{
    return first_ready(x->link.next);
}

static int check_id(const struct block_export_options *o, struct err *err)
{
    struct node *n;

    if (!id_is_well_formed(o->id))
        return err_set(err, -EINVAL, "Invalid block export id");
    if (export_find(o->id))
        return err_set(err, -EEXIST, "Block export id '%s' is already in use", o->id);
    n = node_find(o->id);
    if (n && strcmp(o->id, o->node_name) != 0)
        return err_set(err, -EEXIST,
                       "Block export id '%s' is the name of a node that it does not export", o->id);
    return 0;
}

static enum on_error on_error(int said, enum on_error automatic)
{
    return said == ON_ERROR_AUTO ? automatic : (enum on_error)said;
}

/* The root: what the client's counters belong to, and the edge that holds the node. */
static int co_fn make_root(struct export *x, struct node *n, struct err *err)
{
    const struct block_export_options *o = x->said;
    unsigned perm = PERM_READ | (x->writable ? PERM_WRITE : 0);
    struct edge *e;

    x->root = root_new(x->id, ROOT_EXPORT, &x->driver->root, err);
    if (!x->root)
        return err->code;
    x->root->owner = x;
    x->root->stats = device_stats_new(o->account_invalid, o->account_failed, o->stats_intervals.v,
                                      o->stats_intervals.n);
    if (!x->root->stats)
        return err_set(err, -ENOMEM, "export '%s': out of memory", x->id);
    if (policy_init(&x->policy, x->root, on_error(o->rerror, x->driver->on_read_error),
                    on_error(o->werror, x->driver->on_write_error)) < 0)
        return err_set(err, -ENOMEM, "export '%s': out of memory", x->id);
    root_set_deadline(x->root, o->request_deadline * UINT64_C(1000000000));
    return edge_attach(NULL, x->root, n, "root", ROLE_FILE, perm, PERM_ALL, &e, err);
}

static void co_fn export_free(struct export *x)
{
    policy_end(&x->policy);
    if (x->root) {
        while (root_edge(x->root))
            edge_detach(root_edge(x->root));
        device_stats_free(x->root->stats);
        root_free(x->root);
    }
    if (x->id && hash_get(&by_id, x->id) == x)
        hash_remove(&by_id, x->id);
    list_remove(&x->link);
    if (x->said)
        row_release(&row_block_export_options, x->said);
    free(x->said);
    free(x->state);
    free(x->id);
    free(x);
}

static struct export *export_new(const struct block_export_options *o, struct err *err)
{
    struct export *x = calloc(1, sizeof(*x));

    if (!x)
        goto no_memory;
    list_init(&x->link);
    x->serial = ++serials;
    x->driver = kinds[o->type];
    x->writable = o->writable;
    x->writethrough = o->writethrough;
    x->id = strdup(o->id);
    x->said = calloc(1, sizeof(*x->said));
    x->state = calloc(1, x->driver->state_size ? x->driver->state_size : 1);
    if (!x->id || !x->said || !x->state || row_copy(&row_block_export_options, o, x->said) < 0)
        goto no_memory;
    return x;

no_memory:
    if (x) {
        free(x->id);
        free(x->said);
        free(x->state);
        free(x);
    }
    err_set(err, -ENOMEM, "export '%s': out of memory", o->id);
    return NULL;
}

void export_hold(struct export *x)
{
    x->holds++;
}

void export_release(struct export *x)
{
    if (--x->holds == 0)
        co_cond_wake_all(&unheld);
}

static void co_fn wait_unheld(struct export *x)
{
    while (x->holds)
        co_cond_wait(&unheld, NULL);
}

int co_fn export_add(const struct block_export_options *o, struct export **out, struct err *err)
{
    struct export *x;
    struct node *n;
    struct edit *edit;

    if (check_id(o, err) < 0)
        return err->code;
    n = node_find(o->node_name);
    if (!n)
        return err_set(err, -ENOENT, "Cannot find device='' nor node-name='%s'", o->node_name);
    if (o->writable && n->read_only && !n->options.auto_read_only)
        return err_set(err, -EACCES, "Cannot export read-only node as writable");
    if (o->iothread && iothread_ring_index(o->iothread, err) < 0)
        return err->code;

    edit = edit_begin("block-export-add");
    /* Others may have been at work while this one waited. */
    n = node_find(o->node_name);
    if (!n)
        err_set(err, -ENOENT, "Cannot find device='' nor node-name='%s'", o->node_name);
    x = n && check_id(o, err) == 0 ? export_new(o, err) : NULL;
    if (!x) {
        edit_abort(edit);
        return err->code;
    }
    list_push_back(&exports, &x->link);
    const struct edit_change change = { .kind = EDIT_EXPORT_ADDED,
                                        .name = x->id,
                                        .type = &row_block_export_options,
                                        .options = x->said };
    if (hash_put(&by_id, x->id, x) < 0)
        err_set(err, -ENOMEM, "export '%s': out of memory", x->id);
    else if (edit_note(edit, &change, err) == 0 && make_root(x, n, err) == 0 &&
             x->driver->start(x, x->said->driver_options, err) == 0) {
        x->ready = true;
        if (edit_commit(edit, err) == 0) {
            if (out)
                *out = x;
            return 0;
        }
        edit = NULL;
        x->ready = false;
        x->driver->shutdown(x, true);
        x->driver->stop(x);
    }
    wait_unheld(x);
    export_free(x);
    if (edit)
        edit_abort(edit);
    return err->code;
}

/* The last steps of an export's life: a coroutine of its own. */
static void co_fn export_end(void *arg)
{
    struct export *x = arg;
    struct export_deleted data = { .id = x->id };
    struct edit *edit;
    autoerr err = { 0 };

    co_deadline_exempt(true);
    x->driver->stop(x);
    edit = edit_begin("the end of an export");
    while (edit_drain_root(edit, x->root, &err) < 0) {
        log_error("export '%s' waits to be removed: %s", x->id, err.msg);
        err_clear(&err);
    }
    while (root_edge(x->root))
        edge_detach(root_edge(x->root));
    (void)edit_commit(edit, &err); /* its removal was recorded when it was asked for */
    wait_unheld(x);
    event_send(&event_block_export_deleted, &data);
    export_free(x);
    co_cond_wake_all(&gone);
}

static int begin_removal(struct export *x, bool hard, struct err *err)
{
    if (!x->shutting_down && co_start(export_end, x, "export removal") < 0)
        return err_set(err, -ENOMEM, "export '%s': no memory to remove it", x->id);
    x->shutting_down = true;
    x->driver->shutdown(x, hard);
    return 0;
}

static int co_fn check_removal(const char *id, bool hard, struct export **out, struct err *err)
{
    struct export *x = *out = export_find(id);

    if (!x)
        return err_set(err, -ENOENT, "Export '%s' is not found", id);
    if (x->shutting_down)
        return err_set(err, -EBUSY, "Export '%s' is already shutting down", id);
    if (!hard && x->driver->in_use(x))
        return err_set(err, -EBUSY, "export '%s' still in use", x->id);
    return 0;
}

/* A client that comes while the record is written may stay until it leaves. */
int co_fn export_del(const char *id, enum export_remove_mode mode, struct err *err)
{
    struct edit *edit = edit_begin("block-export-del");
    struct edit_change change = { .kind = EDIT_EXPORT_REMOVED };
    struct export *x;

    if (check_removal(id, mode == EXPORT_REMOVE_HARD, &x, err) == 0) {
        change.name = x->id;
        edit_note(edit, &change, err);
    }
    if (err->code) {
        edit_abort(edit);
        return err->code;
    }
    export_hold(x);
    if (edit_commit(edit, err) == 0)
        begin_removal(x, mode == EXPORT_REMOVE_HARD, err);
    export_release(x);
    return err->code;
}

static bool is_alive(uint64_t serial)
{
    struct export *x;

    list_for_each (x, &exports, link)
        if (x->serial == serial)
            return true;
    return false;
}

void co_fn export_del_wait(struct export *x)
{
    uint64_t serial = x->serial;

    for (;;) {
        autoerr err = { 0 };
        if (begin_removal(x, true, &err) == 0)
            break;
        log_error("%s", err.msg);
        co_sleep(100 * 1000 * 1000);
        if (!is_alive(serial))
            return;
    }
    while (is_alive(serial))
        co_cond_wait(&gone, NULL);
}

void co_fn exports_shutdown(void)
{
    struct export *x;

    list_for_each (x, &exports, link) {
        autoerr err = { 0 };
        if (x->ready && begin_removal(x, true, &err) < 0)
            log_error("%s", err.msg);
    }
    while (!list_empty(&exports)) {
        x = export_first();
        if (x)
            export_del_wait(x);
        else
            co_sleep(1000 * 1000); /* one is just being made */
    }
}
