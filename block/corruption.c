/* SPDX-License-Identifier: MIT */
/*
 * BLOCK_IMAGE_CORRUPTED.  Which export leads to the node is found out on the
 * control ring, where the graph may be walked; by then the node may be gone.
 */
#include "block/corruption.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "block/root.h"
#include "uring/ring.h"

static const struct row image_corrupted_rows[] = {
    ROW_REQ(struct image_corrupted_event, "device", device, row_str,
            .help = "The oldest export that leads to the image; empty when there is none"),
    ROW_OPT(struct image_corrupted_event, "node-name", node_name, row_str,
            .help = "The image's node"),
    ROW_REQ(struct image_corrupted_event, "msg", msg, row_str,
            .help = "What was found, for people to read"),
    ROW_HAS(struct image_corrupted_event, "offset", offset, row_int,
            .help = "Where in the image's file, in bytes"),
    ROW_HAS(struct image_corrupted_event, "size", size, row_int,
            .help = "How long the access was, in bytes"),
    ROW_REQ(struct image_corrupted_event, "fatal", fatal, row_bool,
            .help = "Whether the image is not written to any more"),
    ROW_END
};
static ROW_STRUCT_TYPE(image_corrupted_data, "EventBlockImageCorrupted",
                       struct image_corrupted_event, image_corrupted_rows, .since = "0.1",
                       .help = "Data of BLOCK_IMAGE_CORRUPTED");

const struct event_type event_block_image_corrupted = {
    .name = "BLOCK_IMAGE_CORRUPTED",
    .data = &image_corrupted_data,
    .since = "0.1",
    .help = "An image's own tables contradict themselves; sent once for each image",
};

/* A report on its way to the control ring. */
struct report {
    struct work work;
    struct image_corrupted_event event;
};

static void report_free(struct report *r)
{
    free(r->event.node_name);
    free(r->event.msg);
    free(r);
}

static const char *oldest_export(const struct node *n)
{
    for (struct root *r = root_first(); r; r = root_next(r))
        if (r->kind == ROOT_EXPORT && node_under_root(n, r))
            return r->name;
    return "";
}

static void deliver(struct work *work)
{
    struct report *r = container_of(work, struct report, work);
    const struct node *n = node_find(r->event.node_name);

    r->event.device = (char *)(n ? oldest_export(n) : "");
    event_send(&event_block_image_corrupted, &r->event);
    report_free(r);
}

void corruption_report(const struct node *n, bool fatal, int64_t offset, int64_t size,
                       const char *msg)
{
    struct report *r = calloc(1, sizeof(*r));

    log_error("node '%s': the image is corrupt: %s%s", node_label(n), msg,
              fatal ? "; it is not written to any more" : "");
    if (!r || !(r->event.node_name = strdup(n->name)) || !(r->event.msg = strdup(msg))) {
        log_error("event BLOCK_IMAGE_CORRUPTED is lost: out of memory");
        if (r)
            report_free(r);
        return;
    }
    r->event.fatal = fatal;
    r->event.has_offset = offset >= 0;
    r->event.offset = offset;
    r->event.has_size = size >= 0;
    r->event.size = size;
    r->work.fn = deliver;
    ring_post(ring_control(), &r->work);
}
