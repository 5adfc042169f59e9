/* SPDX-License-Identifier: MIT */
/* Looking into what a server said, which may be anything: nothing here trusts its shape. */
#ifndef TOOLS_CTL_JSON_H
#define TOOLS_CTL_JSON_H

#include <json-c/json.h>
#include <stdbool.h>

/** CTL_GET - the member of @o at a path of names; NULL when there is none or what is on the way is no object */
#define CTL_GET(o, ...) ctl_get(o, (const char *const[]){ __VA_ARGS__, NULL })
struct json_object *ctl_get(struct json_object *o, const char *const *path);

/** ctl_string - the string that @value is, which owns it; NULL when it is none */
const char *ctl_string(struct json_object *value);

/** ctl_length / ctl_at - elements of a list; what is no list has none */
size_t ctl_length(struct json_object *list);
struct json_object *ctl_at(struct json_object *list, size_t i);

/** ctl_find - the first element whose member @name is the string @value; NULL: none, or @value is NULL */
struct json_object *ctl_find(struct json_object *list, const char *name, const char *value);

/** ctl_find_near - the same, trying the element @i first: two lists often have the same order */
struct json_object *ctl_find_near(struct json_object *list, size_t i, const char *name,
                                  const char *value);

#endif
