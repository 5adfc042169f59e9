/* SPDX-License-Identifier: MIT */
/*
 * Text for people: columns that align, numbers with units, and strings of the
 * server made harmless for a terminal.
 */
#ifndef TOOLS_CTL_TABLE_H
#define TOOLS_CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** ctl_escape - a copy of UTF-8 @text in which control characters, what turns the direction of writing and
 * bytes that are no UTF-8 are written \xNN or \u{N}; malloc'd, NULL when out of memory
 */
char *ctl_escape(const char *text);

/** ctl_width - columns that UTF-8 @text takes on a terminal of the locale */
size_t ctl_width(const char *text);

/* A table is filled row by row, cell by cell, and printed at once. */
struct ctl_table {
    size_t columns;
    const bool *right; /* of each column: aligned to the right; NULL: none */
    char **cells;      /* owned; row after row, the heading first */
    size_t count, room;
    bool failed;     /* out of memory */
    bool drop_empty; /* of columns where the rows have nothing the heading is not printed either */
};

/** ctl_table_add - the next cell, escaped; NULL counts as "" */
void ctl_table_add(struct ctl_table *t, const char *text);

/** ctl_table_addf - the same, formatted */
void ctl_table_addf(struct ctl_table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/** ctl_table_print - print all rows without blanks at their ends; 0 or -ENOMEM */
int ctl_table_print(const struct ctl_table *t, FILE *out);

/** ctl_print_columns - words below one another in as many columns as @width characters have room for */
void ctl_print_columns(char *const *words, size_t count, size_t width, FILE *out);

/** ctl_table_clear - release the cells; the table may be filled again */
void ctl_table_clear(struct ctl_table *t);

enum { CTL_NUMBER_MAX = 32 };

/** ctl_size_text - bytes with a unit of powers of 1024: "512 B", "64 MiB", "1.5 GiB" */
const char *ctl_size_text(double bytes, char out[CTL_NUMBER_MAX]);

/** ctl_time_text - nanoseconds with a unit: "-" for 0, "850 ns", "12.3 us", "4.56 ms", "1.20 s" */
const char *ctl_time_text(double ns, char out[CTL_NUMBER_MAX]);

#endif
