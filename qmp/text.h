/* SPDX-License-Identifier: MIT */
/* JSON as QMP clients are used to see it. */
#ifndef QMP_TEXT_H
#define QMP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

struct json_object;

/** qmp_text - ASCII text of @value ended by CRLF; malloc'd, or NULL when out of memory
 * One line with a space after each comma and colon, as QEMU writes it (scripts look for
 * '"return": {}'); @pretty: a member per line, for people.
 */
char *qmp_text(struct json_object *value, bool pretty, size_t *len);

#endif
