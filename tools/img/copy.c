/* SPDX-License-Identifier: MIT */
/*
 * Copying an image, by several coroutines that each take the next piece: holes
 * and zeroes stay holes where they may, zeroes in between data are found, and
 * the kernel copies from file to file where that was asked for.
 */
#include "tools/img/copy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "uring/await.h"
#include "uring/ring.h"

enum { OFFLOAD_PIECE = 16 << 20, ZERO_PIECE = 1 << 30, ZERO_STEP = 4096 };
#define SECOND UINT64_C(1000000000)

/* A piece of the work: bytes of one source, at one place of the target. */
struct piece {
    struct image *from;
    uint64_t source_at, target_at, len;
    bool zero;
};

static int fail(struct copy *k, int error, const char *what, uint64_t at)
{
    if (!k->failed) {
        k->failed = error;
        k->failed_at = at;
        k->failed_what = what;
    }
    return error;
}

/* ---- finding work ---- */

static struct copy_source *source_at(struct copy *k, uint64_t *at)
{
    struct copy_source *s = k->sources;

    while (*at >= s->size) {
        *at -= s->size;
        s++;
    }
    return s;
}

/* False: nothing is left, or somebody failed. */
static bool co_fn next_piece(struct copy *k, struct piece *p)
{
    CO_GUARD(&k->turn);
    if (k->failed || k->at == k->length)
        return false;
    uint64_t at = k->skip + k->at, rest = k->length - k->at;
    struct copy_source *s = source_at(k, &at);
    struct extent e;
    uint64_t len = rest < s->size - at ? rest : s->size - at;
    int r = image_status(&s->image, at, len, &e);
    if (r < 0 && !k->salvage) {
        fail(k, r, "reading the metadata", k->at);
        return false;
    }
    if (r < 0)
        e = (struct extent){ .flags = EXTENT_DATA, .len = len };
    bool zero = e.flags & EXTENT_ZERO || !(e.flags & (EXTENT_DATA | EXTENT_ALLOCATED));
    uint64_t most = zero ? ZERO_PIECE : k->offload ? OFFLOAD_PIECE : COPY_PIECE;
    *p = (struct piece){ &s->image, at, k->at, e.len < most ? e.len : most, zero };
    k->at += p->len;
    return true;
}

/* ---- the kernel's copy ---- */

struct offload {
    int in, out;
    uint64_t from, to, len;
};

static int offload_work(void *arg)
{
    const struct offload *o = arg;
    off_t from = (off_t)o->from, to = (off_t)o->to;

    for (uint64_t left = o->len; left;) {
        ssize_t n = copy_file_range(o->in, &from, o->out, &to, left, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        left -= (uint64_t)n;
    }
    return 0;
}

/* Negative: not possible, or not wholly done; what was copied may be copied again. */
static int co_fn offload(struct copy *k, const struct piece *p)
{
    struct operation reading, writing;
    struct shortcut in, out;
    int r = -ENOTSUP;

    operation_enter(&reading, p->from->root);
    operation_enter(&writing, k->target->root);
    if (!k->target->writethrough &&
        shortcut_find(p->from->root, false, p->source_at, p->len, 0, &in) && !in.zero &&
        shortcut_find(k->target->root, true, p->target_at, p->len, 0, &out)) {
        struct offload o = { in.file.fd, out.file.fd, in.offset, out.offset, p->len };
        r = ring_block(offload_work, &o);
        shortcut_done(&in, false, p->len, r);
        shortcut_done(&out, true, p->len, r);
    }
    operation_end(&writing);
    operation_end(&reading);
    return r;
}

/* ---- our own ---- */

/* Wait until the rate allows @len bytes more. */
static void co_fn pace(struct copy *k, uint64_t len)
{
    uint64_t now = ring_now(), when = k->next_write > now ? k->next_write : now;

    if (!k->rate)
        return;
    k->next_write = when + (uint64_t)((double)len / (double)k->rate * (double)SECOND);
    if (when > now)
        co_sleep_until(when);
}

static int co_fn write_zero(struct copy *k, uint64_t at, uint64_t len)
{
    if (k->target_is_zero && k->sparse)
        return 0;
    return image_zero(k->target, at, len, k->sparse != 0);
}

static int co_fn write_data(struct copy *k, uint64_t at, const uint8_t *p, uint64_t len)
{
    pace(k, len);
    return image_write(k->target, at, p, len);
}

static uint64_t zero_run(const uint8_t *p, uint64_t len, uint64_t step)
{
    uint64_t n = 0;

    while (n < len) {
        uint64_t more = len - n < step ? len - n : step;
        if (!bytes_are_zero(p + n, more))
            break;
        n += more;
    }
    return n;
}

/* Bytes at the beginning of @p that are all zero and enough of them to be left out, or else are all to be
 * written. */
static uint64_t run_length(const struct copy *k, const uint8_t *p, uint64_t len, bool *zero)
{
    uint64_t step = k->sparse < ZERO_STEP ? k->sparse : ZERO_STEP, n = zero_run(p, len, step);

    *zero = n >= k->sparse || n == len;
    while (!*zero && n < len) {
        n += len - n < step ? len - n : step;
        uint64_t zeroes = zero_run(p + n, len - n, step);
        if (zeroes >= k->sparse || n + zeroes == len)
            break;
        n += zeroes;
    }
    return n;
}

static int co_fn write_piece(struct copy *k, uint64_t at, const uint8_t *p, uint64_t len)
{
    bool zero;
    int r = 0;

    if (!k->sparse)
        return write_data(k, at, p, len);
    while (len && r == 0) {
        uint64_t n = run_length(k, p, len, &zero);
        r = zero ? write_zero(k, at, n) : write_data(k, at, p, n);
        at += n;
        p += n;
        len -= n;
    }
    return r;
}

/* What can't be read, and no more than that, becomes zeroes. */
static int co_fn salvage(struct copy *k, const struct piece *p, uint8_t *buffer, uint64_t len)
{
    for (uint64_t at = 0; at < len; at += 512) {
        uint64_t n = len - at < 512 ? len - at : 512;
        int r = image_read(p->from, p->source_at + at, buffer + at, n);
        if (r == 0)
            continue;
        memset(buffer + at, 0, n);
        if (!k->quiet)
            img_error("warning: error while reading offset %" PRIu64 ": %s", p->source_at + at,
                      strerror(-r));
    }
    return 0;
}

static int co_fn copy_data(struct copy *k, struct piece *p, uint8_t *buffer)
{
    while (p->len) {
        uint64_t n = p->len < COPY_PIECE ? p->len : COPY_PIECE;
        int r = image_read(p->from, p->source_at, buffer, n);
        if (r < 0 && k->salvage)
            r = salvage(k, p, buffer, n);
        if (r < 0)
            return fail(k, r, "reading", p->source_at);
        r = write_piece(k, p->target_at, buffer, n);
        if (r < 0)
            return fail(k, r, "writing", p->target_at);
        p->source_at += n;
        p->target_at += n;
        p->len -= n;
    }
    return 0;
}

static int co_fn copy_piece(struct copy *k, struct piece *p, uint8_t *buffer)
{
    if (p->zero) {
        int r = write_zero(k, p->target_at, p->len);
        return r < 0 ? fail(k, r, "writing", p->target_at) : 0;
    }
    if (k->offload) {
        pace(k, p->len);
        if (offload(k, p) == 0)
            return 0;
        k->offload = false; /* it won't work the next time either */
    }
    return copy_data(k, p, buffer);
}

static int co_fn work(void *arg)
{
    struct copy *k = arg;
    autofree uint8_t *buffer = image_buffer(COPY_PIECE);
    struct piece p;

    if (!buffer)
        return fail(k, -ENOMEM, "copying", 0);
    while (next_piece(k, &p)) {
        uint64_t len = p.len;
        if (copy_piece(k, &p, buffer) < 0)
            break;
        k->done += len;
        progress_show(k->progress, k->done, k->length);
    }
    return 0;
}

int co_fn copy_run(struct copy *k)
{
    struct co_group group = { 0 };

    co_mutex_init(&k->turn, 0);
    for (unsigned i = 0; i < k->workers; i++)
        if (co_group_start(&group, work, k, "copy") < 0)
            fail(k, -ENOMEM, "copying", 0);
    co_group_wait(&group);
    if (k->failed)
        img_error("error while %s at byte %" PRIu64 ": %s", k->failed_what, k->failed_at,
                  strerror(-k->failed));
    return k->failed;
}
