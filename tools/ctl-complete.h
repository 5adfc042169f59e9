/* SPDX-License-Identifier: MIT */
/* What could stand where a line of the shell ends: names of commands, of arguments, and their values. */
#ifndef TOOLS_CTL_COMPLETE_H
#define TOOLS_CTL_COMPLETE_H

#include "tools/ctl-schema.h"

struct ctl_completion {
    const struct ctl_schema *schema;
    const char *const *builtins; /* commands of the shell itself, NULL-ended; may be NULL */
    /* What a query command returns, a reference for the caller; NULL: unknown.  Called when names are needed. */
    struct json_object *(*ask)(const char *command, void *arg);
    void *arg;

    /* Filled in by ctl_complete(). */
    size_t start; /* where in the line begins what a candidate replaces */
    char **words; /* owned: the candidates, sorted, NULL-ended */
    size_t count;
    size_t common; /* bytes in which all candidates begin alike */
};

/** ctl_complete - all candidates for the end of @line, which is the text up to the cursor
 * A candidate that is whole ends in a blank (a command), in '=' or '.' (a key, on which the value or the
 * rest of the key follows) or in nothing (a value).
 * Return: 0, also without candidates; -ENOMEM.  In both cases ctl_completion_free() releases.
 */
int ctl_complete(struct ctl_completion *c, const char *line);
void ctl_completion_free(struct ctl_completion *c);

#endif
