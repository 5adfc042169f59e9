/* SPDX-License-Identifier: MIT */
/*
 * Events on their way to the clients.  An event with a rate limit goes out at
 * once if none of its key went out within the limit; else it waits, and a
 * later one of the same key takes its place, so that clients learn the latest
 * state and never more than one per period.  On the control ring only.
 */
#include "qmp/qmp.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "base/log.h"
#include "uring/ring.h"

/* A key that went out lately. */
struct limited {
    const struct event_type *type;
    struct timer timer;          /* the end of the period */
    struct json_object *waiting; /* the whole event; NULL: none came since */
    char key[];                  /* the event's name and the key's value */
};

static struct hash limited; /* struct limited by key */

static struct json_object *whole(const struct event_type *type, struct json_object *data,
                                 uint64_t seconds, uint64_t microseconds)
{
    struct json_object *out = json_object_new_object(), *time = json_object_new_object();
    json_object_object_add(time, "seconds", json_object_new_int64((int64_t)seconds));
    json_object_object_add(time, "microseconds", json_object_new_int64((int64_t)microseconds));
    json_object_object_add(out, "timestamp", time);
    json_object_object_add(out, "event", json_object_new_string(type->name));
    if (data)
        json_object_object_add(out, "data", data);
    return out;
}

static void deliver(struct json_object *event)
{
    monitors_broadcast(event);
    json_object_put(event);
}

static void limited_free(struct limited *l)
{
    hash_remove(&limited, l->key);
    json_object_put(l->waiting);
    free(l);
}

static void period_over(struct timer *timer)
{
    struct limited *l = container_of(timer, struct limited, timer);

    if (!l->waiting) {
        limited_free(l);
        return;
    }
    deliver(take_ptr(&l->waiting));
    if (timer_set(&l->timer, ring_now() + l->type->rate_limit) < 0)
        limited_free(l);
}

static char *key_of(const struct event_type *type, struct json_object *data)
{
    struct json_object *member = NULL;
    char *key;
    if (type->key && data)
        json_object_object_get_ex(data, type->key, &member);
    if (asprintf(&key, "%s %s", type->name, member ? json_object_get_string(member) : "") < 0)
        return NULL;
    return key;
}

/* From now on one per period; failing only means that the limit is not kept. */
static void begin_period(const struct event_type *type, const char *key)
{
    struct limited *l = calloc(1, sizeof(*l) + strlen(key) + 1);
    if (!l)
        return;
    l->type = type;
    l->timer.fn = period_over;
    strcpy(l->key, key);
    if (hash_put(&limited, l->key, l) < 0)
        free(l);
    else if (timer_set(&l->timer, ring_now() + type->rate_limit) < 0)
        limited_free(l);
}

/* The sink of block/event.h. */
static void take_event(const struct event_type *type, struct json_object *data, uint64_t seconds,
                       uint64_t microseconds)
{
    struct json_object *event = whole(type, data, seconds, microseconds);
    autofree char *key = type->rate_limit ? key_of(type, data) : NULL;

    if (key) {
        struct limited *l = hash_get(&limited, key);
        if (l) {
            json_object_put(l->waiting);
            l->waiting = event;
            return;
        }
        begin_period(type, key);
    }
    deliver(event);
}

void qmp_events_start(void)
{
    event_set_sink(take_event);
}

void qmp_events_stop(void)
{
    event_set_sink(NULL);
    for (size_t i = 0; i < limited.size; i++) {
        struct limited *l = limited.slots[i].value;
        if (!l)
            continue;
        timer_cancel(&l->timer);
        json_object_put(l->waiting);
        free(l);
    }
    hash_free(&limited);
}
