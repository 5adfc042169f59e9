/* SPDX-License-Identifier: MIT */
/* The graph of nodes as a tree for people. */
#ifndef TOOLS_CTL_TREE_H
#define TOOLS_CTL_TREE_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>

/** ctl_tree_print - each node once, under the first of its parents, with what is said of it
 * @nodes: what query-named-block-nodes returned; @exports: what query-block-exports did
 * @lines: draw with lines (the locale's encoding must be UTF-8), else with ASCII characters
 * A child that stands elsewhere already, or that lies too deep to be drawn here, is referred to.  Nodes without
 * parents come first, in the server's order.
 * Return: 0; -ENOMEM.
 */
int ctl_tree_print(struct json_object *nodes, struct json_object *exports, bool lines, FILE *out);

#endif
