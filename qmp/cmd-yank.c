/* SPDX-License-Identifier: MIT */
/*
 * Commands for when something hangs: what is in flight and for how long, and
 * yank, which makes nodes and character devices let go.  All of them may be
 * called out of band, while a command in band waits for the very thing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/root.h"
#include "qmp/commands.h"

/* ---- character devices that can be yanked ---- */

struct yank_chardev {
    struct list link;
    const char *id;
};

static struct list chardevs = LIST_INIT(chardevs);

int yank_chardev_add(const char *id, struct err *err)
{
    struct yank_chardev *c = malloc(sizeof(*c));

    if (!c)
        return err_set(err, -ENOMEM, "chardev '%s': out of memory", id);
    c->id = id;
    list_push_back(&chardevs, &c->link);
    return 0;
}

void yank_chardevs_forget(void)
{
    for (struct list *l; (l = list_pop_front(&chardevs));)
        free(container_of(l, struct yank_chardev, link));
}

static bool chardev_known(const char *id)
{
    struct yank_chardev *c;

    list_for_each (c, &chardevs, link)
        if (strcmp(c->id, id) == 0)
            return true;
    return false;
}

/* ---- instances ---- */

enum yank_type { YANK_BLOCK_NODE, YANK_CHARDEV, YANK_MIGRATION };

struct yank_instance {
    int type; /* enum yank_type */
    void *branch;
};

struct yank_name {
    char *name;
};

static const char *const type_values[] = { "block-node", "chardev", "migration", NULL };
static const char *const type_help[] = { "a node", "a character device",
                                         "there is none here: always refused" };
static ROW_ENUM_TYPE(row_yank_type, "YankInstanceType", type_values, .value_help = type_help,
                     .help = "A kind of thing that can be yanked");

static const struct row node_rows[] = {
    ROW_REQ(struct yank_name, "node-name", name, row_str, .help = "The node"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_yank_node, "YankInstanceBlockNode", struct yank_name, node_rows);

static const struct row chardev_rows[] = {
    ROW_REQ(struct yank_name, "id", name, row_str, .help = "The character device"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_yank_chardev, "YankInstanceChardev", struct yank_name, chardev_rows);

static const struct row instance_rows[] = {
    ROW_REQ(struct yank_instance, "type", type, row_yank_type, .help = "What kind of thing"),
    ROW_END,
};
static const struct row_type *const instance_branches[] = {
    [YANK_BLOCK_NODE] = &row_yank_node,
    [YANK_CHARDEV] = &row_yank_chardev,
    [YANK_MIGRATION] = NULL,
};
static ROW_UNION_TYPE(row_yank_instance, "YankInstance", struct yank_instance, instance_rows,
                      "type", branch, instance_branches, .help = "Something that can be yanked");
static ROW_LIST_TYPE(row_yank_instances, row_yank_instance);

static const char *name_of(const struct yank_instance *i)
{
    const struct yank_name *branch = i->branch;
    return branch ? branch->name : "";
}

static bool exists(const struct yank_instance *i)
{
    const struct node *n;

    switch (i->type) {
    case YANK_BLOCK_NODE: n = node_find(name_of(i)); return n && n->driver->yank;
    case YANK_CHARDEV: return chardev_known(name_of(i));
    default: return false;
    }
}

static void let_go(const struct yank_instance *i)
{
    struct node *n;

    if (i->type == YANK_BLOCK_NODE) {
        n = node_find(name_of(i));
        n->driver->yank(n);
    } else {
        monitors_yank(name_of(i));
    }
}

struct yank_args {
    struct row_list instances; /* struct yank_instance */
};

static const struct row yank_rows[] = {
    ROW_REQ(struct yank_args, "instances", instances, row_yank_instances,
            .help = "What is to let go; all or none of them"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_yank_args, "yank-arg", struct yank_args, yank_rows);

static int co_fn yank(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct yank_args *a = args;
    const struct yank_instance *list = a->instances.v;

    (void)m;
    (void)result;
    for (size_t i = 0; i < a->instances.n; i++)
        if (!exists(&list[i]))
            return err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENODEV, "Instance not found: %s '%s'",
                                 type_values[list[i].type], name_of(&list[i]));
    for (size_t i = 0; i < a->instances.n; i++)
        let_go(&list[i]);
    return 0;
}

static int append(struct row_list *to, enum yank_type type, const char *name, struct err *err)
{
    struct yank_instance *i = row_list_append(&row_yank_instances, to);
    struct yank_name *branch = calloc(1, sizeof(*branch));

    if (i && branch) {
        i->type = type;
        i->branch = branch;
        branch->name = strdup(name);
        if (branch->name)
            return 0;
    } else {
        free(branch);
    }
    return err_set(err, -ENOMEM, "Out of memory");
}

static int co_fn query(struct monitor *m, void *args, void *result, struct err *err)
{
    struct yank_chardev *c;

    (void)m;
    (void)args;
    for (struct node *n = node_first(); n; n = node_next(n))
        if (n->driver->yank && append(result, YANK_BLOCK_NODE, n->name, err) < 0)
            return err->code;
    list_for_each (c, &chardevs, link)
        if (append(result, YANK_CHARDEV, c->id, err) < 0)
            return err->code;
    return 0;
}

/* ---- what is in flight ---- */

struct in_flight {
    char *name;
    int kind; /* enum root_kind */
    uint32_t requests;
    uint64_t oldest;
};

static const char *const kind_values[] = { "export", "job", "command", "background", NULL };
static const char *const kind_help[] = { "an export", "a job", "a command",
                                         "the background work of a node" };
static ROW_ENUM_TYPE(row_kind, "XRingblkOwnerType", kind_values, .value_help = kind_help,
                     .help = "Who makes requests");

static const struct row in_flight_rows[] = {
    ROW_REQ(struct in_flight, "id", name, row_str, .help = "The name of who makes them"),
    ROW_REQ(struct in_flight, "type", kind, row_kind, .help = "What that is"),
    ROW_REQ(struct in_flight, "requests", requests, row_uint32,
            .help = "How many of its requests are in flight"),
    ROW_REQ(struct in_flight, "oldest-ns", oldest, row_uint64,
            .help = "For how long the oldest of them has been, in nanoseconds"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_in_flight, "XRingblkInFlight", struct in_flight, in_flight_rows,
                       .help = "Requests in flight");
static ROW_LIST_TYPE(row_in_flights, row_in_flight);

static int co_fn query_in_flight(struct monitor *m, void *args, void *result, struct err *err)
{
    (void)m;
    (void)args;
    for (struct root *r = root_first(); r; r = root_next(r)) {
        struct in_flight *f = row_list_append(&row_in_flights, result);
        if (!f || !(f->name = strdup(r->name)))
            return err_set(err, -ENOMEM, "Out of memory");
        f->kind = r->kind;
        f->requests = root_inside(r);
        f->oldest = root_oldest(r);
    }
    return 0;
}

const struct qmp_command qmp_yank_commands[] = {
    { .name = "yank",
      .args = &row_yank_args,
      .flags = QMP_ALLOW_OOB,
      .run = yank,
      .help = "Make nodes fail what they have in flight, and cut off the clients of character "
              "devices" },
    { .name = "query-yank",
      .result = &row_yank_instances,
      .flags = QMP_ALLOW_OOB,
      .run = query,
      .help = "What can be yanked" },
    { .name = "x-ringblk-query-in-flight",
      .result = &row_in_flights,
      .flags = QMP_ALLOW_OOB,
      .since = "0.1",
      .run = query_in_flight,
      .help = "Who has requests in flight, how many, and for how long" },
    { 0 },
};
