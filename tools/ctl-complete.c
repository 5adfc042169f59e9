/* SPDX-License-Identifier: MIT */
/*
 * Completion of command lines by the server's schema.  A line is a command and
 * parts KEY=VALUE, divided by blanks or commas; a KEY is a path of names and
 * list positions.  Which members a union has depends on the parts that are
 * there already: driver=file adds those of files.
 */
#include "tools/ctl-complete.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "tools/ctl-json.h"

#define BETWEEN " \t\r\n,"

struct line {
    struct ctl_completion *c;
    const char *text;  /* all of it */
    const char *parts; /* what follows the command */
    const char *last;  /* the part that is being typed */
    char *command;     /* owned */
    bool failed;       /* out of memory */
};

/* ---- candidates ---- */

static void add(struct line *l, const char *before, const char *word, const char *after)
{
    const char *typed = l->text + l->c->start;
    char **more, *all = NULL;

    if (asprintf(&all, "%s%s%s", before, word, after) < 0) {
        l->failed = true;
        return;
    }
    if (strncmp(all, typed, strlen(typed)) != 0) {
        free(all);
        return;
    }
    more = reallocarray(l->c->words, l->c->count + 2, sizeof(*more));
    if (!more) {
        free(all);
        l->failed = true;
        return;
    }
    l->c->words = more;
    more[l->c->count++] = all;
    more[l->c->count] = NULL;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted, each once; how much they have in common. */
static void finish(struct ctl_completion *c)
{
    size_t kept = 0;

    if (!c->count)
        return;
    qsort(c->words, c->count, sizeof(*c->words), by_text);
    for (size_t i = 0; i < c->count; i++) {
        if (kept && strcmp(c->words[kept - 1], c->words[i]) == 0)
            free(c->words[i]);
        else
            c->words[kept++] = c->words[i];
    }
    c->words[c->count = kept] = NULL;
    /* Sorted: what the first and the last have in common all have. */
    for (const char *a = c->words[0], *b = c->words[kept - 1]; *a && *a == *b; a++, b++)
        c->common++;
}

/* ---- commands ---- */

static void add_commands(struct line *l, bool builtins)
{
    struct json_object *list = l->c->schema->list;

    for (size_t i = 0; i < ctl_length(list); i++) {
        struct json_object *info = ctl_at(list, i);
        const char *name = ctl_string(CTL_GET(info, "name"));

        if (name && strcmp(ctl_schema_kind(info), "command") == 0)
            add(l, "", name, " ");
    }
    for (const char *const *b = builtins ? l->c->builtins : NULL; b && *b; b++)
        add(l, "", *b, " ");
}

/* ---- keys ---- */

/* The first part before the last one whose key is, or begins with, the path @prefix@name: what follows on that,
 * *@length bytes; NULL: there is none.
 */
static const char *after_key(struct line *l, const char *prefix, size_t prefix_length,
                             const char *name, size_t *length)
{
    size_t key = prefix_length + strlen(name);

    for (const char *part = l->parts; part < l->last;) {
        size_t n = strcspn(part, BETWEEN);

        if (n > key && strncmp(part, prefix, prefix_length) == 0 &&
            strncmp(part + prefix_length, name, key - prefix_length) == 0 &&
            strchr("=.", part[key])) {
            *length = n - key;
            return part + key;
        }
        part += n + strspn(part + n, BETWEEN);
    }
    return NULL;
}

/* The members that the parts given so far choose, beside those that it always has; NULL: none. */
static struct json_object *branch(struct line *l, struct json_object *type, const char *prefix,
                                  size_t prefix_length)
{
    const char *tag = ctl_string(CTL_GET(type, "tag"));
    size_t length = 0;
    const char *after = tag ? after_key(l, prefix, prefix_length, tag, &length) : NULL;
    autofree char *value = after && *after == '=' ? strndup(after + 1, length - 1) : NULL;

    return ctl_schema_branch(l->c->schema, type, value);
}

static bool is_kind(struct json_object *type, const char *kind)
{
    return strcmp(ctl_schema_kind(type), kind) == 0;
}

/* The possibility of an alternate that has members or elements, or NULL; other types are themselves. */
static struct json_object *group_of(struct line *l, struct json_object *type)
{
    struct json_object *choices = CTL_GET(type, "members");

    if (!is_kind(type, "alternate"))
        return type;
    for (size_t i = 0; i < ctl_length(choices); i++) {
        struct json_object *choice = ctl_schema_member_type(l->c->schema, ctl_at(choices, i));

        if (is_kind(choice, "object") || is_kind(choice, "array"))
            return choice;
    }
    return NULL;
}

static bool is_group(struct json_object *type)
{
    return is_kind(type, "object") || is_kind(type, "array");
}

static bool is_scalar(struct line *l, struct json_object *type)
{
    struct json_object *choices = CTL_GET(type, "members");

    if (!is_kind(type, "alternate"))
        return !is_group(type);
    for (size_t i = 0; i < ctl_length(choices); i++)
        if (!is_group(ctl_schema_member_type(l->c->schema, ctl_at(choices, i))))
            return true;
    return false;
}

/* The type of what @path (of @length bytes, members and positions with dots between) leads to; NULL: nothing. */
static struct json_object *follow(struct line *l, struct json_object *type, const char *path,
                                  size_t length)
{
    for (size_t at = 0; at < length && type;) {
        size_t n = strcspn(path + at, ".");
        autofree char *name = strndup(path + at, n = at + n > length ? length - at : n);
        struct json_object *member;

        type = group_of(l, type);
        if (!name) {
            l->failed = true;
            return NULL;
        }
        if (is_kind(type, "array")) {
            type = ctl_schema_find(l->c->schema, ctl_string(CTL_GET(type, "element-type")));
        } else {
            member = ctl_find(CTL_GET(type, "members"), "name", name);
            if (!member)
                member = ctl_find(CTL_GET(branch(l, type, path, at), "members"), "name", name);
            type = ctl_schema_member_type(l->c->schema, member);
        }
        at += n + 1;
    }
    return type;
}

static void add_key(struct line *l, const char *prefix, const char *name, struct json_object *type)
{
    if (is_scalar(l, type))
        add(l, prefix, name, "=");
    if (is_group(group_of(l, type)))
        add(l, prefix, name, ".");
}

static void add_members(struct line *l, struct json_object *type, const char *prefix)
{
    struct json_object *members = CTL_GET(type, "members");

    for (size_t i = 0; i < ctl_length(members); i++) {
        const char *name = ctl_string(CTL_GET(ctl_at(members, i), "name"));
        struct json_object *member_type = ctl_schema_member_type(l->c->schema, ctl_at(members, i));

        size_t length;

        if (name && (is_group(group_of(l, member_type)) ||
                     !after_key(l, prefix, strlen(prefix), name, &length)))
            add_key(l, prefix, name, member_type);
    }
}

/* The next free position of a list. */
static void add_position(struct line *l, struct json_object *type, const char *prefix)
{
    char position[16];
    size_t length;

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(position, sizeof(position), "%u", i);
        if (!after_key(l, prefix, strlen(prefix), position, &length))
            break;
    }
    add_key(l, prefix, position,
            ctl_schema_find(l->c->schema, ctl_string(CTL_GET(type, "element-type"))));
}

static void add_keys(struct line *l, struct json_object *arguments)
{
    const char *dot = strrchr(l->last, '.');
    size_t length = dot ? (size_t)(dot - l->last) + 1 : 0;
    autofree char *prefix = strndup(l->last, length);
    struct json_object *type;

    if (!prefix) {
        l->failed = true;
        return;
    }
    type = group_of(l, follow(l, arguments, prefix, length));
    if (is_kind(type, "array")) {
        add_position(l, type, prefix);
        return;
    }
    add_members(l, type, prefix);
    add_members(l, branch(l, type, prefix, length), prefix);
}

/* ---- values ---- */

static void add_names(struct line *l, const char *command, const char *member)
{
    struct json_object *list = l->c->ask ? l->c->ask(command, l->c->arg) : NULL;

    for (size_t i = 0; i < ctl_length(list); i++) {
        const char *name =
            ctl_string(ctl_get(ctl_at(list, i), (const char *const[]){ member, NULL }));

        if (name)
            add(l, "", name, "");
    }
    json_object_put(list);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

/* A string can be anything; of some it is known what they name. */
static void add_strings(struct line *l, const char *name)
{
    bool makes_nodes = strcmp(l->command, "blockdev-add") == 0;

    if (strcmp(name, "device") == 0 ||
        (strcmp(name, "id") == 0 && strcmp(l->command, "block-export-add") != 0))
        add_names(l, "query-block-exports", "id");
    if (strcmp(name, "device") == 0 || strcmp(name, "node") == 0 || ends_in(name, "-node") ||
        (ends_in(name, "node-name") && !makes_nodes))
        add_names(l, "query-named-block-nodes", "node-name");
}

static void add_values(struct line *l, struct json_object *type, const char *name)
{
    struct json_object *choices = CTL_GET(type, "members");

    if (is_kind(type, "enum")) {
        for (size_t i = 0; i < ctl_length(choices); i++) {
            const char *value = ctl_string(CTL_GET(ctl_at(choices, i), "name"));
            if (value)
                add(l, "", value, "");
        }
    } else if (is_kind(type, "alternate")) {
        /* A string or members: a node's name or how to make one. */
        bool reference = is_group(group_of(l, type));

        for (size_t i = 0; i < ctl_length(choices); i++)
            add_values(l, ctl_schema_member_type(l->c->schema, ctl_at(choices, i)),
                       reference ? "node" : name);
    } else if (is_kind(type, "builtin")) {
        const char *json_type = ctl_string(CTL_GET(type, "json-type"));

        if (json_type && strcmp(json_type, "boolean") == 0) {
            add(l, "", "on", "");
            add(l, "", "off", "");
        } else if (json_type && strcmp(json_type, "string") == 0) {
            add_strings(l, name);
        }
    }
}

static void add_values_of_key(struct line *l, struct json_object *arguments, size_t length)
{
    struct json_object *type = follow(l, arguments, l->last, length);
    size_t begin = length;
    autofree char *name = NULL;

    /* The name of a list's element is the list's: in node-names.0 that is node-names. */
    while (begin > 0 && l->last[begin - 1] != '.')
        begin--;
    name = strndup(l->last + begin, length - begin);
    if (!name)
        l->failed = true;
    else if (type)
        add_values(l, type, name);
}

/* ---- lines ---- */

static void complete_parts(struct line *l)
{
    struct json_object *arguments = ctl_schema_arguments(l->c->schema, l->command);
    size_t key;

    for (const char *s = l->last; *s; s++)
        if (strchr(BETWEEN, *s))
            l->last = s + 1;
    key = strcspn(l->last, "=");
    if (l->last[key]) {
        l->c->start = (size_t)(l->last - l->text) + key + 1;
        add_values_of_key(l, arguments, key);
    } else {
        l->c->start = (size_t)(l->last - l->text);
        add_keys(l, arguments);
    }
}

int ctl_complete(struct ctl_completion *c, const char *line)
{
    const char *command = line + strspn(line, BETWEEN);
    size_t length = strcspn(command, BETWEEN);
    struct line l = { .c = c, .text = line };

    c->words = NULL;
    c->count = c->common = 0;
    c->start = strlen(line);
    if (strpbrk(line, "{'\""))
        return 0;
    l.command = strndup(command, length);
    if (!l.command)
        return -ENOMEM;
    l.parts = l.last = command + length + strspn(command + length, BETWEEN);
    if (!command[length]) {
        c->start = (size_t)(command - line);
        add_commands(&l, true);
    } else if (strcmp(l.command, "help") == 0) {
        c->start = (size_t)(l.last - line);
        add_commands(&l, false);
    } else {
        complete_parts(&l);
    }
    free(l.command);
    finish(c);
    return l.failed ? -ENOMEM : 0;
}

void ctl_completion_free(struct ctl_completion *c)
{
    for (size_t i = 0; i < c->count; i++)
        free(c->words[i]);
    free(c->words);
    c->words = NULL;
    c->count = c->common = 0;
}
