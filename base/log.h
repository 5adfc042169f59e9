/* SPDX-License-Identifier: MIT */
/*
 * The log: one line a message on stderr, with a level that journald reads
 * ("<4>" in front) when stderr goes to the journal, else "ringblkd: warning: ".
 * Any thread may log.  Not for the data path's ordinary events.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/** log_init - name the program and find out whether stderr is the journal ($JOURNAL_STREAM) */
void log_init(const char *program);

/** log_set_level - messages above @level are dropped; the default is LOG_LEVEL_INFO */
void log_set_level(enum log_level level);
bool log_enabled(enum log_level level);

void log_message(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...)   log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_LEVEL_DEBUG))                                                          \
            log_message(LOG_LEVEL_DEBUG, __VA_ARGS__);                                             \
    } while (0)

#endif
