/* SPDX-License-Identifier: MIT */
/*
 * Objects that users create by name: secrets, TLS credentials, authorization
 * lists, iothreads, later throttle groups.  A type is one constant table;
 * object-add, --object, qom-get and the schema work from it.
 *
 * The registry is changed by the control ring (or the only thread) alone, and
 * by it only while it holds the registry's lock.  So the control ring may read
 * it freely, and any other thread while it holds objects_lock().
 */
#ifndef CRYPTO_OBJECT_H
#define CRYPTO_OBJECT_H

#include "base/list.h"
#include "base/row.h"

struct object;

struct object_type {
    const char *name;             /* "secret" */
    const char *parent;           /* what kind of thing it is: "authz"; NULL: "object" */
    const struct row_type *props; /* a struct type: the branch of ObjectOptions; NULL: none */
    size_t state_size;
    /* May block (files are read): it is called on a worker thread when the caller has rings.  @props is
     * o->props.  When it fails it has cleaned up, and destroy is not called.  NULL: nothing to do. */
    int (*create)(struct object *o, const void *props, struct err *err);
    void (*destroy)(struct object *o);
    /* qom-set gave a member of props another value: may they be like @props?  They take the place of
     * o->props when 0 is returned.  Does not block.  NULL: they can't be changed. */
    int (*change)(struct object *o, const void *props, struct err *err);
    /* qom-get / qom-set of a property beyond the rows of props; NULL: props as given, read only. */
    int (*get)(struct object *o, const char *property, struct json_object **out, struct err *err);
    int (*set)(struct object *o, const char *property, struct json_object *value, struct err *err);
};

struct object {
    const struct object_type *type;
    char *id;
    void *state;   /* type->state_size bytes, zeroed */
    void *props;   /* as given, owned */
    unsigned uses; /* object_use(): in use, can not be deleted */
    bool making;   /* its id is taken, but it is not yet to be found */
    struct list link;
};

/* ObjectOptions: union over the registered types ("qom-type", "id", flat members). */
struct object_options {
    int type;
    char *id;
    void *props;
};
extern struct row_type row_object_type, row_object_options;

void objects_register(const struct object_type *const *list); /* NULL-ended; before any parsing */
const struct object_type *object_type_by_index(int index);

/** object_add - make one; a taken or malformed id, bad properties: GenericError
 * It may block; with rings it is done in its three steps, see qmp_object_add().
 */
int object_add(const struct object_options *options, struct err *err);

/** object_begin - take the id; nobody finds the object yet.  object_end() must follow.
 * object_create - the part that may block: on any one thread; the result is for object_end()
 * object_end - show the object, or forget it when @result < 0; returns @result
 */
int object_begin(const struct object_options *options, struct object **out, struct err *err);
int object_create(struct object *o, struct err *err);
int object_end(struct object *o, int result);

/** object_del - "object 'x' not found", "object 'x' is in use, can not be deleted" */
int object_del(const char *id, struct err *err);
/** object_hide - take an object that nothing uses out of sight: the first half of object_del()
 * object_remove - the second half; object_show - it stays after all
 */
int object_hide(const char *id, struct object **out, struct err *err);
void object_remove(struct object *o);
void object_show(struct object *o);
void objects_del_all(void);

/** object_change - let @props (row_copy()d) take the place of the object's own, if its type allows it */
int object_change(struct object *o, const void *props, struct err *err);

/** objects_lock - for a thread that is not the control ring: nothing changes until objects_unlock().
 * Not twice by one thread; nothing that waits in between.
 */
void objects_lock(void);
void objects_unlock(void);

/** object_find - by id; @type NULL: any.  A wrong type is an error that names both. */
struct object *object_find(const char *id, const struct object_type *type, struct err *err);
struct object *object_first(void);
struct object *object_next(struct object *o);

void object_use(struct object *o);
void object_unuse(struct object *o);

#endif
