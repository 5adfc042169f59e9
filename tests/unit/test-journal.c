/* SPDX-License-Identifier: MIT */
/*
 * What the journal is told of each kind of change, and that a journal that
 * refuses leaves everything as it was.  Virtual rings.
 */
#include "tests/unit/graph-fixture.h"

#include <unistd.h>

#include "crypto/object.h"
#include "exports/nbd.h"
#include "qmp/commands.h"

/* The last record, as text. */
static char last[2048];
static unsigned records;
static bool refusing;

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    size_t used = strlen(last);
    va_list args;
    va_start(args, format);
    vsnprintf(last + used, sizeof last - used, format, args);
    va_end(args);
}

static int co_fn journal(const struct edit_record *record, struct err *err)
{
    static const char *const kinds[] = {
        [EDIT_NODE_ADDED] = "+node",       [EDIT_NODE_REMOVED] = "-node",
        [EDIT_NODE_RESIZED] = "=node",     [EDIT_EDGE_MOVED] = ">edge",
        [EDIT_EXPORT_ADDED] = "+export",   [EDIT_EXPORT_REMOVED] = "-export",
        [EDIT_OBJECT_ADDED] = "+object",   [EDIT_OBJECT_CHANGED] = "=object",
        [EDIT_OBJECT_REMOVED] = "-object", [EDIT_SERVER_ADDED] = "+server",
        [EDIT_SERVER_REMOVED] = "-server",
    };
    co_pause();
    last[0] = 0;
    records++;
    say("%s:", record->what);
    for (unsigned i = 0; i < record->count; i++) {
        const struct edit_change *c = &record->changes[i];
        say(" %s %s", kinds[c->kind], c->name ? c->name : "(default)");
        if (c->kind == EDIT_NODE_RESIZED)
            say(" %llu", (unsigned long long)c->size);
        if (c->kind == EDIT_EDGE_MOVED)
            say(".%s %s", c->edge, c->to);
        if (c->type) {
            char *text = row_text(c->type, c->options);
            say(" %s", text);
            free(text);
        }
    }
    co_pause();
    return refusing ? err_set(err, -ENOSPC, "the journal is full") : 0;
}

static void refused(int result, const struct err *err)
{
    ck_assert_int_eq(result, -ENOSPC);
    ck_assert_str_eq(err->msg, "the journal is full");
}

static int co_fn run_text(const struct row_type *type, const char *text,
                          int co_fn (*fn)(const void *options, struct err *err), struct err *err)
{
    void *options = calloc(1, type->size);
    int result = row_parse_text(type, text, NULL, options, err);
    if (result == 0) {
        result = fn(options, err);
        row_release(type, options);
    }
    free(options);
    return result;
}

static int co_fn export_it(const void *options, struct err *err)
{
    return export_add(options, NULL, err);
}

static int co_fn make_object(const void *options, struct err *err)
{
    return qmp_object_add(options, err);
}

static int co_fn start_server(const void *options, struct err *err)
{
    return nbd_server_start(options, NULL, NULL, err);
}

CO_TEST(nodes)
{
    autoerr err = { 0 };
    edit_set_journal(journal);
    add("driver=raw,node-name=r,file.driver=store");
    ck_assert_str_eq(last, "blockdev-add: +node r {\"driver\": \"raw\", \"node-name\": \"r\", "
                           "\"file\": {\"driver\": \"store\"}}");
    del("r");
    ck_assert_str_eq(last, "blockdev-del: -node r");
    refusing = true;
    refused(try_add("driver=store,node-name=s", &err), &err);
    ck_assert_uint_eq(count_nodes(), 0);
    edit_set_journal(NULL);
}

CO_TEST(a_refused_resize_changes_nothing)
{
    autoerr err = { 0 };
    char path[] = "/tmp/ringblk-journal-XXXXXX", text[128];
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 1 << 20), 0);
    snprintf(text, sizeof text, "driver=file,node-name=f,filename=%s", path);
    struct node *n = add(text);
    edit_set_journal(journal);
    refusing = true;
    refused(io_resize(n, 4096, &err), &err);
    ck_assert_str_eq(last, "block_resize: =node f 4096");
    ck_assert_uint_eq(node_size(n), 1 << 20);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), 1 << 20);
    err_clear(&err);
    refusing = false;
    must(io_resize(n, 4096, &err), &err);
    ck_assert_uint_eq(node_size(n), 4096);
    edit_set_journal(NULL);
    del("f");
    close(fd);
    unlink(path);
}

CO_TEST(what_changes_no_configuration_is_not_recorded)
{
    autoerr err = { 0 };
    struct node *n = add("driver=store,node-name=s");
    edit_set_journal(journal);
    refusing = true;
    must(track_require(n, &err), &err);
    track_release(n);
    must(threshold_set(n, 4096, &err), &err);
    ck_assert_uint_eq(records, 0);
    edit_set_journal(NULL);
}

CO_TEST(exports_and_servers)
{
    autoerr err = { 0 };
    char path[64], server[128], expected[512];
    snprintf(path, sizeof path, "/tmp/ringblk-journal-%d", (int)getpid());
    snprintf(server, sizeof server, "addr.type=unix,addr.path=%s", path);
    static const char wanted[] = "type=nbd,id=x,node-name=s,name=disk";
    add("driver=null-co,node-name=s");
    edit_set_journal(journal);

    refusing = true;
    refused(run_text(&row_nbd_server_options, server, start_server, &err), &err);
    ck_assert(!nbd_server_running(NULL));
    ck_assert_int_lt(access(path, F_OK), 0);
    err_clear(&err);
    refusing = false;
    must(run_text(&row_nbd_server_options, server, start_server, &err), &err);
    snprintf(
        expected, sizeof expected,
        "nbd-server-start: +server (default) {\"addr\": {\"type\": \"unix\", \"path\": \"%s\"}",
        path);
    ck_assert_msg(!strncmp(last, expected, strlen(expected)), "%s", last);

    refusing = true;
    refused(run_text(&row_block_export_options, wanted, export_it, &err), &err);
    ck_assert_ptr_null(export_find("x"));
    err_clear(&err);
    refusing = false;
    must(run_text(&row_block_export_options, wanted, export_it, &err), &err);
    ck_assert_msg(strstr(last, "block-export-add: +export x {") == last &&
                      strstr(last, "\"node-name\": \"s\"") && strstr(last, "\"name\": \"disk\""),
                  "%s", last);

    refusing = true;
    refused(export_del("x", EXPORT_REMOVE_SAFE, &err), &err);
    err_clear(&err);
    ck_assert(!export_find("x")->shutting_down);
    refused(nbd_server_stop(NULL, &err), &err);
    err_clear(&err);
    ck_assert(nbd_server_running(NULL) && export_find("x"));
    refusing = false;
    must(nbd_server_stop(NULL, &err), &err);
    ck_assert_str_eq(last, "nbd-server-stop: -export x -server (default)");
    ck_assert(!nbd_server_running(NULL) && !export_find("x"));
    ck_assert_int_eq(export_del("x", EXPORT_REMOVE_SAFE, &err), -ENOENT);
    edit_set_journal(NULL);
}

CO_TEST(an_export_that_goes)
{
    autoerr err = { 0 };
    char server[128];
    snprintf(server, sizeof server, "addr.type=unix,addr.path=/tmp/ringblk-journal-%d",
             (int)getpid());
    add("driver=null-co,node-name=s");
    must(run_text(&row_nbd_server_options, server, start_server, &err), &err);
    must(run_text(&row_block_export_options, "type=nbd,id=x,node-name=s", export_it, &err), &err);
    edit_set_journal(journal);
    must(export_del("x", EXPORT_REMOVE_SAFE, &err), &err);
    ck_assert_str_eq(last, "block-export-del: -export x");
    exports_shutdown();
    ck_assert_uint_eq(records, 1); /* its end is no news */
    nbd_servers_stop_all();
    ck_assert_uint_eq(records, 1); /* nor does a daemon that stops forget its servers */
    edit_set_journal(NULL);
}

CO_TEST(objects)
{
    static const char wanted[] = "qom-type=secret,id=k,data=hush";
    autoerr err = { 0 };
    edit_set_journal(journal);
    refusing = true;
    refused(run_text(&row_object_options, wanted, make_object, &err), &err);
    err_clear(&err);
    ck_assert_ptr_null(object_first());
    refusing = false;
    must(run_text(&row_object_options, wanted, make_object, &err), &err);
    ck_assert_msg(strstr(last, "object-add: +object k {\"qom-type\": \"secret\", \"id\": \"k\"") ==
                      last,
                  "%s", last);

    char *id = strdup("k");
    const struct qmp_command *del_command = qmp_object_commands;
    while (strcmp(del_command->name, "object-del") != 0)
        del_command++;
    refusing = true;
    refused(del_command->run(NULL, &id, NULL, &err), &err);
    err_clear(&err);
    ck_assert_ptr_nonnull(object_find("k", NULL, &err));
    refusing = false;
    must(del_command->run(NULL, &id, NULL, &err), &err);
    ck_assert_str_eq(last, "object-del: -object k");
    ck_assert_ptr_null(object_first());
    free(id);
    edit_set_journal(NULL);
}

int main(void)
{
    const TTest *const tests[] = {
        nodes,
        a_refused_resize_changes_nothing,
        what_changes_no_configuration_is_not_recorded,
        exports_and_servers,
        an_export_that_goes,
        objects,
        NULL,
    };
    qmp_register_types();
    return run_tests("journal", tests);
}
