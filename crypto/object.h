/* SPDX-License-Identifier: MIT */
/*
 * Objects that users create by name: secrets, TLS credentials, authorization
 * lists, iothreads, later throttle groups.  A type is one constant table;
 * object-add, --object, qom-get and the schema work from it.  Control ring (or
 * one thread) only, unless said otherwise.
 */
#ifndef CRYPTO_OBJECT_H
#define CRYPTO_OBJECT_H

#include "base/list.h"
#include "base/row.h"

struct object;

struct object_type {
    const char *name;             /* "secret" */
    const struct row_type *props; /* a struct type: the branch of ObjectOptions; NULL: none */
    size_t state_size;
    /* May block (files are read): it is called on a worker thread when the caller has rings. */
    int (*create)(struct object *o, const void *props, struct err *err);
    void (*destroy)(struct object *o);
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

/** object_add - make one; a taken or malformed id, bad properties: GenericError */
int object_add(const struct object_options *options, struct err *err);

/** object_del - "object 'x' not found", "object 'x' is in use, can not be deleted" */
int object_del(const char *id, struct err *err);
void objects_del_all(void);

/** object_find - by id; @type NULL: any.  A wrong type is an error that names both. */
struct object *object_find(const char *id, const struct object_type *type, struct err *err);
struct object *object_first(void);
struct object *object_next(struct object *o);

void object_use(struct object *o);
void object_unuse(struct object *o);

#endif
