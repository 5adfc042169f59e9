/* SPDX-License-Identifier: MIT */
/*
 * query-qmp-schema, from the rows: every command and event, and every type
 * that one of them leads to.  Names of types mean nothing to clients, so they
 * are numbers; all integers are "int", as in QEMU.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qmp/qmp.h"

struct schema {
    const struct row_type **types; /* those with a number, in order; owned */
    size_t count, room;
    bool failed;
    struct json_object *out;
};

static const struct row_type empty_type = { .kind = ROW_STRUCT, .name = "Empty" };

static const char *builtin_name(const struct row_type *t)
{
    switch (t->kind) {
    case ROW_BOOL: return "bool";
    case ROW_NUMBER: return "number";
    case ROW_STR: return "str";
    case ROW_ANY: return "any";
    case ROW_NULL: return "null";
    case ROW_ENUM:
    case ROW_STRUCT:
    case ROW_UNION:
    case ROW_LIST:
    case ROW_ALTERNATE: return NULL;
    default: return "int";
    }
}

static struct json_object *text(const char *s)
{
    return json_object_new_string(s);
}

static void set(struct json_object *o, const char *key, struct json_object *value)
{
    json_object_object_add(o, key, value);
}

/* The same list of the same element is one type, whoever described it. */
static bool same(const struct row_type *a, const struct row_type *b)
{
    return a == b || (a->kind == ROW_LIST && b->kind == ROW_LIST && same(a->elem, b->elem)) ||
           (a->kind != ROW_LIST && builtin_name(a) && builtin_name(b) &&
            strcmp(builtin_name(a), builtin_name(b)) == 0);
}

static size_t number_of(struct schema *s, const struct row_type *t)
{
    for (size_t i = 0; i < s->count; i++)
        if (same(s->types[i], t))
            return i;
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 128;
        void *larger = realloc(s->types, room * sizeof(*s->types));
        if (!larger) {
            s->failed = true;
            return 0;
        }
        s->types = larger;
        s->room = room;
    }
    s->types[s->count] = t;
    return s->count++;
}

static struct json_object *type_name(struct schema *s, const struct row_type *t)
{
    char name[64];
    const char *builtin = builtin_name(t);

    if (builtin)
        return text(builtin);
    if (t->kind == ROW_LIST && builtin_name(t->elem)) {
        (void)number_of(s, t);
        snprintf(name, sizeof(name), "[%s]", builtin_name(t->elem));
    } else if (t->kind == ROW_LIST) {
        (void)number_of(s, t);
        snprintf(name, sizeof(name), "[%zu]", number_of(s, t->elem));
    } else {
        snprintf(name, sizeof(name), "%zu", number_of(s, t));
    }
    return text(name);
}

/* What begins with x- may change any time. */
static bool unstable(const char *name)
{
    return strncmp(name, "x-", 2) == 0;
}

/* @more: further ones, ended by NULL; may be NULL */
static void add_features(struct json_object *o, bool is_deprecated, bool is_unstable,
                         const char *const *more)
{
    struct json_object *features;

    if (!is_deprecated && !is_unstable && !more)
        return;
    features = json_object_new_array();
    if (is_deprecated)
        json_object_array_add(features, text("deprecated"));
    if (is_unstable)
        json_object_array_add(features, text("unstable"));
    for (; more && *more; more++)
        json_object_array_add(features, text(*more));
    set(o, "features", features);
}

static void add_members(struct schema *s, const struct row *row, struct json_object *members)
{
    for (; row && row->type; row++) {
        struct json_object *m;

        if (!row->name) {
            add_members(s, row->type->rows, members);
            continue;
        }
        m = json_object_new_object();
        set(m, "name", text(row->name));
        set(m, "type", type_name(s, row->type));
        if (!row->required)
            set(m, "default", NULL);
        add_features(m, row->deprecated, unstable(row->name), NULL);
        json_object_array_add(members, m);
    }
}

/* The row that tells a union's branch, in its base rows. */
static const struct row *tag_row(const struct row *row, const char *name)
{
    for (; row && row->type; row++) {
        const struct row *found = row->name ? NULL : tag_row(row->type->rows, name);

        if (row->name && strcmp(row->name, name) == 0)
            return row;
        if (found)
            return found;
    }
    return NULL;
}

static void add_variants(struct schema *s, const struct row_type *t, struct json_object *o)
{
    struct json_object *variants = json_object_new_array();
    const char *const *names = tag_row(t->rows, t->tag)->type->values;

    for (size_t i = 0; names[i]; i++) {
        struct json_object *v;

        if (!*names[i])
            continue;
        v = json_object_new_object();
        set(v, "case", text(names[i]));
        set(v, "type", type_name(s, t->branches[i] ? t->branches[i] : &empty_type));
        json_object_array_add(variants, v);
    }
    set(o, "tag", text(t->tag));
    set(o, "variants", variants);
}

static void add_enum(const struct row_type *t, struct json_object *o)
{
    struct json_object *values = json_object_new_array(), *members = json_object_new_array();

    for (size_t i = 0; t->values[i]; i++) {
        struct json_object *m;

        if (!*t->values[i])
            continue;
        m = json_object_new_object();
        set(m, "name", text(t->values[i]));
        add_features(m, false, unstable(t->values[i]), NULL);
        json_object_array_add(values, text(t->values[i]));
        json_object_array_add(members, m);
    }
    set(o, "meta-type", text("enum"));
    set(o, "members", members);
    set(o, "values", values);
}

static void add_type(struct schema *s, const struct row_type *t)
{
    struct json_object *o = json_object_new_object(), *members;

    set(o, "name", type_name(s, t));
    switch (t->kind) {
    case ROW_ENUM: add_enum(t, o); break;
    case ROW_LIST:
        set(o, "meta-type", text("array"));
        set(o, "element-type", type_name(s, t->elem));
        break;
    case ROW_ALTERNATE:
        members = json_object_new_array();
        for (size_t i = 0; t->branches[i]; i++) {
            struct json_object *m = json_object_new_object();
            set(m, "type", type_name(s, t->branches[i]));
            json_object_array_add(members, m);
        }
        set(o, "meta-type", text("alternate"));
        set(o, "members", members);
        break;
    default:
        members = json_object_new_array();
        set(o, "meta-type", text("object"));
        add_members(s, t->rows, members);
        set(o, "members", members);
        add_features(o, false, false, t->features);
        if (t->kind == ROW_UNION)
            add_variants(s, t, o);
        break;
    }
    json_object_array_add(s->out, o);
}

static void add_builtins(struct schema *s)
{
    static const char *const builtins[][2] = {
        { "str", "string" },   { "int", "int" },   { "number", "number" },
        { "bool", "boolean" }, { "null", "null" }, { "any", "value" },
    };

    for (unsigned i = 0; i < sizeof(builtins) / sizeof(builtins[0]); i++) {
        struct json_object *o = json_object_new_object();
        set(o, "name", text(builtins[i][0]));
        set(o, "meta-type", text("builtin"));
        set(o, "json-type", text(builtins[i][1]));
        json_object_array_add(s->out, o);
    }
}

static void add_commands(struct schema *s)
{
    for (const struct qmp_command *c = qmp_next(NULL); c; c = qmp_next(c)) {
        struct json_object *o = json_object_new_object();
        set(o, "name", text(c->name));
        set(o, "meta-type", text("command"));
        set(o, "arg-type", type_name(s, c->args ? c->args : &empty_type));
        set(o, "ret-type", type_name(s, c->result ? c->result : &empty_type));
        if (c->flags & QMP_ALLOW_OOB)
            set(o, "allow-oob", json_object_new_boolean(true));
        add_features(o, c->flags & QMP_DEPRECATED, unstable(c->name), NULL);
        json_object_array_add(s->out, o);
    }
}

static void add_events(struct schema *s)
{
    const struct event_type *e;

    for (unsigned i = 0; (e = event_by_index(i)); i++) {
        struct json_object *o = json_object_new_object();
        set(o, "name", text(e->name));
        set(o, "meta-type", text("event"));
        set(o, "arg-type", type_name(s, e->data ? e->data : &empty_type));
        json_object_array_add(s->out, o);
    }
}

struct json_object *qmp_schema(void)
{
    struct schema s = { .out = json_object_new_array() };

    add_commands(&s);
    add_events(&s);
    for (size_t i = 0; i < s.count; i++) /* grows while types are met */
        add_type(&s, s.types[i]);
    add_builtins(&s);
    free(s.types);
    if (s.failed) {
        json_object_put(s.out);
        return NULL;
    }
    return s.out;
}
