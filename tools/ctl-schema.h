/* SPDX-License-Identifier: MIT */
/* The answer of query-qmp-schema, by name. */
#ifndef TOOLS_CTL_SCHEMA_H
#define TOOLS_CTL_SCHEMA_H

#include <json-c/json.h>

#include "base/hash.h"

struct ctl_schema {
    struct json_object *list; /* a reference */
    struct hash by_name;
};

/** ctl_schema_init - look names up in @list from now on; 0 or -ENOMEM, then nothing is to be released */
int ctl_schema_init(struct ctl_schema *s, struct json_object *list);
void ctl_schema_free(struct ctl_schema *s);

/** ctl_schema_find - the SchemaInfo of a command, event or type; NULL: none of that name */
struct json_object *ctl_schema_find(const struct ctl_schema *s, const char *name);

/** ctl_schema_kind - its meta-type: "command", "object", "enum" ...; "" when @info says none */
const char *ctl_schema_kind(struct json_object *info);

/** ctl_schema_arguments - the type of a command's arguments; NULL: no such command */
struct json_object *ctl_schema_arguments(const struct ctl_schema *s, const char *command);

/** ctl_schema_member_type - the type that a member's (or variant's) "type" names */
struct json_object *ctl_schema_member_type(const struct ctl_schema *s, struct json_object *member);

/** ctl_schema_branch - the members that @tag_value adds to a union; NULL: none */
struct json_object *ctl_schema_branch(const struct ctl_schema *s, struct json_object *type,
                                      const char *tag_value);

#endif
