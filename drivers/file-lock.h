/* SPDX-License-Identifier: MIT */
/*
 * Locks on image files: open-file-description locks on single bytes, one for
 * each permission that is used (100 + its number) and one for each that others
 * may not use (200 + its number), the same bytes that QEMU's programs lock.
 */
#ifndef DRIVERS_FILE_LOCK_H
#define DRIVERS_FILE_LOCK_H

#include "drivers/file.h"

/** file_lock_prepare - lock what @perm and @unshared (enum permission) add to what is held, and check that
 * nobody else's locks forbid it; blocks on network file systems
 * On failure the locks are as before and the error names the permission and the file.
 */
int file_lock_prepare(struct file *f, unsigned perm, unsigned unshared, struct err *err);

/** file_lock_settle - hold just these: unlocks what is too much; after COMMIT and ABORT */
void file_lock_settle(struct file *f, unsigned perm, unsigned unshared);

/** file_lock_copy - take all that @f holds on another open file of the same file; 0 or negative errno */
int file_lock_copy(const struct file *f, int fd, unsigned perm, unsigned unshared);

/** file_lock_drop - unlock all on a descriptor that is about to be closed: one that was passed to us lives
 * on elsewhere, and its locks with it
 */
void file_lock_drop(const struct file *f, int fd);

#endif
