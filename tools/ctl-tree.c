/* SPDX-License-Identifier: MIT */
/*
 * The graph of nodes as a tree for people.  What the server sent may be any
 * graph, also one with cycles: every node is drawn exactly once.
 */
#include "tools/ctl-tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/hash.h"
#include "tools/ctl-json.h"
#include "tools/ctl-table.h"

enum { COLUMNS = 6, DEPTH_MAX = 64 /* drawn below one another; chains go on at the left edge */ };

struct tree_node {
    struct json_object *info;
    const char *name; /* info's */
    char *users;      /* "export a, export b"; owned, NULL: nobody but its parents */
    bool has_parent, drawn;
};

struct tree {
    struct tree_node *nodes;
    size_t count;
    struct hash by_name; /* struct tree_node */
    const char *const *strokes;
    struct ctl_table table;
};

/* Below another child; below the last one; before a child; before the last one. */
static const char *const line_strokes[] = { "\xe2\x94\x82  ", "   ", "\xe2\x94\x9c\xe2\x94\x80 ",
                                            "\xe2\x94\x94\xe2\x94\x80 " };
static const char *const ascii_strokes[] = { "|  ", "   ", "|- ", "`- " };

/* The node that a child or an export names. */
static struct tree_node *node_of(struct tree *t, struct json_object *o)
{
    const char *name = ctl_string(CTL_GET(o, "node-name"));

    return name ? hash_get(&t->by_name, name) : NULL;
}

/* What would open the image again; a node with children has it from them. */
static const char *file_of(const struct tree_node *n)
{
    const char *file = ctl_string(CTL_GET(n->info, "file"));

    if (!file || strncmp(file, "json:", 5) == 0 || ctl_length(CTL_GET(n->info, "children")))
        return "";
    return file;
}

static void draw_row(struct tree *t, const char *before, const char *role, struct tree_node *n)
{
    struct json_object *size = CTL_GET(n->info, "image", "virtual-size");
    struct json_object *ro = CTL_GET(n->info, "ro");
    char text[CTL_NUMBER_MAX];

    ctl_table_addf(&t->table, "%s%s%s%s", before, role, *role ? ": " : "", n->name);
    ctl_table_add(&t->table, ctl_string(CTL_GET(n->info, "drv")));
    ctl_table_add(&t->table, size ? ctl_size_text(json_object_get_double(size), text) : "");
    ctl_table_add(&t->table, !ro ? "" : json_object_get_boolean(ro) ? "ro" : "rw");
    ctl_table_add(&t->table, n->users);
    ctl_table_add(&t->table, file_of(n));
}

static void draw_reference(struct tree *t, const char *before, const char *role, const char *name,
                           const char *where)
{
    ctl_table_addf(&t->table, "%s%s: %s%s", before, role, name, where);
    for (unsigned i = 1; i < COLUMNS; i++)
        ctl_table_add(&t->table, "");
}

static void draw_below(struct tree *t, const char *indent, struct tree_node *n, unsigned depth);

static void draw_child(struct tree *t, const char *indent, struct json_object *child, bool last,
                       unsigned depth)
{
    const char *role = ctl_string(CTL_GET(child, "child"));
    struct tree_node *n = node_of(t, child);
    autofree char *before = NULL, *below = NULL;

    if (asprintf(&before, "%s%s", indent, t->strokes[2 + last]) < 0 ||
        asprintf(&below, "%s%s", indent, t->strokes[last]) < 0) {
        t->table.failed = true;
        return;
    }
    role = role ? role : "?";
    if (!n) { /* it went between two queries, or is a node that is not told of */
        const char *name = ctl_string(CTL_GET(child, "node-name"));
        draw_reference(t, before, role, name ? name : "?", "");
    } else if (n->drawn || depth == DEPTH_MAX) {
        draw_reference(t, before, role, n->name, n->drawn ? " (above)" : " (below)");
    } else {
        n->drawn = true;
        draw_row(t, before, role, n);
        draw_below(t, below, n, depth);
    }
}

static void draw_below(struct tree *t, const char *indent, struct tree_node *n, unsigned depth)
{
    struct json_object *children = CTL_GET(n->info, "children");
    size_t count = ctl_length(children);

    for (size_t i = 0; i < count; i++)
        draw_child(t, indent, ctl_at(children, i), i + 1 == count, depth + 1);
}

static void draw_roots(struct tree *t, bool also_children)
{
    for (size_t i = 0; i < t->count; i++) {
        struct tree_node *n = &t->nodes[i];

        if (n->drawn || (n->has_parent && !also_children))
            continue;
        n->drawn = true;
        draw_row(t, "", "", n);
        draw_below(t, "", n, 0);
    }
}

static int gather(struct tree *t, struct json_object *nodes)
{
    size_t count = ctl_length(nodes);

    t->nodes = calloc(count + 1, sizeof(*t->nodes));
    if (!t->nodes)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct json_object *info = ctl_at(nodes, i);
        const char *name = ctl_string(CTL_GET(info, "node-name"));
        struct tree_node *n = &t->nodes[t->count];
        int r;

        if (!name || hash_get(&t->by_name, name))
            continue;
        *n = (struct tree_node){ .info = info, .name = name };
        r = hash_put(&t->by_name, name, n);
        if (r < 0)
            return r;
        t->count++;
    }
    for (size_t i = 0; i < t->count; i++) {
        struct json_object *children = CTL_GET(t->nodes[i].info, "children");

        for (size_t k = 0; k < ctl_length(children); k++) {
            struct tree_node *n = node_of(t, ctl_at(children, k));
            if (n)
                n->has_parent = true;
        }
    }
    return 0;
}

static int gather_users(struct tree *t, struct json_object *exports)
{
    for (size_t i = 0; i < ctl_length(exports); i++) {
        struct json_object *export = ctl_at(exports, i);
        const char *id = ctl_string(CTL_GET(export, "id"));
        struct tree_node *n = node_of(t, export);
        char *more;

        if (!n || !id)
            continue;
        if (asprintf(&more, "%s%sexport %s", n->users ? n->users : "", n->users ? ", " : "", id) <
            0)
            return -ENOMEM;
        free(n->users);
        n->users = more;
    }
    return 0;
}

int ctl_tree_print(struct json_object *nodes, struct json_object *exports, bool lines, FILE *out)
{
    static const char *const head[COLUMNS] = {
        "NODE", "DRIVER", "SIZE", "ACCESS", "USED-BY", "FILE"
    };
    static const bool right[COLUMNS] = { [2] = true };
    struct tree t = { .strokes = lines ? line_strokes : ascii_strokes,
                      .table = { .columns = COLUMNS, .right = right } };
    int r = gather(&t, nodes);

    for (unsigned i = 0; i < COLUMNS; i++)
        ctl_table_add(&t.table, head[i]);
    if (r == 0)
        r = gather_users(&t, exports);
    draw_roots(&t, false);
    draw_roots(&t, true);
    if (r == 0)
        r = ctl_table_print(&t.table, out);
    ctl_table_clear(&t.table);
    for (size_t i = 0; i < t.count; i++)
        free(t.nodes[i].users);
    hash_free(&t.by_name);
    free(t.nodes);
    return r;
}
