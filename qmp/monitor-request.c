/* SPDX-License-Identifier: MIT */
/*
 * Requests: in band they are worked off in order by one coroutine, which lives
 * while there are any; out of band each has its own.
 */
#include <errno.h>
#include <json-c/json.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "qmp/monitor-private.h"

/* A value takes up to two hundred times the bytes of its text, in pieces that the C library keeps when they
 * are freed: after a large one they go back to the system. */
static void request_free(struct request *q)
{
    enum { LARGE_BYTES = 64 << 10 };
    bool large = q->bytes > LARGE_BYTES;

    json_object_put(q->value);
    err_clear(&q->err);
    free(q);
    if (large)
        malloc_trim(0);
}

static struct json_object *error_object(const struct err *err)
{
    struct json_object *error = json_object_new_object();
    json_object_object_add(error, "class", json_object_new_string(err_class_name(err->class)));
    json_object_object_add(error, "desc", json_object_new_string(err->msg ? err->msg : ""));
    return error;
}

/* Takes @result over; it is a reply iff @err is unset. */
static void reply(struct monitor *m, struct json_object *value, struct json_object *result,
                  const struct err *err)
{
    struct json_object *out = json_object_new_object(), *id;
    if (err->code)
        json_object_object_add(out, "error", error_object(err));
    else
        json_object_object_add(out, "return", result);
    if (json_object_is_type(value, json_type_object) && json_object_object_get_ex(value, "id", &id))
        json_object_object_add(out, "id", json_object_get(id));
    monitor_emit(m, out);
    json_object_put(out);
}

/* What a request says. */
struct said {
    const char *name, *key; /* the command; "execute" or "exec-oob" */
    bool whole;             /* the name ends where it seems to end */
    struct json_object *args;
};

static int check_request(const struct monitor *m, struct json_object *value, struct said *said,
                         struct err *err)
{
    memset(said, 0, sizeof(*said));
    if (!json_object_is_type(value, json_type_object))
        return err_set(err, -EINVAL, "QMP input must be a JSON object");
    json_object_object_foreach(value, key, member)
    {
        if (!strcmp(key, "execute") || (m->oob && !strcmp(key, "exec-oob"))) {
            if (!json_object_is_type(member, json_type_string))
                return err_set(err, -EINVAL, "QMP input member '%s' must be a string", key);
            if (said->key)
                return err_set(err, -EINVAL, "QMP input member '%s' clashes with '%s'", key,
                               said->key);
            said->key = key;
            said->name = json_object_get_string(member);
            said->whole = strlen(said->name) == (size_t)json_object_get_string_len(member);
        } else if (!strcmp(key, "arguments")) {
            if (!json_object_is_type(member, json_type_object))
                return err_set(err, -EINVAL, "QMP input member '%s' must be an object", key);
            said->args = member;
        } else if (strcmp(key, "id")) {
            return err_set(err, -EINVAL, "QMP input member '%s' is unexpected", key);
        }
    }
    if (!said->key)
        return err_set(err, -EINVAL, "QMP input lacks member 'execute'");
    return 0;
}

static int find_command(const struct monitor *m, const struct said *said,
                        const struct qmp_command **out, struct err *err)
{
    const struct qmp_command *c = said->whole ? qmp_find(said->name) : NULL;

    if (!m->negotiated && (!c || !(c->flags & QMP_NEGOTIATION)))
        return err_set_class(err, ERR_COMMAND_NOT_FOUND, -ENOENT,
                             "Expecting capabilities negotiation with 'qmp_capabilities'");
    if (!c)
        return err_set_class(err, ERR_COMMAND_NOT_FOUND, -ENOENT,
                             "The command %s%s has not been found", said->name,
                             said->whole ? "" : "\\0...");
    if (!strcmp(said->key, "exec-oob") && !(c->flags & QMP_ALLOW_OOB))
        return err_set(err, -EINVAL, "The command %s does not support OOB", said->name);
    if (monitor_refuses(c))
        return err_set(err, -ESHUTDOWN, "The daemon is about to stop");
    *out = c;
    return 0;
}

static void co_fn carry_out(struct request *q)
{
    struct monitor *m = q->m;
    const struct qmp_command *c = NULL;
    struct json_object *result = NULL;
    struct said said;
    autoerr err = { 0 };

    if (q->err.code)
        err_move(&err, &q->err);
    else if (check_request(m, q->value, &said, &err) == 0)
        find_command(m, &said, &c, &err);
    if (c) {
        co_set_label(c->name);
        m->current = q;
        qmp_execute(c, m, said.args, &result, &err);
        m->current = NULL;
        co_set_label("QMP client");
    }
    reply(m, q->value, result, &err);
}

static void runner(void *arg)
{
    struct monitor *m = arg;
    struct list *l;

    while ((l = list_pop_front(&m->queue))) {
        struct request *q = container_of(l, struct request, link);
        while (monitor_braked(m)) {
            co_deadline_exempt(true);
            co_cond_wait(&m->moved, NULL);
        }
        co_deadline_exempt(false);
        if (!m->dead)
            carry_out(q);
        m->queued--;
        m->queued_bytes -= q->bytes;
        request_free(q);
        co_cond_wake_all(&m->moved);
        co_pause(); /* let other clients have their turn */
    }
    m->running = false;
    monitor_put(m);
}

static void run_oob(void *arg)
{
    struct request *q = arg;
    struct monitor *m = q->m;

    carry_out(q);
    request_free(q);
    m->oob_running--;
    co_cond_wake_all(&m->moved);
    monitor_put(m);
}

static bool is_oob(const struct monitor *m, struct json_object *value)
{
    return m->oob && json_object_is_type(value, json_type_object) &&
           json_object_object_get_ex(value, "exec-oob", NULL) &&
           !json_object_object_get_ex(value, "execute", NULL);
}

static void take_request(struct monitor *m, struct request *q)
{
    bool oob = is_oob(m, q->value);
    m->uses++;
    if (oob) {
        m->oob_running++;
        if (co_enter(run_oob, q, "QMP command out of band") == 0)
            return;
        m->oob_running--;
    } else {
        list_push_back(&m->queue, &q->link);
        m->queued++;
        m->queued_bytes += q->bytes;
        if (m->running) {
            m->uses--;
            return;
        }
        m->running = true;
        if (co_enter(runner, m, "QMP client") == 0)
            return;
        m->running = false;
        list_remove(&q->link);
        m->queued--;
        m->queued_bytes -= q->bytes;
    }
    m->uses--;
    request_free(q);
    monitor_cut_off(m, "out of memory");
}

/* A value is whole, or can't be one: it is answered in its turn. */
void monitor_new_request(struct monitor *m, struct json_object *value, struct err *err)
{
    struct request *q = calloc(1, sizeof(*q));
    if (!q) {
        json_object_put(value);
        monitor_cut_off(m, "out of memory");
        return;
    }
    q->m = m;
    q->value = value;
    if (err->code)
        err_move(&q->err, err);
    q->bytes = m->fed;
    m->fed = 0;
    q->turn = m->turn;
    take_request(m, q);
}
