/* SPDX-License-Identifier: MIT */
/*
 * A small schema that has every kind of row, for the unit test of rows and for
 * their fuzzer.  It looks like the block options on purpose: the messages are
 * compared with those that QEMU gives for the same text.
 */
#ifndef TESTS_UNIT_ROW_SAMPLE_H
#define TESTS_UNIT_ROW_SAMPLE_H

#include <stdint.h>

#include "base/row.h"

extern const struct row_type sample_node, sample_ref, sample_ref_or_null;

struct sample_address {
    char *host, *port;
    uint16_t to;
    bool has_to;
};

static const struct row sample_address_rows[] = {
    ROW_REQ(struct sample_address, "host", host, row_str, .help = "The name of the machine"),
    ROW_REQ(struct sample_address, "port", port, row_str),
    ROW_HAS(struct sample_address, "to", to, row_uint16),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_inet, "InetAddress", struct sample_address, sample_address_rows);

struct sample_path {
    char *path;
};

static const struct row sample_path_rows[] = {
    ROW_REQ(struct sample_path, "path", path, row_str),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_unix, "UnixAddress", struct sample_path, sample_path_rows);

static const char *const sample_server_values[] = { "inet", "unix", NULL };
static ROW_ENUM_TYPE(sample_server_type, "SocketType", sample_server_values);
static const struct row_type *const sample_server_branches[] = { &sample_inet, &sample_unix };

struct sample_server {
    int type;
    void *u;
};

static const struct row sample_server_rows[] = {
    ROW_REQ(struct sample_server, "type", type, sample_server_type),
    ROW_END,
};
static ROW_UNION_TYPE(sample_server, "SocketAddress", struct sample_server, sample_server_rows,
                      "type", u, sample_server_branches);

/* --- the branches of a node ------------------------------------------------------- */

struct sample_null {
    int64_t size;
    bool has_size;
    uint64_t latency;
    bool has_latency;
    bool read_zeroes;
    uint64_t chunk;
    double ratio;
    int8_t level;
    bool has_level;
    int mode;
};

static const char *const sample_mode_values[] = { "off", "", "on", "unmap", NULL };
static ROW_ENUM_TYPE(sample_mode, "Mode", sample_mode_values);

static const struct row sample_null_rows[] = {
    ROW_HAS(struct sample_null, "size", size, row_int, .help = "Bytes"),
    ROW_HAS(struct sample_null, "latency-ns", latency, row_uint64),
    ROW_OPT(struct sample_null, "read-zeroes", read_zeroes, row_bool, .fallback = "on"),
    ROW_OPT(struct sample_null, "chunk", chunk, row_size, .fallback = "64K"),
    ROW_OPT(struct sample_null, "ratio", ratio, row_number, .fallback = "0.5"),
    ROW_HAS(struct sample_null, "level", level, row_int8),
    ROW_OPT(struct sample_null, "mode", mode, sample_mode, .fallback = "unmap", .deprecated = true),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_null, "NullOptions", struct sample_null, sample_null_rows);

struct sample_format {
    struct row_choice file;
};

static const struct row sample_format_rows[] = {
    ROW_REQ(struct sample_format, "file", file, sample_ref),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_format, "FormatOptions", struct sample_format, sample_format_rows);

struct sample_flags {
    int template;
    bool main_header, has_main_header;
};

static const char *const sample_template_values[] = { "none", "cached", "all", NULL };
static ROW_ENUM_TYPE(sample_template, "OverlapMode", sample_template_values);
static const struct row sample_flags_rows[] = {
    ROW_OPT(struct sample_flags, "template", template, sample_template),
    ROW_HAS(struct sample_flags, "main-header", main_header, row_bool),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_flags, "OverlapFlags", struct sample_flags, sample_flags_rows);
static const struct row_type *const sample_overlap_choices[] = { &sample_template, &sample_flags,
                                                                 NULL };
static ROW_ALTERNATE_TYPE(sample_overlap, "OverlapChecks", sample_overlap_choices);

struct sample_qcow2 {
    struct sample_format base;
    struct row_choice backing, overlap;
};

static const struct row sample_qcow2_rows[] = {
    ROW_BASE(struct sample_qcow2, base, sample_format),
    ROW_OPT(struct sample_qcow2, "backing", backing, sample_ref_or_null),
    ROW_OPT(struct sample_qcow2, "overlap-check", overlap, sample_overlap),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_qcow2, "Qcow2Options", struct sample_qcow2, sample_qcow2_rows);

static ROW_LIST_TYPE(sample_refs, sample_ref);
static ROW_LIST_TYPE(sample_servers, sample_server);

struct sample_quorum {
    int64_t threshold;
    struct row_list children, servers, ints, words;
};

static const struct row sample_quorum_rows[] = {
    ROW_REQ(struct sample_quorum, "vote-threshold", threshold, row_int),
    ROW_REQ(struct sample_quorum, "children", children, sample_refs),
    ROW_OPT(struct sample_quorum, "servers", servers, sample_servers),
    ROW_OPT(struct sample_quorum, "ints", ints, row_int_list),
    ROW_OPT(struct sample_quorum, "words", words, row_str_list),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_quorum, "QuorumOptions", struct sample_quorum, sample_quorum_rows);

struct sample_nbd {
    struct sample_server server;
    struct sample_server *other;
    char *name;
    uint32_t delay;
    bool has_delay;
    struct json_object *any;
    bool has_nothing;
};

static const struct row sample_nbd_rows[] = {
    ROW_REQ(struct sample_nbd, "server", server, sample_server),
    ROW_OPT(struct sample_nbd, "other", other, sample_server),
    ROW_OPT(struct sample_nbd, "export", name, row_str, .fallback = "default"),
    ROW_HAS(struct sample_nbd, "reconnect-delay", delay, row_uint32),
    ROW_OPT(struct sample_nbd, "any", any, row_any),
    { .name = "nothing", .type = &row_null, .has = 1 + offsetof(struct sample_nbd, has_nothing) },
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_nbd, "NbdOptions", struct sample_nbd, sample_nbd_rows);

/* --- a node ----------------------------------------------------------------------- */

struct sample_common {
    char *name;
    bool read_only, has_read_only;
};

static const struct row sample_common_rows[] = {
    ROW_OPT(struct sample_common, "node-name", name, row_str),
    ROW_HAS(struct sample_common, "read-only", read_only, row_bool),
    ROW_END,
};
static ROW_STRUCT_TYPE(sample_common, "NodeCommon", struct sample_common, sample_common_rows);

struct sample_node {
    int driver;
    struct sample_common common;
    void *u;
};

enum { SAMPLE_NULL, SAMPLE_RAW, SAMPLE_QCOW2, SAMPLE_QUORUM, SAMPLE_NBD, SAMPLE_PLAIN };

static const char *const sample_drivers[] = { "null-co", "raw",   "qcow2", "quorum",
                                              "nbd",     "plain", NULL };
static ROW_ENUM_TYPE(sample_driver, "Driver", sample_drivers);
static const struct row_type *const sample_branches[] = { &sample_null,  &sample_format,
                                                          &sample_qcow2, &sample_quorum,
                                                          &sample_nbd,   NULL };
static const struct row sample_node_rows[] = {
    ROW_REQ(struct sample_node, "driver", driver, sample_driver),
    ROW_BASE(struct sample_node, common, sample_common),
    ROW_END,
};
ROW_UNION_TYPE(sample_node, "BlockdevOptions", struct sample_node, sample_node_rows, "driver", u,
               sample_branches);

static const struct row_type *const sample_ref_choices[] = { &sample_node, &row_str, NULL };
ROW_ALTERNATE_TYPE(sample_ref, "BlockdevRef", sample_ref_choices);
static const struct row_type *const sample_ref_or_null_choices[] = { &sample_node, &row_str,
                                                                     &row_null, NULL };
ROW_ALTERNATE_TYPE(sample_ref_or_null, "BlockdevRefOrNull", sample_ref_or_null_choices);

#endif
