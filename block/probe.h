/* SPDX-License-Identifier: MIT */
/*
 * Guessing a format from the first 2 KiB: the only place that does, and only
 * where a person left the format out.  Also the guard that keeps a guest from
 * turning a guessed raw image into something else.
 */
#ifndef BLOCK_PROBE_H
#define BLOCK_PROBE_H

#include "block/types.h"

/** probe_format - which format do these bytes look like?  The driver's name ("qcow2", also of formats that
 * this build lacks), or "raw".  @len <= 2048 bytes are looked at.
 */
const char *probe_format(const void *bytes, size_t len);

/** probe_write_allowed - may a write of @v at @offset go to a guessed raw image, given its present first
 * 2 KiB?  False when the result would carry a known signature.
 */
bool probe_write_allowed(const uint8_t *present, uint64_t offset, const struct span *v,
                         unsigned count);

#endif
