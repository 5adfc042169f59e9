/* SPDX-License-Identifier: MIT */
/* The shell's history: a text file, a line for each line typed, oldest first. */
#ifndef TOOLS_CTL_HISTORY_H
#define TOOLS_CTL_HISTORY_H

#include "base/err.h"

enum { CTL_HISTORY_MAX = 1000 /* lines */ };

/** ctl_history_path - $XDG_STATE_HOME/ringblk/history, else ~/.local/state/ringblk/history, its folders made
 * (mode 0700); malloc'd
 * NULL: there is no home, or a folder can't be made (err says which), or out of memory.
 */
char *ctl_history_path(struct err *err);

/** ctl_history_load - call @fn with each of the last CTL_HISTORY_MAX lines; no file counts as an empty one
 * A file of more than twice as many is cut to these.
 */
int ctl_history_load(const char *path, void (*fn)(const char *line, void *arg), void *arg,
                     struct err *err);

/** ctl_history_append - one line more, at once, so that shells side by side keep all; mode 0600 */
int ctl_history_append(const char *path, const char *line, struct err *err);

#endif
