/* SPDX-License-Identifier: MIT */
/* Commands for objects: object-add, object-del. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

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

int co_fn qmp_object_add(const struct object_options *options, struct err *err)
{
    struct creation c = { .err = err };

    if (object_begin(options, &c.object, err) < 0)
        return err->code;
    return object_end(c.object, ring_block(create, &c));
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
    return object_del(((struct id_args *)args)->id, err);
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
