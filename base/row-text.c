/* SPDX-License-Identifier: MIT */
/*
 * Command line text, key=value with dotted keys, as QEMU reads it:
 *
 *   text  = [ item { "," item } [ "," ] ]
 *   item  = key "=" value, or first of all a value alone, for the implied key
 *   key   = name { "." ( name | index ) }
 *
 * In a value ",," is a comma; the value alone has none.  The items become a
 * tree of objects whose leaves are strings; then each object all of whose
 * members are indices becomes a list.  A later value of a key wins.
 */
#include <ctype.h>
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/row-private.h"

enum { FRAGMENT_MAX = 127 }; /* bytes of one name in a key */

static void put_object(struct json_object **o)
{
    json_object_put(*o);
}
#define autoput __attribute__((cleanup(put_object))) struct json_object

static int no_memory(struct err *err)
{
    return err_set(err, -ENOMEM, "out of memory");
}

/* Bytes of the name at @s: a letter, then letters, digits, "-" and "_"; also "__" RFQDN "_" name. */
static size_t name_length(const char *s)
{
    const char *p = s;

    if (p[0] == '_' && p[1] == '_') {
        p += 2;
        if (!isalnum((unsigned char)*p))
            return 0;
        while (isalnum((unsigned char)*p) || *p == '-' || *p == '.')
            p++;
        if (*p++ != '_')
            return 0;
    }
    if (!isalpha((unsigned char)*p))
        return 0;
    while (isalnum((unsigned char)*p) || *p == '-' || *p == '_')
        p++;
    return (size_t)(p - s);
}

/* Bytes of the key's fragment at @s, which ends before @end; 0: not a valid one. */
static size_t fragment_length(const char *s, const char *end, bool first)
{
    size_t n = first ? 0 : strspn(s, "0123456789");

    if (!n || (s + n < end && s[n] != '.'))
        n = name_length(s);
    return s + n == end || (s + n < end && s[n] == '.') ? n : 0;
}

/* The member @name of @object, an object itself, made when there is none; NULL with err set. */
static struct json_object *descend(struct json_object *object, const char *name, const char *key,
                                   size_t key_len, struct err *err)
{
    struct json_object *next;

    if (json_object_object_get_ex(object, name, &next)) {
        if (json_object_is_type(next, json_type_object))
            return next;
        err_set(err, -EINVAL, "Parameters '%.*s.*' used inconsistently", (int)key_len, key);
        return NULL;
    }
    next = json_object_new_object();
    if (!next || json_object_object_add(object, name, next) < 0) {
        json_object_put(next);
        no_memory(err);
        return NULL;
    }
    return next;
}

/* Put @value (taken over) under the last fragment of a key. */
static int put_leaf(struct json_object *object, const char *name, const char *key, size_t key_len,
                    struct json_object *value, struct err *err)
{
    struct json_object *old;
    int r;

    if (json_object_object_get_ex(object, name, &old) && json_object_is_type(old, json_type_object))
        r = err_set(err, -EINVAL, "Parameters '%.*s.*' used inconsistently", (int)key_len, key);
    else if (json_object_object_add(object, name, value) < 0)
        r = no_memory(err);
    else
        return 0;
    json_object_put(value);
    return r;
}

/* One fragment as a member's name: indices lose leading zeros, so that 00 and 0 are the same. */
static int copy_fragment(char *name, const char *s, size_t len, bool whole, struct err *err)
{
    if (len > FRAGMENT_MAX)
        return err_set(err, -EINVAL, "Parameter%s '%.*s' is too long", whole ? "" : " fragment",
                       (int)len, s);
    while (len > 1 && *s == '0' && isdigit((unsigned char)s[1])) {
        s++;
        len--;
    }
    memcpy(name, s, len);
    name[len] = 0;
    return 0;
}

/* Put @value (taken over) into the tree under the key [key, end). */
static int put_key(struct json_object *root, const char *key, const char *end,
                   struct json_object *value, struct err *err)
{
    char name[FRAGMENT_MAX + 1];
    unsigned depth = 0;
    int r;

    for (const char *s = key;; s++) {
        size_t len = fragment_length(s, end, s == key);

        if (!len || ++depth > ROW_DEPTH_MAX)
            r = err_set(err, -EINVAL, "Invalid parameter '%.*s'", (int)(end - key), key);
        else
            r = copy_fragment(name, s, len, s == key && s + len == end, err);
        if (r < 0)
            break;
        s += len;
        if (s == end)
            return put_leaf(root, name, key, (size_t)(end - key), value, err);
        root = descend(root, name, key, (size_t)(s - key), err);
        if (!root) {
            r = err->code;
            break;
        }
    }
    json_object_put(value);
    return r;
}

/* The value at *@text up to a single comma, with ",," made ","; *@text goes past that comma. */
static struct json_object *take_value(const char **text)
{
    const char *s = *text;
    autofree char *value = malloc(strlen(s) + 1);
    size_t n = 0;

    if (!value)
        return NULL;
    for (; *s && (*s != ',' || s[1] == ','); s++) {
        s += *s == ',';
        value[n++] = *s;
    }
    *text = *s ? s + 1 : s;
    return json_object_new_string_len(value, (int)n);
}

/* One item at *@text, which goes to the next one. */
static int take_item(struct json_object *root, const char **text, const char *implied,
                     struct err *err)
{
    const char *key = *text, *end = key + strcspn(key, "=,");
    struct json_object *value;

    if (*end != '=' && implied && end > key) {
        value = json_object_new_string_len(key, (int)(end - key));
        *text = *end ? end + 1 : end;
        return value ? put_key(root, implied, implied + strlen(implied), value, err)
                     : no_memory(err);
    }
    if (*end != '=' && fragment_length(key, end, true))
        return err_set(err, -EINVAL, "Expected '=' after parameter '%.*s'", (int)(end - key), key);
    *text = *end == '=' ? end + 1 : end;
    value = take_value(text);
    return value ? put_key(root, key, end, value, err) : no_memory(err);
}

/* --- objects with indices for keys become lists --------------------------------- */

/* Where an object of the tree is, for messages. */
struct spot {
    const struct spot *up; /* NULL: the root */
    const char *name;
};

static void write_spot(const struct spot *at, FILE *f)
{
    if (at->up) {
        write_spot(at->up, f);
        fprintf(f, "%s%s", at->up->up ? "." : "", at->name);
    }
}

/* @fmt has one %s for the path, and one %s more for @end. */
static __attribute__((noinline)) int spot_error(const struct spot *at, bool missing, size_t index,
                                                struct err *err)
{
    autofree char *path = NULL;
    size_t size;
    FILE *f = open_memstream(&path, &size);

    if (!f)
        return no_memory(err);
    write_spot(at, f);
    fclose(f);
    if (!path)
        return no_memory(err);
    if (missing)
        return err_set(err, -EINVAL, "Parameter '%s.%zu' missing", path, index);
    return err_set(err, -EINVAL, "Parameters '%s.*' used inconsistently", path);
}

/* The list of an object whose members are all indices; NULL with err set. */
static struct json_object *make_list(struct json_object *object, const struct spot *at,
                                     struct err *err)
{
    size_t n = (size_t)json_object_object_length(object);
    struct json_object *list = json_object_new_array();

    if (!list) {
        no_memory(err);
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        struct json_object *value;
        char name[24];

        snprintf(name, sizeof name, "%zu", i);
        if (!json_object_object_get_ex(object, name, &value))
            spot_error(at, true, i, err);
        else if (json_object_array_add(list, json_object_get(value)) < 0)
            json_object_put(value), no_memory(err);
        else
            continue;
        json_object_put(list);
        return NULL;
    }
    return list;
}

/* Turn the objects below @object into lists where they are lists; *@list is @object's own list. */
static int listify(struct json_object *object, const struct spot *at, struct json_object **list,
                   struct err *err)
{
    struct json_object_iterator i = json_object_iter_begin(object);
    struct json_object_iterator end = json_object_iter_end(object);
    int indices = 0, n = 0;

    *list = NULL;
    for (; !json_object_iter_equal(&i, &end); json_object_iter_next(&i), n++) {
        struct spot spot = { .up = at, .name = json_object_iter_peek_name(&i) };
        struct json_object *value = json_object_iter_peek_value(&i), *inner;

        indices += isdigit((unsigned char)spot.name[0]) != 0;
        if (!json_object_is_type(value, json_type_object))
            continue;
        int r = listify(value, &spot, &inner, err);
        if (r < 0)
            return r;
        /* The key is there already, so this only changes its value. */
        if (inner && json_object_object_add(object, spot.name, inner) < 0) {
            json_object_put(inner);
            return no_memory(err);
        }
    }
    if (!indices)
        return 0;
    if (indices < n)
        return spot_error(at, false, 0, err);
    *list = make_list(object, at, err);
    return *list ? 0 : err->code;
}

/* --- the whole -------------------------------------------------------------------- */

static int parse_json_text(const struct row_type *type, const char *text, void *out,
                           struct err *err)
{
    struct json_object *value;
    int r = json_parse(text, strlen(text), &value, err);

    if (r < 0) {
        memset(out, 0, type->size);
        return r;
    }
    r = row_parse(type, value, out, err);
    json_object_put(value);
    return r;
}

int row_text_tree(const char *text, const char *implied, struct json_object **out, struct err *err)
{
    autoput *root = json_object_new_object(), *list = NULL;
    struct spot top = { 0 };

    *out = NULL;
    if (!root)
        return no_memory(err);
    while (*text) {
        int r = take_item(root, &text, implied, err);

        if (r < 0)
            return r;
        implied = NULL;
    }
    int r = listify(root, &top, &list, err);
    if (r == 0)
        *out = json_object_get(root);
    return r;
}

int row_parse_text(const struct row_type *type, const char *text, const char *implied, void *out,
                   struct err *err)
{
    autoput *root = NULL;

    if (*text == '{')
        return parse_json_text(type, text, out, err);
    memset(out, 0, type->size);
    int r = row_text_tree(text, implied, &root, err);
    return r < 0 ? r : row_parse_tree(type, root, true, out, err);
}
