/* SPDX-License-Identifier: MIT */
/* Commands for objects: object-add, object-del. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "block/edit.h"
#include "crypto/object.h"
#include "qmp/commands.h"
#include "uring/ring.h"

/* The older form has the properties in an object of their own, "props". */
static int flatten_props(struct json_object **args, struct err *err)
{
    struct json_object *props, *flat;

    if (!json_object_object_get_ex(*args, "props", &props))
        return 0;
    if (!json_object_is_type(props, json_type_object))
        return err_set(err, -EINVAL, "Invalid parameter type for 'props', expected: object");
    flat = json_object_new_object();
    if (!flat)
        return err_set(err, -ENOMEM, "Out of memory");
    json_object_object_foreach(*args, key, value)
    {
        if (strcmp(key, "props") != 0)
            json_object_object_add(flat, key, json_object_get(value));
    }
    json_object_object_foreach(props, name, property)
    {
        if (json_object_object_get_ex(flat, name, NULL)) {
            json_object_put(flat);
            return err_set(err, -EINVAL, "Parameter '%s' is unexpected", name);
        }
        json_object_object_add(flat, name, json_object_get(property));
    }
    json_object_put(*args);
    *args = flat;
    return 0;
}

struct creation {
    struct object *object;
    struct err *err;
};

static int create(void *arg)
{
    struct creation *c = arg;

    return object_create(c->object, c->err);
}

/* What is made, or about to go, is recorded like any other change of the configuration. */
static int co_fn record(const char *what, const struct edit_change *change, struct err *err)
{
    struct edit *edit = edit_begin(what);

    if (edit_note(edit, change, err) < 0) {
        edit_abort(edit);
        return err->code;
    }
    return edit_commit(edit, err);
}

int co_fn qmp_object_add(const struct object_options *options, struct err *err)
{
    const struct edit_change change = { .kind = EDIT_OBJECT_ADDED,
                                        .name = options->id,
                                        .type = &row_object_options,
                                        .options = options };
    struct creation c = { .err = err };

    if (object_begin(options, &c.object, err) < 0)
        return err->code;
    if (ring_block(create, &c) < 0)
        return object_end(c.object, err->code);
    if (record("object-add", &change, err) < 0) {
        object_remove(c.object);
        return err->code;
    }
    return object_end(c.object, 0);
}

static int co_fn add(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    return qmp_object_add(args, err);
}

struct id_args {
    char *id;
};

static const struct row id_rows[] = {
    ROW_REQ(struct id_args, "id", id, row_str, .help = "The object's name"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_id_args, "object-del-arg", struct id_args, id_rows);

static int co_fn del(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)result;
    struct edit_change change = { .kind = EDIT_OBJECT_REMOVED };
    struct object *o;

    if (object_hide(((struct id_args *)args)->id, &o, err) < 0)
        return err->code;
    change.name = o->id;
    if (record("object-del", &change, err) < 0) {
        object_show(o);
        return err->code;
    }
    object_remove(o);
    return 0;
}

const struct qmp_command qmp_object_commands[] = {
    { .name = "object-add",
      .args = &row_object_options,
      .adapt = flatten_props,
      .run = add,
      .help = "Create an object" },
    { .name = "object-del",
      .args = &row_id_args,
      .run = del,
      .help = "Delete an object that nothing uses" },
    { 0 },
};
