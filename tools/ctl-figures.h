/* SPDX-License-Identifier: MIT */
/* What query-blockstats returned as a table: totals, or rates between two answers. */
#ifndef TOOLS_CTL_FIGURES_H
#define TOOLS_CTL_FIGURES_H

#include <json-c/json.h>
#include <stdio.h>

/** ctl_figures_print - a row for each device or node
 * @before: an answer of @seconds ago, then what is printed are rates since, and what was not there then
 *          began with zero; NULL: totals
 * @key: the member that names a row: "device" or "node-name"
 * Columns with nothing in them are left out.
 * Return: 0; -ENOMEM.
 */
int ctl_figures_print(struct json_object *before, struct json_object *after, double seconds,
                      const char *key, FILE *out);

#endif
