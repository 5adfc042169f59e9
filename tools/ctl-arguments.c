/* SPDX-License-Identifier: MIT */
/* Arguments of QMP commands out of words. */
#include "tools/ctl-arguments.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/parse.h"

static struct json_object *typed(const struct row_type *type, struct json_object *in);

const struct row_type *ctl_branch(const struct row_type *type, const char *tag_value)
{
    const struct row *tag = tag_value ? ctl_row(type, NULL, type->tag) : NULL;
    int v = tag && tag->type->kind == ROW_ENUM ? row_enum_value(tag->type, tag_value) : -1;

    return v < 0 || !type->branches ? NULL : type->branches[v];
}

static const struct row *find_row(const struct row *row, const char *name)
{
    for (; row && row->type; row++) {
        const struct row *inner;

        if (!row->name && (inner = find_row(row->type->rows, name)))
            return inner;
        if (row->name && strcmp(row->name, name) == 0)
            return row;
    }
    return NULL;
}

const struct row *ctl_row(const struct row_type *type, const char *tag_value, const char *name)
{
    const struct row *row = find_row(type->rows, name);

    if (!row && type->kind == ROW_UNION) {
        const struct row_type *branch = ctl_branch(type, tag_value);

        row = branch ? ctl_row(branch, NULL, name) : NULL;
    }
    return row;
}

/* By the look of it: a number, true or false, else a string. */
static struct json_object *guess(const char *text)
{
    int64_t i;
    uint64_t u;
    char *end;
    double d;

    if (parse_i64(text, &i) == 0)
        return json_object_new_int64(i);
    if (parse_u64(text, &u) == 0)
        return json_object_new_uint64(u);
    if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)
        return json_object_new_boolean(*text == 't');
    if (*text && strspn(text, "+-.0123456789eE") == strlen(text)) {
        d = strtod(text, &end);
        if (!*end && d - d == 0)
            return json_object_new_double_s(d, text);
    }
    return json_object_new_string(text);
}

/* An integer, with a size's suffix where it has one. */
static struct json_object *integer(const char *text)
{
    int64_t i;
    uint64_t u;

    if (parse_i64(text, &i) == 0)
        return json_object_new_int64(i);
    if (parse_u64(text, &u) == 0 || parse_size(text, &u) == 0)
        return json_object_new_uint64(u);
    return json_object_new_string(text);
}

static struct json_object *number(const char *text)
{
    struct json_object *v = guess(text);

    if (json_object_is_type(v, json_type_boolean)) {
        json_object_put(v);
        v = json_object_new_string(text);
    }
    return v;
}

/* Strings first: "5" as a node's name is a name. */
static struct json_object *alternate(const struct row_type *type, struct json_object *in)
{
    bool text = json_object_is_type(in, json_type_string);
    bool list = json_object_is_type(in, json_type_array);

    for (size_t i = 0; type->branches[i]; i++)
        if (text && type->branches[i]->kind == ROW_STR)
            return json_object_get(in);
    for (size_t i = 0; type->branches[i]; i++) {
        enum row_kind kind = type->branches[i]->kind;
        bool group = kind == ROW_STRUCT || kind == ROW_UNION;

        if (text ? kind != ROW_NULL && !group && kind != ROW_LIST : list ? kind == ROW_LIST : group)
            return typed(type->branches[i], in);
    }
    return typed(NULL, in);
}

static struct json_object *scalar(const struct row_type *type, struct json_object *in)
{
    const char *text = json_object_get_string(in);
    bool flag;

    if (!type)
        return guess(text);
    switch (type->kind) {
    case ROW_BOOL:
        return parse_bool(text, &flag) == 0 ? json_object_new_boolean(flag) : json_object_get(in);
    case ROW_NUMBER: return number(text);
    case ROW_ANY: return guess(text);
    case ROW_ALTERNATE: return alternate(type, in);
    case ROW_INT:
    case ROW_INT8:
    case ROW_INT16:
    case ROW_INT32:
    case ROW_UINT8:
    case ROW_UINT16:
    case ROW_UINT32:
    case ROW_UINT64:
    case ROW_SIZE: return integer(text);
    default: return json_object_get(in);
    }
}

static struct json_object *members(const struct row_type *type, struct json_object *in)
{
    struct json_object *out = json_object_new_object(), *tag = NULL;
    const char *tag_value = NULL;

    if (type && type->kind == ROW_UNION && json_object_object_get_ex(in, type->tag, &tag))
        tag_value = json_object_get_string(tag);
    json_object_object_foreach(in, name, value)
    {
        const struct row *row = type ? ctl_row(type, tag_value, name) : NULL;
        struct json_object *v = typed(row ? row->type : NULL, value);

        if (!out || !v || json_object_object_add(out, name, v) < 0) {
            json_object_put(v);
            json_object_put(out);
            return NULL;
        }
    }
    return out;
}

static struct json_object *elements(const struct row_type *type, struct json_object *in)
{
    struct json_object *out = json_object_new_array();

    for (size_t i = 0; i < json_object_array_length(in); i++) {
        struct json_object *v = typed(type, json_object_array_get_idx(in, i));

        if (!out || !v || json_object_array_add(out, v) < 0) {
            json_object_put(v);
            json_object_put(out);
            return NULL;
        }
    }
    return out;
}

/* The tree @in, whose leaves are strings, with the types of @type (NULL: guessed); NULL: no memory. */
static struct json_object *typed(const struct row_type *type, struct json_object *in)
{
    if (json_object_is_type(in, json_type_string))
        return scalar(type, in);
    if (type && type->kind == ROW_ALTERNATE)
        return alternate(type, in);
    if (json_object_is_type(in, json_type_array))
        return elements(type && type->kind == ROW_LIST ? type->elem : NULL, in);
    return members(type && (type->kind == ROW_STRUCT || type->kind == ROW_UNION) ? type : NULL, in);
}

bool ctl_tells_secret(const struct row_type *type, struct json_object *in)
{
    struct json_object *tag = NULL;

    if (type->kind == ROW_LIST && json_object_is_type(in, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(in); i++)
            if (ctl_tells_secret(type->elem, json_object_array_get_idx(in, i)))
                return true;
        return false;
    }
    if (type->kind == ROW_ALTERNATE) {
        for (size_t i = 0; type->branches[i]; i++)
            if (ctl_tells_secret(type->branches[i], in))
                return true;
        return false;
    }
    if ((type->kind != ROW_STRUCT && type->kind != ROW_UNION) ||
        !json_object_is_type(in, json_type_object))
        return false;
    if (type->kind == ROW_UNION)
        json_object_object_get_ex(in, type->tag, &tag);
    json_object_object_foreach(in, name, value)
    {
        const struct row *row = ctl_row(type, tag ? json_object_get_string(tag) : NULL, name);

        if (row && (row->secret || ctl_tells_secret(row->type, value)))
            return true;
    }
    return false;
}

static char *join(char *const *words, size_t n)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%s%s", i ? "," : "", words[i]);
    fclose(f);
    return text;
}

int ctl_arguments(const struct row_type *type, char *const *words, size_t n,
                  struct json_object **out, struct err *err)
{
    autofree char *text = NULL;
    struct json_object *tree;
    int r;

    *out = NULL;
    if (n == 0)
        return 0;
    if (words[0][0] == '{') {
        if (n > 1)
            return err_set(err, -EINVAL, "nothing may follow the JSON object");
        return json_parse(words[0], strlen(words[0]), out, err);
    }
    text = join(words, n);
    if (!text)
        return err_set(err, -ENOMEM, "out of memory");
    r = row_text_tree(text, NULL, &tree, err);
    if (r < 0)
        return r;
    *out = typed(type, tree);
    json_object_put(tree);
    return *out ? 0 : err_set(err, -ENOMEM, "out of memory");
}

/* ---- words of a line ---- */

static int add_word(char ***words, size_t *n, char *word, struct err *err)
{
    char **more = reallocarray(*words, *n + 2, sizeof **words);

    if (!word || !more) {
        free(word);
        if (more)
            *words = more;
        return err_set(err, -ENOMEM, "out of memory");
    }
    *words = more;
    more[(*n)++] = word;
    more[*n] = NULL;
    return 0;
}

/* One word at *@line, which goes past it; quotes are taken away. */
static char *take_word(const char **line, bool *open)
{
    const char *s = *line;
    char *word = malloc(strlen(s) + 1), quote = 0;
    size_t n = 0;

    if (!word)
        return NULL;
    for (; *s && (quote || !strchr(" \t\r\n", *s)); s++) {
        if (*s == quote)
            quote = 0;
        else if (!quote && (*s == '"' || *s == '\''))
            quote = *s;
        else
            word[n++] = *s;
    }
    word[n] = 0;
    *line = s;
    *open = quote != 0;
    return word;
}

int ctl_words(const char *line, char ***words, size_t *n, struct err *err)
{
    bool open = false;
    int r = 0;

    *words = calloc(1, sizeof **words);
    *n = 0;
    if (!*words)
        return err_set(err, -ENOMEM, "out of memory");
    while (r == 0 && *(line += strspn(line, " \t\r\n"))) {
        if (*line == '{') {
            r = add_word(words, n, strdup(line), err);
            break;
        }
        r = add_word(words, n, take_word(&line, &open), err);
    }
    if (r == 0 && open)
        r = err_set(err, -EINVAL, "a quote has no end");
    if (r < 0) {
        ctl_words_free(*words);
        *words = NULL;
    }
    return r;
}

void ctl_words_free(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}
