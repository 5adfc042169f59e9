/* SPDX-License-Identifier: MIT */
/* The rule by which sockets are found when nothing else is said. */
#include "base/runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

char *runtime_folder(bool make, struct err *err)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    autofree char *folder = NULL;
    int n;

    if (geteuid() == 0) {
        n = asprintf(&folder, "/run/ringblk");
    } else if (base && *base) {
        n = asprintf(&folder, "%s/ringblk", base);
    } else {
        err_set(err, -ENOENT, "XDG_RUNTIME_DIR is not set: say where the socket is");
        return NULL;
    }
    if (n < 0) {
        folder = NULL;
        err_set(err, -ENOMEM, "out of memory");
        return NULL;
    }
    if (make && mkdir(folder, 0700) < 0 && errno != EEXIST) {
        err_set_errno(err, -errno, "cannot make the folder '%s'", folder);
        return NULL;
    }
    return take_ptr(&folder);
}

int runtime_address(const char *said, const char *variable, const char *file, bool make_folder,
                    struct runtime_address *a, struct err *err)
{
    const char *from = said ? said : variable ? getenv(variable) : NULL;
    char *colon;

    *a = (struct runtime_address){ 0 };
    if (from && *from) {
        a->text = strdup(from);
    } else {
        autofree char *folder = runtime_folder(make_folder, err);

        if (!folder)
            return err->code;
        if (asprintf(&a->text, "%s/%s", folder, file) < 0)
            a->text = NULL;
    }
    if (!a->text)
        return err_set(err, -ENOMEM, "out of memory");
    colon = strrchr(a->text, ':');
    if (!strchr(a->text, '/') && colon) {
        *colon = '\0';
        a->inet = (struct inet_address){ .host = a->text, .port = colon + 1 };
        a->address = (struct socket_address){ ADDRESS_INET, &a->inet };
    } else {
        a->path = (struct unix_address){ .path = a->text };
        a->address = (struct socket_address){ ADDRESS_UNIX, &a->path };
    }
    return 0;
}

void runtime_address_done(struct runtime_address *a)
{
    free(a->text);
    *a = (struct runtime_address){ 0 };
}
