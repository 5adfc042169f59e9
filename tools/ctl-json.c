/* SPDX-License-Identifier: MIT */
/* Looking into what a server said. */
#include "tools/ctl-json.h"

#include <string.h>

struct json_object *ctl_get(struct json_object *o, const char *const *path)
{
    for (; *path; path++)
        if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, *path, &o))
            return NULL;
    return o;
}

const char *ctl_string(struct json_object *value)
{
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

size_t ctl_length(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

struct json_object *ctl_at(struct json_object *list, size_t i)
{
    return i < ctl_length(list) ? json_object_array_get_idx(list, i) : NULL;
}

static bool matches(struct json_object *element, const char *name, const char *value)
{
    const char *found = ctl_string(CTL_GET(element, name));

    return found && strcmp(found, value) == 0;
}

struct json_object *ctl_find(struct json_object *list, const char *name, const char *value)
{
    for (size_t i = 0; value && i < ctl_length(list); i++)
        if (matches(ctl_at(list, i), name, value))
            return ctl_at(list, i);
    return NULL;
}

struct json_object *ctl_find_near(struct json_object *list, size_t i, const char *name,
                                  const char *value)
{
    return value && matches(ctl_at(list, i), name, value) ? ctl_at(list, i)
                                                          : ctl_find(list, name, value);
}
