/* SPDX-License-Identifier: MIT */
/* An image whose tables say what cannot be: telling those who watch. */
#ifndef BLOCK_CORRUPTION_H
#define BLOCK_CORRUPTION_H

#include "block/event.h"
#include "block/types.h"

/* Data of BLOCK_IMAGE_CORRUPTED. */
struct image_corrupted_event {
    char *device; /* the oldest export that leads to the node, or "" */
    char *node_name;
    char *msg; /* for people */
    bool has_offset, has_size;
    int64_t offset, size; /* bytes, in the image's file */
    bool fatal;           /* nothing will be written to the image any more */
};

extern const struct event_type event_block_image_corrupted;

/** corruption_report - send BLOCK_IMAGE_CORRUPTED and write it to the log; any ring, never fails
 * @offset: where in the image's file, -1: nowhere in particular; @size: bytes, -1: unknown
 * The caller sees to it that an image is reported once only.
 */
void corruption_report(const struct node *n, bool fatal, int64_t offset, int64_t size,
                       const char *msg);

#endif
