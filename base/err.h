/* SPDX-License-Identifier: MIT */
/*
 * Errors of the control path: a class that QMP clients branch on, a negative
 * errno, and one sentence for the user that names the file or node, what was
 * tried and why it failed.  The data path carries a negative errno only.
 *
 * Rules: an error is set once, where the cause is known; on the way up a caller
 * may put context in front of it.  `struct err *` is never NULL.  A function
 * that takes one returns 0 or a negative errno and has set it iff negative.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>

enum err_class {
    ERR_GENERIC,
    ERR_COMMAND_NOT_FOUND,
    ERR_DEVICE_NOT_ACTIVE,
    ERR_DEVICE_NOT_FOUND,
    ERR_KVM_MISSING_CAP,
};

struct err {
    enum err_class class;
    int code;  /* negative errno; 0 while no error is set */
    char *msg; /* owned; NULL while no error is set */
};

/** err_set - record a failure of class GenericError
 * @code: negative errno
 * @fmt:  the sentence, without a final full stop or newline
 * An error that is set already is replaced.  Never fails: out of memory leaves a fixed sentence.
 * Return: @code, so that a caller can `return err_set(...)`.
 */
int err_set(struct err *err, int code, const char *fmt, ...)
    __attribute__((nonnull(1), format(printf, 3, 4)));

/** err_set_class - the same with another class, for what clients branch on */
int err_set_class(struct err *err, enum err_class class, int code, const char *fmt, ...)
    __attribute__((nonnull(1), format(printf, 4, 5)));

/** err_set_errno - "SENTENCE: strerror(-code)" of class GenericError */
int err_set_errno(struct err *err, int code, const char *fmt, ...)
    __attribute__((nonnull(1), format(printf, 3, 4)));

/** err_prefix - put "CONTEXT: " in front of the sentence; class and code stay
 * Return: err->code.
 */
int err_prefix(struct err *err, const char *fmt, ...)
    __attribute__((nonnull(1), format(printf, 2, 3)));

/** err_move - hand an error over to @dst (which must be unset); @src is unset afterwards
 * Return: dst->code.
 */
int err_move(struct err *dst, struct err *src);

/** err_clear - forget the error and free its sentence; fine on an unset one */
void err_clear(struct err *err);

/** err_class_name - the name QMP uses: "GenericError", "DeviceNotFound" ... */
const char *err_class_name(enum err_class class);

/* A local error that clears itself: `autoerr err = { 0 };` */
#define autoerr __attribute__((cleanup(err_clear))) struct err

#endif
