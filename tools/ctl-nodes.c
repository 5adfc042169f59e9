/* SPDX-License-Identifier: MIT */
/* `ringblkctl nodes`: the graph of block nodes. */
#include <langinfo.h>
#include <string.h>

#include "tools/ctl-json.h"
#include "tools/ctl-tree.h"
#include "tools/ctl.h"

static int run_nodes(struct ctl *ctl, int argc, char **argv)
{
    struct json_object *nodes = NULL, *exports = NULL;
    struct json_object *flat = json_object_new_object();
    bool lines = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    autoerr err = { 0 };
    int status = CTL_OK;

    (void)argv;
    json_object_object_add(flat, "flat", json_object_new_boolean(true));
    if (argc)
        status = ctl_usage(&ctl_nodes_command);
    else if (ctl_open(ctl, &err) < 0 ||
             ctl_query(ctl, "query-named-block-nodes", flat, &nodes, &err) < 0 ||
             (!ctl->json && ctl_query(ctl, "query-block-exports", NULL, &exports, &err) < 0))
        status = ctl_fail(&err);
    else if (ctl->json)
        status = ctl_print(nodes);
    else if (ctl_tree_print(nodes, exports, lines, stdout) < 0)
        status = CTL_USAGE;
    json_object_put(flat);
    json_object_put(nodes);
    json_object_put(exports);
    return status;
}

const struct ctl_command ctl_nodes_command = { "nodes", "", "draw the graph of block nodes",
                                               run_nodes };
