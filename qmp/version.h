/* SPDX-License-Identifier: MIT */
/*
 * The version that clients see.  They branch on the numbers of QEMU's release,
 * to choose between older and newer forms of a command, so we answer with the
 * release whose forms we take (QMP_MAJOR ...); our own version is in "package".
 */
#ifndef QMP_VERSION_H
#define QMP_VERSION_H

struct json_object;

enum { QMP_MAJOR = 10, QMP_MINOR = 0, QMP_MICRO = 0 };

/** qmp_version - a new VersionInfo, as query-version returns it and the greeting has it */
struct json_object *qmp_version(void);

#endif
