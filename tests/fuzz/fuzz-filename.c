/* SPDX-License-Identifier: MIT */
/*
 * Nodes from any text of --blockdev (null nodes, and raw over them), and their
 * names: a name "json:{...}" opens a node that has the same name and the same
 * size.  Nothing is left when all is closed.
 */
#include <json-c/json.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "block/blockdev.h"
#include "block/root.h"
#include "tests/fuzz/virtual-client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

extern const struct driver driver_null_co, driver_null_aio, driver_raw;
static const struct driver *const drivers[] = { &driver_null_co, &driver_null_aio, &driver_raw,
                                                NULL };

/* Open a node by text; NULL: the text does not do. */
static struct node *co_fn open_text(const char *text)
{
    struct blockdev_options o;
    struct node *n = NULL;
    autoerr err = { 0 };

    if (row_parse_text(&row_blockdev_options, text, "driver", &o, &err) < 0) {
        if (!err.msg)
            wrong("a refusal without a sentence");
        return NULL;
    }
    int result = blockdev_add(&o, &err);
    if (result < 0 && !err.msg)
        wrong("a failure without a sentence");
    if (result == 0 && !(n = node_find(o.node_name)))
        wrong("node '%s' is not there", o.node_name);
    row_release(&row_blockdev_options, &o);
    return n;
}

/* The options of "json:{...}", with a name of its own for the node. */
static char *named(const char *json)
{
    struct json_object *value;
    autoerr err = { 0 };
    char *text;

    if (json_parse(json, strlen(json), &value, &err) < 0)
        wrong("the name '%s' is no JSON: %s", json, err.msg);
    json_object_object_add(value, "node-name", json_object_new_string("again"));
    text = json_text(value);
    json_object_put(value);
    return text;
}

static void co_fn one(void *arg)
{
    struct node *n = open_text(arg), *again;
    autofree char *name = NULL, *text = NULL, *second = NULL;

    if (!n || !(name = node_filename(n)) || strncmp(name, "json:", 5) || node_find("again"))
        return;
    text = named(name + 5);
    again = open_text(text);
    if (!again)
        wrong("nothing opens by the name '%s'", name);
    second = node_filename(again);
    if (!second || strcmp(second, name))
        wrong("'%s' opens '%s'", name, second ? second : "");
    if (node_size(n) != node_size(again))
        wrong("'%s' opens another size", name);
}

static void co_fn close_all(void *arg)
{
    (void)arg;
    blockdev_close_all();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    memcpy(text, data, size);
    text[size] = 0;
    if (!this_ring) {
        log_set_level(LOG_LEVEL_ERROR);
        drivers_register(drivers);
        virtual_rings_init(1);
    }
    in_coroutine(one, text);
    in_coroutine(close_all, NULL);
    if (node_first() || root_first())
        wrong("a node stays");
    free(text);
    return 0;
}
