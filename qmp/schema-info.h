/* SPDX-License-Identifier: MIT */
/* What the answer to query-qmp-schema looks like. */
#ifndef QMP_SCHEMA_INFO_H
#define QMP_SCHEMA_INFO_H

#include "base/row.h"

/* A list of SchemaInfo.  It only describes: there are no C values of it, see QMP_PRINTED. */
extern const struct row_type row_schema_infos;

#endif
