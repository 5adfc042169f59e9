/* SPDX-License-Identifier: MIT */
/* exports/export.c with a kind of export that only notes what is done to it. */
#include <json-c/json.h>

#include "base/json.h"
#include "block/event.h"
#include "exports/export.h"
#include "tests/unit/graph-fixture.h"

/* ---- a kind of export ---- */

struct toy_export {
    unsigned clients;
    bool stopped;
};

static struct {
    int start_result;
    bool opener; /* the next export has a client */
    unsigned started, stopped, shutdowns, hard;
} toy;

static int co_fn toy_start(struct export *x, const void *options, struct err *err)
{
    (void)options;
    ck_assert_ptr_nonnull(root_node(x->root));
    ck_assert(!x->ready);
    if (toy.start_result)
        return err_set(err, toy.start_result, "export '%s' does not want to", x->id);
    ((struct toy_export *)x->state)->clients = toy.opener;
    toy.started++;
    return 0;
}

static bool toy_in_use(struct export *x)
{
    return ((struct toy_export *)x->state)->clients != 0;
}

static void toy_shutdown(struct export *x, bool hard)
{
    toy.shutdowns++;
    toy.hard += hard;
    if (hard)
        ((struct toy_export *)x->state)->clients = 0;
}

static void co_fn toy_stop(struct export *x)
{
    while (toy_in_use(x))
        co_pause();
    toy.stopped++;
}

static const struct row toy_export_rows[] = { ROW_END };
static ROW_STRUCT_TYPE(toy_export_type, "ToyExportOptions", struct toy_export, toy_export_rows);
static const struct export_driver toy_export = {
    .name = "toy",
    .options = &toy_export_type,
    .state_size = sizeof(struct toy_export),
    .start = toy_start,
    .in_use = toy_in_use,
    .shutdown = toy_shutdown,
    .stop = toy_stop,
};

/* ---- events ---- */

static unsigned deleted;
static char last_deleted[64];

static void sink(const struct event_type *type, struct json_object *data, uint64_t seconds,
                 uint64_t microseconds)
{
    (void)seconds, (void)microseconds;
    ck_assert_ptr_eq(type, &event_block_export_deleted);
    char *text = json_text(data);
    snprintf(last_deleted, sizeof last_deleted, "%s", text);
    free(text);
    json_object_put(data);
    deleted++;
}

/* ---- short forms ---- */

static struct node *co_fn begin(void)
{
    static const struct export_driver *const kinds[] = { &toy_export, NULL };
    exports_register(kinds);
    event_set_sink(sink);
    memset(&toy, 0, sizeof toy);
    return add("driver=null-co,node-name=n");
}

static void co_fn end(void)
{
    exports_shutdown();
    for (unsigned i = 0; i < 50; i++)
        co_pause();
    event_set_sink(NULL);
    ck_assert_ptr_null(export_first());
    ck_assert_uint_eq(toy.started, toy.stopped);
}

static int co_fn try_export(const char *text, struct export **out, struct err *err)
{
    struct block_export_options o;
    if (row_parse_text(&row_block_export_options, text, NULL, &o, err) < 0)
        return err->code;
    int result = export_add(&o, out, err);
    row_release(&row_block_export_options, &o);
    return result;
}

static struct export *co_fn make(const char *text)
{
    autoerr err = { 0 };
    struct export *x = NULL;
    must(try_export(text, &x, &err), &err);
    ck_assert_ptr_eq(export_find(x->id), x);
    ck_assert(x->ready);
    return x;
}

static void co_fn refused(const char *text, const char *message)
{
    autoerr err = { 0 };
    unsigned started = toy.started;
    ck_assert_int_lt(try_export(text, NULL, &err), 0);
    ck_assert_str_eq(err.msg, message);
    ck_assert_uint_eq(toy.started, started);
}

static void co_fn removal_refused(const char *id, enum export_remove_mode mode, const char *message)
{
    autoerr err = { 0 };
    ck_assert_int_lt(export_del(id, mode, &err), 0);
    ck_assert_str_eq(err.msg, message);
}

static void co_fn removed(const char *id, enum export_remove_mode mode)
{
    autoerr err = { 0 };
    must(export_del(id, mode, &err), &err);
}

static void co_fn wait_deleted(unsigned count)
{
    for (unsigned i = 0; i < 1000 && deleted < count; i++)
        co_pause();
    ck_assert_uint_eq(deleted, count);
}

/* ---- tests ---- */

CO_TEST(options_reach_the_export)
{
    struct node *n = begin();
    struct export *x = make("type=toy,id=e,node-name=n,writable=on,writethrough=on,"
                            "account-failed=off,stats-intervals.0=3,stats-intervals.1=60");
    ck_assert(x->writable && x->writethrough);
    ck_assert_ptr_eq(root_node(x->root), n);
    ck_assert_uint_eq(root_edge(x->root)->perm, PERM_READ | PERM_WRITE);
    ck_assert(x->root->stats->account_invalid && !x->root->stats->account_failed);
    ck_assert_uint_eq(x->root->stats->interval_count, 2);
    ck_assert_uint_eq(x->root->stats->interval_seconds[1], 60);
    struct export *y = make("type=toy,id=f,node-name=n");
    ck_assert(!y->writable && !y->writethrough && !y->root->stats->interval_count);
    ck_assert_uint_eq(root_edge(y->root)->perm, PERM_READ);
    ck_assert(y->root->stats->account_invalid && y->root->stats->account_failed);
    ck_assert_uint_lt(x->serial, y->serial);
    ck_assert(export_first() == x && export_next(x) == y && !export_next(y));
    del_fails("n", "Node n is in use");
    end();
}

CO_TEST(ids_are_well_formed_and_no_others)
{
    begin();
    static const char *const bad[] = { "1e", "-e", ".e", "_e", "e/", "e e", "\xc3\xa4", "e\n" };
    char text[64];
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(text, sizeof text, "type=toy,id=%s,node-name=n", bad[i]);
        refused(text, "Invalid block export id");
    }
    refused("{'type':'toy','id':'','node-name':'n'}", "Invalid block export id");
    make("type=toy,id=Z0-9._a,node-name=n");
    make("type=toy,id=e,node-name=n");
    refused("type=toy,id=e,node-name=n", "Block export id 'e' is already in use");
    end();
}

/* An id is a device name, which commands look up among nodes, too. */
CO_TEST(ids_and_names_of_nodes_do_not_mix)
{
    begin();
    add("driver=null-co,node-name=other");
    refused("type=toy,id=other,node-name=n",
            "Block export id 'other' is the name of a node that it does not export");
    make("type=toy,id=n,node-name=n");
    make("type=toy,id=x,node-name=n");
    add_fails("driver=null-co,node-name=x", "node-name=x is conflicting with a device id");
    end();
}

CO_TEST(bad_nodes_are_refused)
{
    begin();
    add("driver=null-co,node-name=ro,read-only=on");
    add("driver=null-co,node-name=auto,read-only=on,auto-read-only=on");
    refused("type=toy,id=e,node-name=gone", "Cannot find device='' nor node-name='gone'");
    refused("type=toy,id=e,node-name=ro,writable=on", "Cannot export read-only node as writable");
    refused("type=toy,id=e,node-name=n,iothread=gone", "iothread \"gone\" not found");
    make("type=toy,id=e,node-name=ro");
    end();
}

CO_TEST(a_start_that_fails_leaves_nothing)
{
    struct node *n = begin();
    toy.start_result = -EADDRINUSE;
    refused("type=toy,id=e,node-name=n", "export 'e' does not want to");
    ck_assert_ptr_null(export_find("e"));
    ck_assert_ptr_null(export_first());
    ck_assert_ptr_null(root_first());
    ck_assert(list_empty(&n->parents));
    toy.start_result = 0;
    make("type=toy,id=e,node-name=n");
    end();
}

CO_TEST(a_client_keeps_an_export_from_going_safely)
{
    begin();
    deleted = 0;
    toy.opener = true;
    struct export *x = make("type=toy,id=e,node-name=n");
    removal_refused("gone", EXPORT_REMOVE_SAFE, "Export 'gone' is not found");
    removal_refused("e", EXPORT_REMOVE_SAFE, "export 'e' still in use");
    ck_assert(!x->shutting_down && toy.shutdowns == 0);
    ((struct toy_export *)x->state)->clients = 0;
    removed("e", EXPORT_REMOVE_SAFE);
    ck_assert(toy.shutdowns == 1 && toy.hard == 0);
    wait_deleted(1);
    ck_assert_str_eq(last_deleted, "{\"id\": \"e\"}");
    ck_assert_ptr_null(export_find("e"));
    del("n");
    end();
}

CO_TEST(hard_removal_cuts_clients_off)
{
    begin();
    deleted = 0;
    toy.opener = true;
    make("type=toy,id=e,node-name=n");
    removed("e", EXPORT_REMOVE_HARD);
    ck_assert_uint_eq(toy.hard, 1);
    wait_deleted(1);
    end();
}

/* Until its last client has left an export is there, and its id taken. */
CO_TEST(an_export_that_is_going_is_still_there)
{
    begin();
    deleted = 0;
    struct export *x = make("type=toy,id=e,node-name=n");
    removed("e", EXPORT_REMOVE_SAFE);
    ((struct toy_export *)x->state)->clients = 1; /* one that came in the last moment */
    for (unsigned i = 0; i < 20; i++)
        co_pause();
    ck_assert_ptr_eq(export_find("e"), x);
    ck_assert(x->shutting_down);
    removal_refused("e", EXPORT_REMOVE_HARD, "Export 'e' is already shutting down");
    refused("type=toy,id=e,node-name=n", "Block export id 'e' is already in use");
    ck_assert_uint_eq(deleted, 0);
    ((struct toy_export *)x->state)->clients = 0;
    wait_deleted(1);
    make("type=toy,id=e,node-name=n");
    end();
}

CO_TEST(whoever_looks_at_it_keeps_it)
{
    begin();
    deleted = 0;
    struct export *x = make("type=toy,id=e,node-name=n");
    export_hold(x);
    export_hold(x);
    removed("e", EXPORT_REMOVE_HARD);
    for (unsigned i = 0; i < 50; i++)
        co_pause();
    export_release(x);
    for (unsigned i = 0; i < 50; i++)
        co_pause();
    ck_assert_uint_eq(deleted, 0);
    ck_assert_str_eq(x->id, "e");
    export_release(x);
    wait_deleted(1);
    end();
}

CO_TEST(one_may_wait_until_it_is_gone)
{
    begin();
    struct export *x = make("type=toy,id=e,node-name=n"), *y = make("type=toy,id=f,node-name=n");
    toy.opener = true;
    make("type=toy,id=g,node-name=n");
    removed("f", EXPORT_REMOVE_SAFE); /* under way already */
    export_del_wait(y);
    ck_assert_ptr_null(export_find("f"));
    export_del_wait(x);
    ck_assert_ptr_null(export_find("e"));
    ck_assert_ptr_nonnull(export_find("g"));
    exports_shutdown();
    ck_assert_ptr_null(export_find("g"));
    ck_assert_uint_eq(toy.stopped, 3);
    end();
}

/* A request that is under way when the export goes ends before its root does. */
static struct operation held;

static void let_go(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < 30; i++)
        co_pause();
    ck_assert_ptr_nonnull(export_find("e"));
    operation_end(&held);
}

CO_TEST(requests_under_way_end_before_the_root_goes)
{
    begin();
    deleted = 0;
    struct export *x = make("type=toy,id=e,node-name=n");
    ck_assert(operation_begin(&held, x->root));
    ck_assert_int_eq(co_start(let_go, NULL, "request"), 0);
    removed("e", EXPORT_REMOVE_HARD);
    wait_deleted(1);
    end();
}

int main(void)
{
    const TTest *const tests[] = { options_reach_the_export,
                                   ids_are_well_formed_and_no_others,
                                   ids_and_names_of_nodes_do_not_mix,
                                   bad_nodes_are_refused,
                                   a_start_that_fails_leaves_nothing,
                                   a_client_keeps_an_export_from_going_safely,
                                   hard_removal_cuts_clients_off,
                                   an_export_that_is_going_is_still_there,
                                   whoever_looks_at_it_keeps_it,
                                   one_may_wait_until_it_is_gone,
                                   requests_under_way_end_before_the_root_goes,
                                   NULL };
    return run_tests("export", tests);
}
