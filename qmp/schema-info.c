/* SPDX-License-Identifier: MIT */
/*
 * The rows of SchemaInfo, with which query-qmp-schema describes itself.  The
 * answer is put together as JSON right away (schema.c), so these rows have no
 * C types; a test holds the answer against them.
 */
#include "qmp/schema-info.h"

#define REQUIRED(name_, type_, help_, ...)                                                         \
    {                                                                                              \
        .name = name_, .type = &(type_), .required = true, .help = help_, __VA_ARGS__              \
    }
#define OPTIONAL(name_, type_, help_)                                                              \
    {                                                                                              \
        .name = name_, .type = &(type_), .help = help_                                             \
    }

/* ---- entities of each kind ---- */

static const char *const json_types[] = { "string", "number", "int",   "boolean", "null",
                                          "object", "array",  "value", NULL };
static ROW_ENUM_TYPE(
    row_json_type, "JSONType", json_types,
    .help = "Kinds of JSON values; int is a number without a fraction, value is any of them");

static const struct row builtin_rows[] = {
    REQUIRED("json-type", row_json_type, "The kind of JSON value"),
    ROW_END,
};
static const struct row_type row_builtin = { .kind = ROW_STRUCT,
                                             .name = "SchemaInfoBuiltin",
                                             .rows = builtin_rows,
                                             .help = "A type that is built in" };

static const struct row enum_member_rows[] = {
    REQUIRED("name", row_str, "The value"),
    OPTIONAL("features", row_str_list, "What is special about it"),
    ROW_END,
};
static const struct row_type row_enum_member = { .kind = ROW_STRUCT,
                                                 .name = "SchemaInfoEnumMember",
                                                 .rows = enum_member_rows,
                                                 .help = "One value of an enumeration" };
static ROW_LIST_TYPE(row_enum_members, row_enum_member);
static const struct row enum_rows[] = {
    REQUIRED("members", row_enum_members, "Its values"),
    REQUIRED("values", row_str_list, "The same as plain strings", .deprecated = true),
    ROW_END,
};
static const struct row_type row_enum = { .kind = ROW_STRUCT,
                                          .name = "SchemaInfoEnum",
                                          .rows = enum_rows,
                                          .help = "An enumeration: JSON strings" };

static const struct row array_rows[] = {
    REQUIRED("element-type", row_str, "Name of the type of its elements"),
    ROW_END,
};
static const struct row_type row_array = {
    .kind = ROW_STRUCT, .name = "SchemaInfoArray", .rows = array_rows, .help = "A list"
};

static const struct row member_rows[] = {
    REQUIRED("name", row_str, "The member"),
    REQUIRED("type", row_str, "Name of its type"),
    OPTIONAL("default", row_any, "There, and null, when the member is optional"),
    OPTIONAL("features", row_str_list, "What is special about it"),
    ROW_END,
};
static const struct row_type row_member = { .kind = ROW_STRUCT,
                                            .name = "SchemaInfoObjectMember",
                                            .rows = member_rows,
                                            .help = "One member of an object" };
static ROW_LIST_TYPE(row_members, row_member);
static const struct row variant_rows[] = {
    REQUIRED("case", row_str, "A value of the tag"),
    REQUIRED("type", row_str, "Name of the object type whose members are there too then"),
    ROW_END,
};
static const struct row_type row_variant = {
    .kind = ROW_STRUCT,
    .name = "SchemaInfoObjectVariant",
    .rows = variant_rows,
    .help = "Further members of an object, for one value of its tag"
};
static ROW_LIST_TYPE(row_variants, row_variant);
static const struct row object_rows[] = {
    REQUIRED("members", row_members, "Those that are there always"),
    OPTIONAL("tag", row_str, "The member whose value tells the variant"),
    OPTIONAL("variants", row_variants, "Further members by the value of the tag"),
    ROW_END,
};
static const struct row_type row_object = {
    .kind = ROW_STRUCT, .name = "SchemaInfoObject", .rows = object_rows, .help = "An object"
};

static const struct row alternative_rows[] = {
    REQUIRED("type", row_str, "Name of the type"),
    ROW_END,
};
static const struct row_type row_alternative = { .kind = ROW_STRUCT,
                                                 .name = "SchemaInfoAlternateMember",
                                                 .rows = alternative_rows,
                                                 .help = "One possibility" };
static ROW_LIST_TYPE(row_alternatives, row_alternative);
static const struct row alternate_rows[] = {
    REQUIRED("members", row_alternatives,
             "The types that it may have, of different kinds of JSON values"),
    ROW_END,
};
static const struct row_type row_alternate = { .kind = ROW_STRUCT,
                                               .name = "SchemaInfoAlternate",
                                               .rows = alternate_rows,
                                               .help = "A value of one of several types" };

static const struct row command_rows[] = {
    REQUIRED("arg-type", row_str, "Name of the object type of its arguments"),
    REQUIRED("ret-type", row_str, "Name of the type of what it returns"),
    OPTIONAL("allow-oob", row_bool, "It may run out of band; default: false"),
    ROW_END,
};
static const struct row_type row_command = {
    .kind = ROW_STRUCT, .name = "SchemaInfoCommand", .rows = command_rows, .help = "A command"
};

static const struct row event_rows[] = {
    REQUIRED("arg-type", row_str, "Name of the object type of its data"),
    ROW_END,
};
static const struct row_type row_event = {
    .kind = ROW_STRUCT, .name = "SchemaInfoEvent", .rows = event_rows, .help = "An event"
};

/* ---- all ---- */

enum meta_type {
    META_BUILTIN,
    META_ENUM,
    META_ARRAY,
    META_OBJECT,
    META_ALTERNATE,
    META_COMMAND,
    META_EVENT
};

static const char *const meta_types[] = { "builtin",   "enum",    "array", "object",
                                          "alternate", "command", "event", NULL };
static ROW_ENUM_TYPE(row_meta_type, "SchemaMetaType", meta_types, .help = "Kinds of entities");

static const struct row info_rows[] = {
    REQUIRED("name", row_str, "Its name; of types it means nothing and may change"),
    REQUIRED("meta-type", row_meta_type, "What it is"),
    OPTIONAL("features", row_str_list,
             "What is special about it: deprecated, unstable, or what it can do"),
    ROW_END,
};
static const struct row_type *const info_branches[] = {
    [META_BUILTIN] = &row_builtin, [META_ENUM] = &row_enum,           [META_ARRAY] = &row_array,
    [META_OBJECT] = &row_object,   [META_ALTERNATE] = &row_alternate, [META_COMMAND] = &row_command,
    [META_EVENT] = &row_event,
};
static const struct row_type row_info = { .kind = ROW_UNION,
                                          .name = "SchemaInfo",
                                          .rows = info_rows,
                                          .tag = "meta-type",
                                          .branches = info_branches,
                                          .help = "A command, an event or a type" };

ROW_LIST_TYPE(row_schema_infos, row_info);
