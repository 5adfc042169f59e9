/* SPDX-License-Identifier: MIT */
/*
 * Commands that look at objects by path: qom-list, qom-get, qom-set and what
 * types there are.  The tree is "/", in it "/objects", in it each object.  Its
 * properties are the rows of its type, besides "type".
 */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/object.h"
#include "qmp/commands.h"

/* ---- paths ---- */

enum place_kind { PLACE_ROOT, PLACE_OBJECTS, PLACE_OBJECT };

struct place {
    enum place_kind kind;
    struct object *object; /* PLACE_OBJECT */
};

static const char *type_of(const struct place *at)
{
    return at->kind == PLACE_OBJECT ? at->object->type->name : "container";
}

/* The next part of *@path, which goes past it; slashes in a row count once.  0: there is none. */
static size_t next_part(const char **path, const char **part)
{
    *path += strspn(*path, "/");
    *part = *path;
    *path += strcspn(*path, "/");
    return (size_t)(*path - *part);
}

static struct object *object_named(const char *id, size_t len)
{
    for (struct object *o = object_first(); o; o = object_next(o))
        if (strlen(o->id) == len && memcmp(o->id, id, len) == 0)
            return o;
    return NULL;
}

/* One step down; false: nothing has that name there. */
static bool step(struct place *at, const char *part, size_t len)
{
    if (at->kind == PLACE_ROOT && len == strlen("objects") && memcmp(part, "objects", len) == 0) {
        at->kind = PLACE_OBJECTS;
        return true;
    }
    at->object = at->kind == PLACE_OBJECTS ? object_named(part, len) : NULL;
    at->kind = PLACE_OBJECT;
    return at->object != NULL;
}

static bool walk(const char *path, struct place *at)
{
    const char *part;
    size_t len;

    while ((len = next_part(&path, &part)) > 0)
        if (!step(at, part, len))
            return false;
    return true;
}

/* A path without a slash in front may begin anywhere in the tree, and must fit at one place only. */
static int find_place(const char *path, struct place *out, struct err *err)
{
    static const enum place_kind starts[] = { PLACE_ROOT, PLACE_OBJECTS };
    unsigned found = 0;

    if (!*path)
        return err_set(err, -EINVAL, "Path '%s' is ambiguous", path);
    for (unsigned i = 0; i < (*path == '/' ? 1 : 2); i++) {
        struct place at = { .kind = starts[i] };

        if (walk(path, &at)) {
            *out = at;
            found++;
        }
    }
    if (found > 1)
        return err_set(err, -EINVAL, "Path '%s' is ambiguous", path);
    if (!found)
        return err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENOENT, "Device '%s' not found", path);
    return 0;
}

/* ---- properties ---- */

struct property_info {
    char *name, *type, *description;
};

static const struct row property_info_rows[] = {
    ROW_REQ(struct property_info, "name", name, row_str, .help = "Its name"),
    ROW_REQ(struct property_info, "type", type, row_str,
            .help = "Its type; child<T> is an object of type T below this one"),
    ROW_OPT(struct property_info, "description", description, row_str, .help = "What it is for"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_property_info, "ObjectPropertyInfo", struct property_info,
                       property_info_rows, .help = "A property of an object");
static ROW_LIST_TYPE(row_property_info_list, row_property_info);

static int add_property(struct row_list *list, const char *name, const char *type, const char *help,
                        struct err *err)
{
    struct property_info *p = row_list_append(&row_property_info_list, list);

    if (!p || !(p->name = strdup(name)) || !(p->type = strdup(type)) ||
        (help && !(p->description = strdup(help))))
        return err_set(err, -ENOMEM, "Out of memory");
    return 0;
}

static const char *property_type(const struct row_type *type)
{
    switch (type->kind) {
    case ROW_STR: return "string";
    case ROW_LIST: return property_type(type->elem);
    default: return type->name;
    }
}

/* The rows that stand here in line (without a name) are their type's. */
static int add_rows(struct row_list *list, const struct row *row, struct err *err)
{
    for (; row && row->type; row++)
        if (row->name ? add_property(list, row->name, property_type(row->type), row->help, err) < 0
                      : add_rows(list, row->type->rows, err) < 0)
            return err->code;
    return 0;
}

static int add_type_properties(struct row_list *list, const struct object_type *type,
                               struct err *err)
{
    if (add_property(list, "type", "string", NULL, err) < 0)
        return err->code;
    return type && type->props ? add_rows(list, type->props->rows, err) : 0;
}

static int add_child(struct row_list *list, const char *name, const char *type, struct err *err)
{
    autofree char *child = NULL;

    if (asprintf(&child, "child<%s>", type) < 0) {
        child = NULL;
        return err_set(err, -ENOMEM, "Out of memory");
    }
    return add_property(list, name, child, NULL, err);
}

/* Among the rows that stand in line too. */
static const struct row *find_row(const struct row *row, const char *name)
{
    for (; row && row->type; row++) {
        const struct row *found =
            row->name ? (strcmp(row->name, name) ? NULL : row) : find_row(row->type->rows, name);

        if (found)
            return found;
    }
    return NULL;
}

/* ---- qom-list, qom-get, qom-set ---- */

struct path_args {
    char *path;
};

static const struct row path_rows[] = {
    ROW_REQ(struct path_args, "path", path, row_str,
            .help = "/objects/ID, or the end of a path that only one object has"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_path_args, "qom-list-arg", struct path_args, path_rows);

static int co_fn list(struct monitor *m, void *args, void *result, struct err *err)
{
    struct place at;

    (void)m;
    if (find_place(((struct path_args *)args)->path, &at, err) < 0)
        return err->code;
    if (add_type_properties(result, at.kind == PLACE_OBJECT ? at.object->type : NULL, err) < 0)
        return err->code;
    if (at.kind == PLACE_ROOT)
        return add_child(result, "objects", "container", err);
    for (struct object *o = object_first(); o && at.kind == PLACE_OBJECTS; o = object_next(o))
        if (add_child(result, o->id, o->type->name, err) < 0)
            return err->code;
    return 0;
}

struct get_args {
    char *path, *property;
};

static const struct row get_rows[] = {
    ROW_REQ(struct get_args, "path", path, row_str, .help = "As for qom-list"),
    ROW_REQ(struct get_args, "property", property, row_str, .help = "The property's name"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_get_args, "qom-get-arg", struct get_args, get_rows);

static int not_found(const struct place *at, const char *property, struct err *err)
{
    return err_set(err, -ENOENT, "Property '%s.%s' not found", type_of(at), property);
}

/* @out: a new reference. */
static int get_row(const struct object *o, const struct row *row, struct json_object **out,
                   struct err *err)
{
    struct json_object *all, *value;

    if (row->secret)
        return err_set(err, -EACCES, "Property '%s.%s' is not readable", o->type->name, row->name);
    all = row_print(o->type->props, o->props);
    if (!all)
        return err_set(err, -ENOMEM, "Out of memory");
    if (json_object_object_get_ex(all, row->name, &value))
        *out = json_object_get(value);
    else if (row->type->kind == ROW_LIST)
        *out = json_object_new_array();
    else
        *out = json_object_new_string("");
    json_object_put(all);
    return *out ? 0 : err_set(err, -ENOMEM, "Out of memory");
}

static int get_text(const char *text, struct json_object **out, struct err *err)
{
    *out = json_object_new_string(text);
    return *out ? 0 : err_set(err, -ENOMEM, "Out of memory");
}

/* What stands below a container is a property of it whose value is its path. */
static int get_child(const struct place *at, const char *property, struct json_object **out,
                     struct err *err)
{
    struct place child = *at;
    autofree char *path = NULL;

    if (!step(&child, property, strlen(property)))
        return not_found(at, property, err);
    if (child.kind == PLACE_OBJECTS)
        return get_text("/objects", out, err);
    if (asprintf(&path, "/objects/%s", child.object->id) < 0) {
        path = NULL;
        return err_set(err, -ENOMEM, "Out of memory");
    }
    return get_text(path, out, err);
}

static int co_fn get(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct get_args *a = args;
    const struct object_type *type;
    const struct row *row;
    struct place at;

    (void)m;
    if (find_place(a->path, &at, err) < 0)
        return err->code;
    if (strcmp(a->property, "type") == 0)
        return get_text(type_of(&at), result, err);
    if (at.kind != PLACE_OBJECT)
        return get_child(&at, a->property, result, err);
    type = at.object->type;
    row = type->props ? find_row(type->props->rows, a->property) : NULL;
    if (row)
        return get_row(at.object, row, result, err);
    return type->get ? type->get(at.object, a->property, result, err)
                     : not_found(&at, a->property, err);
}

struct set_args {
    char *path, *property;
    struct json_object *value;
};

static const struct row set_rows[] = {
    ROW_REQ(struct set_args, "path", path, row_str, .help = "As for qom-list"),
    ROW_REQ(struct set_args, "property", property, row_str, .help = "The property's name"),
    ROW_REQ(struct set_args, "value", value, row_any, .help = "Its value, of the property's type"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_set_args, "qom-set-arg", struct set_args, set_rows);

/* All properties as they are but one, checked as object-add would. */
static int set_row(struct object *o, const char *property, struct json_object *value,
                   struct err *err)
{
    const struct row_type *type = o->type->props;
    struct json_object *all = row_print(type, o->props);
    autofree void *props = calloc(1, type->size);
    int r;

    if (!all || !props) {
        json_object_put(all);
        return err_set(err, -ENOMEM, "Out of memory");
    }
    json_object_object_add(all, property, json_object_get(value));
    r = row_parse(type, all, props, err);
    json_object_put(all);
    if (r < 0)
        return r;
    r = object_change(o, props, err);
    row_release(type, props);
    return r;
}

static int co_fn set(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct set_args *a = args;
    const struct object_type *type;
    struct place at, child;
    bool known;

    (void)m;
    (void)result;
    if (find_place(a->path, &at, err) < 0)
        return err->code;
    type = at.kind == PLACE_OBJECT ? at.object->type : NULL;
    child = at;
    if (!type)
        known = step(&child, a->property, strlen(a->property));
    else
        known = type->props && find_row(type->props->rows, a->property);
    if (type && known && type->change)
        return set_row(at.object, a->property, a->value, err);
    if (!known && type && type->set)
        return type->set(at.object, a->property, a->value, err);
    if (!known && strcmp(a->property, "type") != 0)
        return not_found(&at, a->property, err);
    return err_set(err, -EACCES, "Property '%s.%s' is not writable", type_of(&at), a->property);
}

/* ---- types ---- */

struct types_args {
    char *implements;
    bool abstract;
};

static const struct row types_rows[] = {
    ROW_OPT(struct types_args, "implements", implements, row_str,
            .help = "Only types that are of this type too"),
    ROW_OPT(struct types_args, "abstract", abstract, row_bool, .fallback = "false",
            .help = "Those as well of which there are no objects"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_types_args, "qom-list-types-arg", struct types_args, types_rows);

struct type_info {
    char *name, *parent;
    bool abstract, has_abstract;
};

static const struct row type_info_rows[] = {
    ROW_REQ(struct type_info, "name", name, row_str, .help = "Its name"),
    ROW_HAS(struct type_info, "abstract", abstract, row_bool,
            .help = "There are no objects of it; left out when there may be"),
    ROW_OPT(struct type_info, "parent", parent, row_str, .help = "What kind of type it is"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_type_info, "ObjectTypeInfo", struct type_info, type_info_rows,
                       .help = "A type of objects");
static ROW_LIST_TYPE(row_type_info_list, row_type_info);

static const char *parent_of(const struct object_type *type)
{
    return type->parent ? type->parent : "object";
}

static int add_type(struct row_list *list, const char *name, const char *parent, bool abstract,
                    struct err *err)
{
    struct type_info *t = row_list_append(&row_type_info_list, list);

    if (!t || !(t->name = strdup(name)) || (parent && !(t->parent = strdup(parent))))
        return err_set(err, -ENOMEM, "Out of memory");
    t->abstract = t->has_abstract = abstract;
    return 0;
}

/* Is it what was asked for: the type itself, its parent, or what stands above that? */
static bool wanted(const char *implements, const char *name, const char *parent)
{
    return !implements || strcmp(implements, name) == 0 || strcmp(implements, "object") == 0 ||
           (parent && strcmp(implements, parent) == 0);
}

static bool listed(const struct row_list *list, const char *name)
{
    const struct type_info *t = list->v;

    for (size_t i = 0; i < list->n; i++)
        if (strcmp(t[i].name, name) == 0)
            return true;
    return false;
}

/* The parents that types have, each once. */
static int add_abstract(struct row_list *result, const char *implements, struct err *err)
{
    const struct object_type *type;

    if (wanted(implements, "object", NULL) && add_type(result, "object", NULL, true, err) < 0)
        return err->code;
    for (int i = 0; (type = object_type_by_index(i)); i++)
        if (type->parent && !listed(result, type->parent) &&
            wanted(implements, type->parent, "object") &&
            add_type(result, type->parent, "object", true, err) < 0)
            return err->code;
    return 0;
}

static int co_fn list_types(struct monitor *m, void *args, void *result, struct err *err)
{
    const struct types_args *a = args;
    const struct object_type *type;
    bool creatable = a->implements && strcmp(a->implements, "user-creatable") == 0;

    (void)m;
    if (a->abstract && add_abstract(result, a->implements, err) < 0)
        return err->code;
    if (wanted(a->implements, "container", "object") &&
        add_type(result, "container", "object", false, err) < 0)
        return err->code;
    for (int i = 0; (type = object_type_by_index(i)); i++)
        if ((creatable || wanted(a->implements, type->name, parent_of(type))) &&
            add_type(result, type->name, parent_of(type), false, err) < 0)
            return err->code;
    return 0;
}

struct typename_args {
    char *typename;
};

static const struct row typename_rows[] = {
    ROW_REQ(struct typename_args, "typename", typename, row_str, .help = "A type's name"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_typename_args, "qom-list-properties-arg", struct typename_args,
                       typename_rows);

static bool is_parent(const char *name)
{
    const struct object_type *type;

    for (int i = 0; (type = object_type_by_index(i)); i++)
        if (strcmp(parent_of(type), name) == 0)
            return true;
    return false;
}

static int co_fn list_properties(struct monitor *m, void *args, void *result, struct err *err)
{
    const char *name = ((struct typename_args *)args)->typename;
    const struct object_type *type;

    (void)m;
    for (int i = 0; (type = object_type_by_index(i)); i++)
        if (strcmp(type->name, name) == 0)
            return add_type_properties(result, type, err);
    if (strcmp(name, "container") == 0 || strcmp(name, "object") == 0 || is_parent(name))
        return add_type_properties(result, NULL, err);
    return err_set_class(err, ERR_DEVICE_NOT_FOUND, -ENOENT, "Class '%s' not found", name);
}

const struct qmp_command qmp_qom_commands[] = {
    { .name = "qom-get",
      .args = &row_get_args,
      .result = &row_any,
      .run = get,
      .help = "The value of an object's property; those that hold a secret can't be read" },
    { .name = "qom-list",
      .args = &row_path_args,
      .result = &row_property_info_list,
      .run = list,
      .help = "The properties of an object, or what stands in a container" },
    { .name = "qom-list-properties",
      .args = &row_typename_args,
      .result = &row_property_info_list,
      .run = list_properties,
      .help = "The properties that objects of a type have" },
    { .name = "qom-list-types",
      .args = &row_types_args,
      .result = &row_type_info_list,
      .run = list_types,
      .help = "The types of objects" },
    { .name = "qom-set",
      .args = &row_set_args,
      .run = set,
      .help = "Change an object's property, where its type allows it" },
    { 0 },
};
