/* SPDX-License-Identifier: MIT */
/*
 * The rows of the common options, and how a child comes by its own.
 */
#include "block/options.h"

#include <errno.h>

#include "block/driver.h"

static const char *const discard_names[] = { "ignore", "unmap", NULL };
static const char *const discard_help[] = { "Discard requests change nothing",
                                            "Discard requests deallocate", NULL };
ROW_ENUM_TYPE(row_blockdev_discard, "BlockdevDiscardOptions", discard_names,
              .value_help = discard_help, .since = "0.1",
              .help = "What becomes of discard requests");

static const char *const detect_zeroes_names[] = { "off", "on", "unmap", NULL };
static const char *const detect_zeroes_help[] = {
    "Zeroes are written like other bytes", "Writes of zeroes become zero requests",
    "They may deallocate as well, which needs discard=unmap", NULL
};
ROW_ENUM_TYPE(row_detect_zeroes, "BlockdevDetectZeroesOptions", detect_zeroes_names,
              .value_help = detect_zeroes_help, .since = "0.1",
              .help = "Whether writes are searched for zeroes");

static const char *const on_off_auto_names[] = { "auto", "on", "off", NULL };
ROW_ENUM_TYPE(row_on_off_auto, "OnOffAuto", on_off_auto_names, .since = "0.1",
              .help = "Yes, no, or as the daemon sees fit");

static const struct row cache_rows[] = {
    ROW_HAS(struct cache_options, "direct", direct, row_bool,
            .help = "Go around the host's page cache (O_DIRECT); default false"),
    ROW_HAS(struct cache_options, "no-flush", no_flush, row_bool,
            .help = "Ignore flush requests: data is lost when the host crashes; default false"),
    ROW_END
};
ROW_STRUCT_TYPE(row_cache_options, "BlockdevCacheOptions", struct cache_options, cache_rows,
                .since = "0.1", .help = "How a node caches");

static const struct row common_rows[] = {
    ROW_REQ(struct blockdev_options, "driver", driver, row_blockdev_driver,
            .help = "The driver that serves the node"),
    ROW_OPT(struct blockdev_options, "node-name", node_name, row_str,
            .help = "The node's name; required for a node that stands for itself"),
    ROW_HAS(struct blockdev_options, "discard", discard, row_blockdev_discard,
            .help = "What becomes of discard requests; default ignore"),
    ROW_OPT(struct blockdev_options, "cache", cache, row_cache_options,
            .help = "How the node caches"),
    ROW_HAS(struct blockdev_options, "read-only", read_only, row_bool,
            .help = "Refuse writes; default false"),
    ROW_HAS(struct blockdev_options, "auto-read-only", auto_read_only, row_bool,
            .help = "Open read-only when that is all that can be had or needed; default false"),
    ROW_HAS(struct blockdev_options, "force-share", force_share, row_bool,
            .help = "Let others write the image meanwhile; needs read-only; default false"),
    ROW_HAS(struct blockdev_options, "detect-zeroes", detect_zeroes, row_detect_zeroes,
            .help = "Whether writes are searched for zeroes; default off"),
    ROW_END
};

/* Values and branches come from drivers_register(). */
struct row_type row_blockdev_driver = { .kind = ROW_ENUM,
                                        .name = "BlockdevDriver",
                                        .size = sizeof(int),
                                        .since = "0.1",
                                        .help = "The drivers that this build has" };

struct row_type row_blockdev_options = { .kind = ROW_UNION,
                                         .name = "BlockdevOptions",
                                         .size = sizeof(struct blockdev_options),
                                         .rows = common_rows,
                                         .tag = "driver",
                                         .branch_offset =
                                             offsetof(struct blockdev_options, driver_options),
                                         .since = "0.1",
                                         .help = "What makes a node" };

static const struct row_type *const ref_choices[] = { &row_blockdev_options, &row_str, NULL };
ROW_ALTERNATE_TYPE(row_blockdev_ref, "BlockdevRef", ref_choices, .since = "0.1",
                   .help = "A node's definition, or the name of one that exists");

static const struct row_type *const ref_or_null_choices[] = { &row_blockdev_options, &row_str,
                                                              &row_null, NULL };
ROW_ALTERNATE_TYPE(row_blockdev_ref_or_null, "BlockdevRefOrNull", ref_or_null_choices,
                   .since = "0.1",
                   .help = "A node's definition, the name of one that exists, or null for none");

static const struct row generic_format_rows[] = { ROW_REQ(struct generic_format_options, "file",
                                                          file, row_blockdev_ref,
                                                          .help = "Where the image is stored"),
                                                  ROW_END };
ROW_STRUCT_TYPE(row_generic_format_options, "BlockdevOptionsGenericFormat",
                struct generic_format_options, generic_format_rows, .since = "0.1",
                .help = "Formats that have nothing but their storage to tell");

static const struct row generic_cow_format_rows[] = {
    ROW_BASE(struct generic_cow_format_options, base, row_generic_format_options),
    ROW_OPT(struct generic_cow_format_options, "backing", backing, row_blockdev_ref_or_null,
            .help = "What lies under the image; default: what its header names; null or an empty "
                    "string: nothing"),
    ROW_END
};
ROW_STRUCT_TYPE(row_generic_cow_format_options, "BlockdevOptionsGenericCOWFormat",
                struct generic_cow_format_options, generic_cow_format_rows, .since = "0.1",
                .help = "Formats whose images may lie over others");

static void inherit(const struct node_options *parent, enum edge_role role,
                    struct node_options *out)
{
    out->direct = parent->direct;
    out->no_flush = parent->no_flush;
    out->force_share = parent->force_share;
    out->guessed = parent->guessed;
    out->read_only = role == ROLE_BACKING || parent->read_only;
    out->auto_read_only = role != ROLE_BACKING && parent->auto_read_only;
    /* Formats send the discards that they mean; whether a client's ones count was decided above. */
    if (role == ROLE_FILE || role == ROLE_DATA)
        out->discard = DISCARD_UNMAP;
}

int options_resolve(const struct blockdev_options *said, const struct node_options *parent,
                    enum edge_role role, struct node_options *out, struct err *err)
{
    *out = (struct node_options){ 0 };
    if (parent)
        inherit(parent, role, out);
    if (said->guessed)
        out->guessed = true;
    if (said->has_discard)
        out->discard = said->discard;
    if (said->cache && said->cache->has_direct)
        out->direct = said->cache->direct;
    if (said->cache && said->cache->has_no_flush)
        out->no_flush = said->cache->no_flush;
    if (said->has_read_only)
        out->read_only = said->read_only;
    if (said->has_auto_read_only)
        out->auto_read_only = said->auto_read_only;
    if (said->has_force_share)
        out->force_share = said->force_share;
    if (said->has_detect_zeroes)
        out->detect_zeroes = said->detect_zeroes;

    if (out->detect_zeroes == DETECT_ZEROES_UNMAP && out->discard != DISCARD_UNMAP)
        return err_set(err, -EINVAL,
                       "setting detect-zeroes to unmap is not allowed without setting discard "
                       "operation to unmap");
    if (out->force_share && !out->read_only)
        return err_set(err, -EINVAL, "force-share=on can only be used with read-only images");
    return 0;
}
