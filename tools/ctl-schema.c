/* SPDX-License-Identifier: MIT */
/* The answer of query-qmp-schema, by name. */
#include "tools/ctl-schema.h"

#include <errno.h>

#include "tools/ctl-json.h"

int ctl_schema_init(struct ctl_schema *s, struct json_object *list)
{
    *s = (struct ctl_schema){ .list = json_object_get(list) };
    for (size_t i = 0; i < ctl_length(list); i++) {
        const char *name = ctl_string(CTL_GET(ctl_at(list, i), "name"));

        if (name && hash_put(&s->by_name, name, ctl_at(list, i)) == -ENOMEM) {
            ctl_schema_free(s);
            return -ENOMEM;
        }
    }
    return 0;
}

void ctl_schema_free(struct ctl_schema *s)
{
    hash_free(&s->by_name);
    json_object_put(s->list);
    *s = (struct ctl_schema){ 0 };
}

struct json_object *ctl_schema_find(const struct ctl_schema *s, const char *name)
{
    return name ? hash_get(&s->by_name, name) : NULL;
}

const char *ctl_schema_kind(struct json_object *info)
{
    const char *kind = ctl_string(CTL_GET(info, "meta-type"));

    return kind ? kind : "";
}

struct json_object *ctl_schema_arguments(const struct ctl_schema *s, const char *command)
{
    struct json_object *info = ctl_schema_find(s, command);

    return ctl_schema_find(s, ctl_string(CTL_GET(info, "arg-type")));
}

struct json_object *ctl_schema_member_type(const struct ctl_schema *s, struct json_object *member)
{
    return ctl_schema_find(s, ctl_string(CTL_GET(member, "type")));
}

struct json_object *ctl_schema_branch(const struct ctl_schema *s, struct json_object *type,
                                      const char *tag_value)
{
    return ctl_schema_member_type(s, ctl_find(CTL_GET(type, "variants"), "case", tag_value));
}
