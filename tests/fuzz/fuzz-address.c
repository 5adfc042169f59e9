/* SPDX-License-Identifier: MIT */
/*
 * Socket addresses from any text, in both forms of the schema: what is taken
 * has a text, and prints as JSON that is taken again and means the same.  A
 * name in the abstract name space is listened on and connected to, and the
 * kernel's idea of it is ours.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/address.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An abstract name is nobody else's business: prefixed, so that parallel runs don't meet. */
static void check_listening(const struct unix_address *given)
{
    char path[256];
    struct unix_address mine = *given;
    struct socket_address a = { ADDRESS_UNIX, &mine };
    int fds[1] = { -1 };
    unsigned count = 1;
    autoerr err = { 0 };

    if (!given->has_abstract || !given->abstract)
        return;
    snprintf(path, sizeof(path), "ringblk-fuzz-%d-%s", (int)getpid(), given->path);
    mine.path = path;
    if (address_listen(&a, NULL, NULL, fds, &count, &err) < 0) {
        if (!err.msg || fds[0] >= 0)
            abort();
        return;
    }
    autoclose int listening = fds[0];
    autoclose int connected = address_connect(&a, NULL, NULL, &err);
    if (connected < 0 || count != 1)
        abort();
    autofree char *ours = address_text(&a), *kernels = address_of_socket(listening, false);
    autofree char *peers = address_of_socket(connected, true);
    if (strcmp(ours, kernels) || strcmp(ours, peers))
        abort();
    address_unlink(&a);
}

static void check_value(const struct row_type *type, const struct socket_address *a)
{
    struct socket_address again, copy;
    autofree char *text = address_text(a), *json = row_text(type, a), *second = NULL;
    autoerr err = { 0 };

    if (!text || !json)
        abort();
    /* Bytes that are not UTF-8 can't be repeated in JSON. */
    if (row_parse_text(type, json, NULL, &again, &err) < 0)
        abort();
    second = address_text(&again);
    if (!strstr(json, "\\uFFFD") && (strcmp(text, second) || !row_equal(type, a, &again)))
        abort();
    if (row_copy(type, a, &copy) < 0 || !row_equal(type, a, &copy))
        abort();
    if (a->type == ADDRESS_UNIX)
        check_listening(a->u);
    row_release(type, &again);
    row_release(type, &copy);
}

static void check_type(const struct row_type *type, const char *text, const char *implied)
{
    struct socket_address a;
    autoerr err = { 0 };

    if (row_parse_text(type, text, implied, &a, &err) < 0) {
        if (!err.msg)
            abort();
        return;
    }
    check_value(type, &a);
    row_release(type, &a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    memcpy(text, data, size);
    text[size] = 0;
    check_type(&row_socket_address, text, "type");
    check_type(&row_socket_address_legacy, text, NULL);
    free(text);
    return 0;
}
