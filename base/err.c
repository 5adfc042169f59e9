/* SPDX-License-Identifier: MIT */
/*
 * Errors of the control path.  Invariant: code is negative exactly while msg is
 * not NULL.  When there is no memory for a sentence, msg points at a constant
 * one, which err_clear() knows not to free.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/err.h"

static char no_memory[] = "out of memory";

/* Replace the sentence; @msg is NULL when it could not be made. */
static int set_message(struct err *err, enum err_class class, int code, char *msg)
{
    if (err->msg != no_memory)
        free(err->msg);
    err->msg = msg ? msg : no_memory;
    err->class = class;
    err->code = code < 0 ? code : -EINVAL;
    return err->code;
}

static char *format(const char *fmt, va_list ap)
{
    char *text;

    return vasprintf(&text, fmt, ap) < 0 ? NULL : text;
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *msg = format(fmt, ap);
    va_end(ap);
    return set_message(err, ERR_GENERIC, code, msg);
}

int err_set_class(struct err *err, enum err_class class, int code, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    char *msg = format(fmt, ap);
    va_end(ap);
    return set_message(err, class, code, msg);
}

int err_set_errno(struct err *err, int code, const char *fmt, ...)
{
    autofree char *head = NULL;
    char *msg, reason[128];
    va_list ap;

    va_start(ap, fmt);
    head = format(fmt, ap);
    va_end(ap);
    if (!head || asprintf(&msg, "%s: %s", head, strerror_r(-code, reason, sizeof reason)) < 0)
        msg = NULL;
    return set_message(err, ERR_GENERIC, code, msg);
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    autofree char *head = NULL;
    char *msg;
    va_list ap;

    if (!err->msg)
        return err->code;
    va_start(ap, fmt);
    head = format(fmt, ap);
    va_end(ap);
    /* Without memory the cause alone is better than nothing. */
    if (!head || asprintf(&msg, "%s: %s", head, err->msg) < 0)
        return err->code;
    return set_message(err, err->class, err->code, msg);
}

int err_move(struct err *dst, struct err *src)
{
    err_clear(dst);
    *dst = *src;
    *src = (struct err){ 0 };
    return dst->code;
}

void err_clear(struct err *err)
{
    if (err->msg != no_memory)
        free(err->msg);
    *err = (struct err){ 0 };
}

const char *err_class_name(enum err_class class)
{
    switch (class) {
    case ERR_COMMAND_NOT_FOUND: return "CommandNotFound";
    case ERR_DEVICE_NOT_ACTIVE: return "DeviceNotActive";
    case ERR_DEVICE_NOT_FOUND: return "DeviceNotFound";
    case ERR_KVM_MISSING_CAP: return "KVMMissingCap";
    case ERR_GENERIC: break;
    }
    return "GenericError";
}
