/* SPDX-License-Identifier: MIT */
/*
 * Lists of rules say who is let in: the first that matches the identity
 * decides, else the list's own policy does.  What a check reads is looked at
 * under the registry's lock, as qom-set may change it; only a file is read
 * outside.  A list that can't be read lets nobody in.
 */
#include "crypto/authz.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/read-file.h"

enum { LIST_BYTES_MAX = 1 << 20 };
enum policy { POLICY_DENY, POLICY_ALLOW };
enum format { FORMAT_EXACT, FORMAT_GLOB };

struct rule {
    char *match;
    enum policy policy;
    enum format format;
};

/* Properties of authz-list, and what the file of authz-listfile holds. */
struct rules {
    enum policy policy;
    struct row_list rules; /* struct rule */
};

struct simple_props {
    char *identity;
};

struct listfile_props {
    char *filename;
    bool refresh;
};

static const char *const policy_names[] = { "deny", "allow", NULL };
static const char *const policy_help[] = { "Keep out", "Let in" };
static ROW_ENUM_TYPE(row_policy, "QAuthZListPolicy", policy_names, .value_help = policy_help,
                     .help = "What a rule or list decides");

static const char *const format_names[] = { "exact", "glob", NULL };
static const char *const format_help[] = { "The whole text",
                                           "A pattern as the shell's: * ? [...]" };
static ROW_ENUM_TYPE(row_format, "QAuthZListFormat", format_names, .value_help = format_help,
                     .help = "How a rule is compared");

static const struct row rule_rows[] = {
    ROW_REQ(struct rule, "match", match, row_str, .help = "Which identities it is about"),
    ROW_REQ(struct rule, "policy", policy, row_policy, .help = "What it decides about them"),
    ROW_OPT(struct rule, "format", format, row_format, .fallback = "exact",
            .help = "How match is compared"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_rule, "QAuthZListRule", struct rule, rule_rows,
                       .help = "A rule about identities");
static ROW_LIST_TYPE(row_rule_list, row_rule);

static const struct row rules_rows[] = {
    ROW_OPT(struct rules, "policy", policy, row_policy, .fallback = "deny",
            .help = "What is decided when no rule matches"),
    ROW_OPT(struct rules, "rules", rules, row_rule_list,
            .help = "The rules; the first that matches decides"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_rules, "AuthZListProperties", struct rules, rules_rows,
                       .help = "Properties of an authz-list");

static const struct row simple_rows[] = {
    ROW_REQ(struct simple_props, "identity", identity, row_str, .help = "The one that is let in"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_simple_props, "AuthZSimpleProperties", struct simple_props, simple_rows,
                       .help = "Properties of an authz-simple");

static const struct row listfile_rows[] = {
    ROW_REQ(struct listfile_props, "filename", filename, row_str,
            .help = "A JSON file with the properties of an authz-list"),
    ROW_OPT(struct listfile_props, "refresh", refresh, row_bool, .fallback = "true",
            .help = "Read the file anew for each check"),
    ROW_END,
};
static ROW_STRUCT_TYPE(row_listfile_props, "AuthZListFileProperties", struct listfile_props,
                       listfile_rows, .help = "Properties of an authz-listfile");

/* --- rules -------------------------------------------------------------------- */

/* 1: it matches, 0: not, -EINVAL: the pattern is one that fnmatch() can't work with. */
static int rule_matches(const struct rule *r, const char *identity)
{
    int result;

    if (r->format == FORMAT_EXACT)
        return strcmp(r->match, identity) == 0;
    result = fnmatch(r->match, identity, 0);
    return result == 0 ? 1 : result == FNM_NOMATCH ? 0 : -EINVAL;
}

static int rules_check(const struct rules *r, const char *id, const char *identity, bool *allowed,
                       struct err *err)
{
    for (size_t i = 0; i < r->rules.n; i++) {
        const struct rule *rule = (const struct rule *)r->rules.v + i;
        int matches = rule_matches(rule, identity);

        if (matches < 0)
            return err_set(err, matches, "authorization list '%s': rule %zu can't be compared", id,
                           i);
        if (matches) {
            *allowed = rule->policy == POLICY_ALLOW;
            return 0;
        }
    }
    *allowed = r->policy == POLICY_ALLOW;
    return 0;
}

static int rules_read(const char *id, const char *filename, struct rules *out, struct err *err)
{
    autofree char *text = NULL;
    const char *start;
    size_t len;

    if (read_file(filename, LIST_BYTES_MAX, &text, &len, err) < 0)
        return err_prefix(err, "authorization list '%s'", id);
    start = text + strspn(text, " \t\r\n");
    if (strlen(text) != len || *start != '{')
        return err_set(err, -EINVAL, "authorization list '%s': '%s' is no JSON object", id,
                       filename);
    if (row_parse_text(&row_rules, start, NULL, out, err) < 0)
        return err_prefix(err, "authorization list '%s': '%s'", id, filename);
    return 0;
}

/* --- the objects -------------------------------------------------------------- */

static int change_freely(struct object *o, const void *props, struct err *err)
{
    (void)o;
    (void)props;
    (void)err;
    return 0;
}

/* A file that is no list is found out about at once; without refresh this is what counts for ever. */
static int listfile_create(struct object *o, const void *props, struct err *err)
{
    const struct listfile_props *p = props;
    struct rules *state = o->state;

    if (rules_read(o->id, p->filename, state, err) < 0)
        return err->code;
    if (p->refresh)
        row_release(&row_rules, state);
    return 0;
}

static void listfile_destroy(struct object *o)
{
    row_release(&row_rules, o->state);
}

const struct object_type object_authz_simple = {
    .name = "authz-simple",
    .parent = "authz",
    .props = &row_simple_props,
    .change = change_freely,
};

const struct object_type object_authz_list = {
    .name = "authz-list",
    .parent = "authz",
    .props = &row_rules,
    .change = change_freely,
};

const struct object_type object_authz_listfile = {
    .name = "authz-listfile",
    .parent = "authz",
    .props = &row_listfile_props,
    .state_size = sizeof(struct rules),
    .create = listfile_create,
    .destroy = listfile_destroy,
};

/* --- checks ------------------------------------------------------------------- */

struct object *authz_find(const char *id, struct err *err)
{
    struct object *o = object_find(id, NULL, err);

    if (o && (!o->type->parent || strcmp(o->type->parent, "authz") != 0)) {
        err_set(err, -EINVAL, "object '%s' is of type '%s', which authorizes nobody", id,
                o->type->name);
        return NULL;
    }
    return o;
}

/* With the registry locked.  @filename: set when the answer stands in a file that is to be read. */
static int check(const char *id, const char *identity, bool *allowed, char **filename,
                 struct err *err)
{
    struct object *o = authz_find(id, err);

    if (!o)
        return err->code;
    if (o->type == &object_authz_simple) {
        *allowed = strcmp(((struct simple_props *)o->props)->identity, identity) == 0;
        return 0;
    }
    if (o->type == &object_authz_list)
        return rules_check(o->props, id, identity, allowed, err);
    if (!((struct listfile_props *)o->props)->refresh)
        return rules_check(o->state, id, identity, allowed, err);
    *filename = strdup(((struct listfile_props *)o->props)->filename);
    return *filename ? 0 : err_set(err, -ENOMEM, "authorization list '%s': out of memory", id);
}

int authz_check(const char *id, const char *identity, bool *allowed, struct err *err)
{
    autofree char *filename = NULL;
    struct rules rules;
    int r;

    *allowed = false;
    objects_lock();
    r = check(id, identity, allowed, &filename, err);
    objects_unlock();
    if (r < 0 || !filename)
        return r;
    if (rules_read(id, filename, &rules, err) < 0)
        return err->code;
    r = rules_check(&rules, id, identity, allowed, err);
    row_release(&row_rules, &rules);
    return r;
}
