/* SPDX-License-Identifier: MIT */
/*
 * Opening images by the names that people type: a path, file:PATH,
 * json:{...}, null-co://, or with --image-opts a description.  Where the format
 * was left out it is guessed, once, as the daemon guesses it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "block/edit.h"
#include "block/observe.h"
#include "block/options.h"
#include "block/probe.h"
#include "tools/img/img.h"
#include "uring/ring.h"

/* ---- names ---- */

/* key=value text writes a comma as two. */
static char *double_commas(const char *text)
{
    char *out = malloc(2 * strlen(text) + 1), *p = out;

    for (; out && *text; text++) {
        *p++ = *text;
        if (*text == ',')
            *p++ = ',';
    }
    if (out)
        *p = '\0';
    return out;
}

static int is_device(void *arg)
{
    const char *path = arg;
    struct stat st;

    return stat(path, &st) == 0 && (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode));
}

/* The protocol's part of a description: "file.driver=file,file.filename=PATH", without the "file." when
 * @prefix is empty.  NULL with err set when there is no such protocol. */
static char *co_fn protocol_text(const char *prefix, const char *name, struct err *err)
{
    size_t scheme = strcspn(name, ":/");
    autofree char *path = NULL;
    char *text = NULL;
    int r;

    if (!strcmp(name, "null-co://") || !strcmp(name, "null-aio://")) {
        r = asprintf(&text, "%sdriver=%.*s", prefix, (int)scheme, name);
    } else {
        if (name[scheme] == ':' && strncmp(name, "file:", 5)) {
            err_set(err, -ENOENT, "Unknown protocol '%.*s'", (int)scheme, name);
            return NULL;
        }
        name += name[scheme] == ':' ? 5 : 0;
        path = double_commas(name);
        r = !path ? -1
                  : asprintf(&text, "%sdriver=%s,%sfilename=%s", prefix,
                             ring_block(is_device, (char *)name) ? "host_device" : "file", prefix,
                             path);
    }
    if (r >= 0)
        return text;
    err_set(err, -ENOMEM, "out of memory");
    return NULL;
}

static void set_mode(struct blockdev_options *o, const struct image_mode *m)
{
    o->has_read_only = true;
    o->read_only = !m->writable;
    o->has_force_share = m->force_share;
    o->force_share = m->force_share;
    o->has_discard = true;
    o->discard = DISCARD_UNMAP;
    if (!o->cache)
        o->cache = calloc(1, sizeof(*o->cache));
    if (!o->cache)
        return;
    o->cache->has_direct = o->cache->has_no_flush = true;
    o->cache->direct = m->direct;
    o->cache->no_flush = m->no_flush;
}

/* @guessed: nobody said the format, so the image may not have other files opened by naming them. */
static int co_fn open_text(const char *text, const struct image_mode *mode, bool guessed,
                           struct node **out, struct err *err)
{
    struct blockdev_options o;

    if (row_parse_text(&row_blockdev_options, text, "driver", &o, err) < 0)
        return err->code;
    set_mode(&o, mode);
    o.guessed = guessed;
    node_open(&o, NULL, ROLE_FILE, out, err);
    row_release(&row_blockdev_options, &o);
    return err->code;
}

/* ---- formats ---- */

/* What the file looks like: a driver's name. */
static int co_fn guess(const char *name, const struct image_mode *mode, const char **format,
                       struct err *err)
{
    struct image_mode look = *mode;
    uint8_t first[NODE_GUARD_BYTES];
    autofree char *text = protocol_text("", name, err);
    struct node *n;
    size_t len;
    int r;

    look.writable = false;
    if (!text || open_text(text, &look, true, &n, err) < 0)
        return err->code;
    len = node_size(n) < sizeof(first) ? (size_t)node_size(n) : sizeof(first);
    r = io_read_control(n, 0, first, len);
    node_unref(n);
    if (r < 0)
        return err_set_errno(err, r, "cannot read it to find out its format");
    *format = probe_format(first, len);
    if (driver_by_name(*format))
        return 0;
    return err_set(err, -ENOTSUP,
                   "it looks like an image of format '%s', for which there is no driver here; say "
                   "-f raw if its bytes are meant",
                   *format);
}

static void warn_of_guess(const char *name)
{
    fflush(stdout);
    fprintf(stderr,
            "WARNING: Image format was not specified for '%s' and probing guessed raw.\n"
            "         Automatically detecting the format is dangerous for raw images, write "
            "operations on block 0 will be restricted.\n"
            "         Specify the 'raw' format explicitly to remove the restrictions.\n",
            name);
}

static int co_fn open_named(const char *name, const struct image_mode *mode, struct node **out,
                            struct err *err)
{
    const char *format = mode->format;
    autofree char *file = NULL, *text = NULL;

    if (!format && guess(name, mode, &format, err) < 0)
        return err->code;
    if (!driver_by_name(format))
        return err_set(err, -EINVAL, "Unknown driver '%s'", format);
    file = protocol_text("file.", name, err);
    if (!file)
        return err->code;
    if (asprintf(&text, "%s,%s", format, file) < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    if (open_text(text, mode, !mode->format, out, err) < 0)
        return err->code;
    if (!mode->format && !strcmp(format, "raw") && strncmp(name, "null-", 5)) {
        (*out)->guarded_raw = true; /* nobody can write to it yet */
        watch_refresh(*out);
        if (mode->writable)
            warn_of_guess(name);
    }
    return 0;
}

/* --image-opts: the file's driver may be left out when it has a name. */
static int co_fn open_described(const char *name, const struct image_mode *mode, struct node **out,
                                struct err *err)
{
    bool plain = strstr(name, "file.filename=") && !strstr(name, "file.driver=");
    autofree char *text = NULL;

    if (asprintf(&text, "%s%s", name, plain ? ",file.driver=file" : "") < 0) {
        text = NULL;
        return err_set(err, -ENOMEM, "out of memory");
    }
    return open_text(text, mode, false, out, err);
}

/* ---- images ---- */

/* Reading makes sense only while nobody writes.  What a writer does not share with other programs the file's
 * locks see to. */
static int co_fn attach(struct image *i, const struct image_mode *mode, struct err *err)
{
    unsigned perm = PERM_READ | (mode->writable ? PERM_WRITE | PERM_RESIZE : 0);
    unsigned shared =
        mode->force_share || mode->writable ? PERM_ALL : PERM_READ | PERM_WRITE_UNCHANGED;
    struct edit *edit;

    i->root = root_new("ringblk-img", ROOT_COMMAND, NULL, err);
    if (!i->root)
        return err->code;
    edit = edit_begin("open an image");
    if (edge_attach(NULL, i->root, i->node, "root", ROLE_FILE, perm, shared, &i->edge, err) < 0) {
        edit_abort(edit);
        return err->code;
    }
    if (edit_commit(edit, err) < 0)
        return err->code;
    if (!mode->writable || !track_needed(i->node, 1))
        return 0;
    i->tracked = track_require(i->node, err) == 0;
    return err->code;
}

int co_fn image_open(struct image *i, const char *name, const struct image_mode *mode,
                     struct err *err)
{
    int r;

    *i = (struct image){ .name = name, .writethrough = mode->writethrough };
    if (mode->described && mode->format)
        return err_set(err, -EINVAL, "--image-opts and --format are mutually exclusive");
    if (mode->described)
        r = open_described(name, mode, &i->node, err);
    else if (!strncmp(name, "json:", 5))
        r = open_text(name + 5, mode, false, &i->node, err);
    else
        r = open_named(name, mode, &i->node, err);
    if (r < 0)
        i->node = NULL;
    else
        r = attach(i, mode, err);
    if (r < 0) {
        image_close(i);
        err_prefix(err, "Could not open '%s'", name);
    }
    return r;
}

int co_fn image_close(struct image *i)
{
    struct operation o;
    int r = 0;

    if (!i->node)
        return 0;
    if (i->edge && i->edge->perm & PERM_WRITE) {
        operation_enter(&o, i->root);
        r = io_flush(&o, i->edge);
        operation_end(&o);
    }
    if (i->tracked)
        track_release(i->node);
    if (i->root) {
        struct edit *edit = edit_begin("close an image");
        autoerr err = { 0 };
        while (root_edge(i->root))
            edge_detach(root_edge(i->root));
        edit_commit(edit, &err);
        root_free(i->root);
    }
    node_unref(i->node);
    *i = (struct image){ 0 };
    return r;
}

/* ---- requests ---- */

void *image_buffer(size_t len)
{
    void *p;

    return posix_memalign(&p, 4096, len) == 0 ? p : NULL;
}

int co_fn image_read(struct image *i, uint64_t offset, void *p, size_t len)
{
    const struct span v = { .p = p, .len = len };
    struct operation o;
    int r;

    operation_enter(&o, i->root);
    r = io_read(&o, i->edge, offset, &v, 1, 0);
    operation_end(&o);
    return r;
}

int co_fn image_write(struct image *i, uint64_t offset, const void *p, size_t len)
{
    const struct span v = { .p = (uint8_t *)p, .len = len };
    struct operation o;
    int r;

    operation_enter(&o, i->root);
    r = io_write(&o, i->edge, offset, &v, 1, i->writethrough ? IO_FUA : 0);
    operation_end(&o);
    return r;
}

int co_fn image_zero(struct image *i, uint64_t offset, uint64_t len, bool unmap)
{
    struct operation o;
    int r;

    operation_enter(&o, i->root);
    r = io_zero(&o, i->edge, offset, len,
                (unmap ? IO_MAY_UNMAP : 0) | (i->writethrough ? IO_FUA : 0));
    operation_end(&o);
    return r;
}

int co_fn image_status(struct image *i, uint64_t offset, uint64_t len, struct extent *out)
{
    struct operation o;
    int r;

    operation_enter(&o, i->root);
    r = io_status(&o, i->edge, offset, len, true, out);
    operation_end(&o);
    return r;
}
