/* SPDX-License-Identifier: MIT */
/*
 * The objects that users create by name, and the registry of their types.
 * An object that something uses can't be deleted.
 */
#include "crypto/object.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/parse.h"

enum { TYPES_MAX = 16 };

static const struct object_type *types[TYPES_MAX];
static const char *type_names[TYPES_MAX + 1];
static const struct row_type *type_props[TYPES_MAX + 1];
static struct list objects = LIST_INIT(objects); /* struct object.link, oldest first */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct row_type row_object_type = {
    .kind = ROW_ENUM,
    .name = "ObjectType",
    .size = sizeof(int),
    .values = type_names,
    .help = "A kind of object",
};

static const struct row object_rows[] = {
    ROW_REQ(struct object_options, "qom-type", type, row_object_type, .help = "The kind of object"),
    ROW_REQ(struct object_options, "id", id, row_str, .help = "Its name"),
    ROW_END,
};

struct row_type row_object_options = {
    .kind = ROW_UNION,
    .name = "ObjectOptions",
    .size = sizeof(struct object_options),
    .rows = object_rows,
    .tag = "qom-type",
    .branch_offset = offsetof(struct object_options, props),
    .branches = type_props,
    .help = "An object to create",
};

void objects_register(const struct object_type *const *list)
{
    unsigned i = 0;

    for (; list[i] && i < TYPES_MAX; i++) {
        types[i] = list[i];
        type_names[i] = list[i]->name;
        type_props[i] = list[i]->props;
    }
    type_names[i] = NULL;
}

const struct object_type *object_type_by_index(int index)
{
    return index >= 0 && index < TYPES_MAX ? types[index] : NULL;
}

static struct object *find(const char *id)
{
    struct object *o;

    list_for_each (o, &objects, link)
        if (strcmp(o->id, id) == 0)
            return o;
    return NULL;
}

static void object_free(struct object *o)
{
    if (o->props)
        row_release(o->type->props, o->props);
    free(o->props);
    free(o->state);
    free(o->id);
    free(o);
}

static struct object *object_new(const struct object_options *options)
{
    const struct object_type *type = types[options->type];
    struct object *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->type = type;
    o->id = strdup(options->id);
    o->state = calloc(1, type->state_size ? type->state_size : 1);
    if (type->props)
        o->props = calloc(1, type->props->size);
    if (!o->id || !o->state || (type->props && !o->props) ||
        (type->props && row_copy(type->props, options->props, o->props) < 0)) {
        object_free(o);
        return NULL;
    }
    return o;
}

void objects_lock(void)
{
    pthread_mutex_lock(&lock);
}

void objects_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

int object_begin(const struct object_options *options, struct object **out, struct err *err)
{
    struct object *o;

    if (!id_is_well_formed(options->id))
        return err_set(err, -EINVAL, "Parameter 'id' expects an identifier");
    if (find(options->id))
        return err_set(err, -EEXIST,
                       "attempt to add duplicate property '%s' to object (type 'container')",
                       options->id);
    o = object_new(options);
    if (!o)
        return err_set(err, -ENOMEM, "object '%s': out of memory", options->id);
    o->making = true;
    objects_lock();
    list_push_back(&objects, &o->link);
    objects_unlock();
    *out = o;
    return 0;
}

int object_create(struct object *o, struct err *err)
{
    return o->type->create ? o->type->create(o, o->props, err) : 0;
}

static void forget(struct object *o)
{
    objects_lock();
    list_remove(&o->link);
    objects_unlock();
}

int object_end(struct object *o, int result)
{
    if (result < 0) {
        forget(o);
        object_free(o);
        return result;
    }
    objects_lock();
    o->making = false;
    objects_unlock();
    return result;
}

int object_add(const struct object_options *options, struct err *err)
{
    struct object *o;

    if (object_begin(options, &o, err) < 0)
        return err->code;
    return object_end(o, object_create(o, err));
}

static void destroy(struct object *o)
{
    forget(o);
    if (o->type->destroy)
        o->type->destroy(o);
    object_free(o);
}

int object_change(struct object *o, const void *props, struct err *err)
{
    const struct row_type *type = o->type->props;
    void *mine, *old;

    if (o->type->change(o, props, err) < 0)
        return err->code;
    mine = calloc(1, type->size);
    if (!mine || row_copy(type, props, mine) < 0) {
        free(mine);
        return err_set(err, -ENOMEM, "object '%s': out of memory", o->id);
    }
    objects_lock();
    old = o->props;
    o->props = mine;
    objects_unlock();
    row_release(type, old);
    free(old);
    return 0;
}

static void set_making(struct object *o, bool making)
{
    objects_lock();
    o->making = making;
    objects_unlock();
}

int object_hide(const char *id, struct object **out, struct err *err)
{
    struct object *o = *out = find(id);

    if (!o || o->making)
        return err_set(err, -ENOENT, "object '%s' not found", id);
    if (o->uses)
        return err_set(err, -EBUSY, "object '%s' is in use, can not be deleted", id);
    set_making(o, true);
    return 0;
}

void object_show(struct object *o)
{
    set_making(o, false);
}

void object_remove(struct object *o)
{
    destroy(o);
}

int object_del(const char *id, struct err *err)
{
    struct object *o;

    if (object_hide(id, &o, err) < 0)
        return err->code;
    object_remove(o);
    return 0;
}

static struct object *newest(void)
{
    struct object *found = NULL;

    for (struct object *o = object_first(); o; o = object_next(o))
        found = o;
    return found;
}

void objects_del_all(void)
{
    struct object *o;

    /* Newest first: as they may stand on each other.  One that is being made is its maker's. */
    while ((o = newest()))
        destroy(o);
}

struct object *object_find(const char *id, const struct object_type *type, struct err *err)
{
    struct object *o = find(id);

    if (!o || o->making)
        err_set(err, -ENOENT, "object '%s' not found", id);
    else if (type && o->type != type)
        err_set(err, -EINVAL, "object '%s' is of type '%s', not '%s'", id, o->type->name,
                type->name);
    else
        return o;
    return NULL;
}

/* The first at or after @link that is not still being made. */
static struct object *made(struct list *link)
{
    for (; link != &objects; link = link->next) {
        struct object *o = container_of(link, struct object, link);

        if (!o->making)
            return o;
    }
    return NULL;
}

struct object *object_first(void)
{
    return made(objects.next);
}

struct object *object_next(struct object *o)
{
    return made(o->link.next);
}

void object_use(struct object *o)
{
    o->uses++;
}

void object_unuse(struct object *o)
{
    o->uses--;
}
