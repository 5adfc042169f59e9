/* SPDX-License-Identifier: MIT */
/*
 * For the tests of drivers/file*.c: rings, and nodes of these drivers without
 * a graph around them.  A test is a coroutine on the control ring.
 */
#ifndef TESTS_UNIT_FILE_NODE_H
#define TESTS_UNIT_FILE_NODE_H

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>

#include "base/cleanup.h"
#include "drivers/file.h"
#include "uring/ring.h"

extern const struct driver driver_file, driver_host_device, driver_host_cdrom;

enum { PLACE_MEMORY, PLACE_DISK, PLACES };

/* Directories of the test, on tmpfs and (hopefully) on a disk. */
static char place[PLACES][64];
static const char *const place_parent[PLACES] = { "/dev/shm", "/var/tmp" };

static inline void places_make(void)
{
    for (int i = 0; i < PLACES; i++) {
        snprintf(place[i], sizeof(place[i]), "%s/ringblk-file-XXXXXX", place_parent[i]);
        if (mkdtemp(place[i]))
            continue;
        perror(place[i]);
        exit(1);
    }
}

static inline void places_remove(void)
{
    for (int i = 0; i < PLACES; i++) {
        char command[200];
        snprintf(command, sizeof(command), "rm -rf '%s'", place[i]);
        if (system(command) != 0)
            fprintf(stderr, "%s is left behind\n", place[i]);
    }
}

/* A path in a place; good until the 8th call after. */
static inline const char *path_in(int where, const char *name)
{
    static char paths[8][200];
    static unsigned next;
    char *p = paths[next++ % 8];
    snprintf(p, sizeof(paths[0]), "%s/%s", place[where], name);
    return p;
}

/* A sparse file of @size bytes. */
static inline const char *file_make(int where, const char *name, uint64_t size)
{
    const char *path = path_in(where, name);
    autoclose int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, (off_t)size), 0);
    return path;
}

struct node_spec {
    const struct driver *driver; /* NULL: driver_file */
    const char *filename;
    bool read_only, auto_read_only, direct, force_share, no_locking;
    int aio;
    char *pr_manager;
};

static inline struct node *node_make(const struct node_spec *s)
{
    struct node *n = calloc(1, sizeof(*n) + (RINGS_MAX + 1) * sizeof(n->rings[0]));
    ck_assert_ptr_nonnull(n);
    n->driver = s->driver ? s->driver : &driver_file;
    n->name = (char *)"n";
    n->named = true;
    n->read_only = n->options.read_only = s->read_only;
    n->options.auto_read_only = s->auto_read_only;
    n->options.direct = s->direct;
    n->options.force_share = s->force_share;
    n->state = calloc(1, n->driver->state_size);
    ck_assert_ptr_nonnull(n->state);
    return n;
}

static inline int co_fn node_try(const struct node_spec *s, struct node **out, struct err *err)
{
    struct node *n = node_make(s);
    struct file_options o = {
        .filename = (char *)s->filename,
        .pr_manager = s->pr_manager,
        .locking = s->no_locking ? OOA_OFF : OOA_AUTO,
        .aio = s->aio,
    };
    int r = n->driver->open(n, &o, err);
    ck_assert_int_eq(r < 0, err->msg != NULL);
    if (r < 0) {
        free(n->state);
        free(n);
        n = NULL;
    }
    *out = n;
    return r;
}

static inline struct node *co_fn node_up(const struct node_spec *s)
{
    autoerr err = { 0 };
    struct node *n;
    int r = node_try(s, &n, &err);
    ck_assert_msg(r == 0, "%s", err.msg);
    return n;
}
#define NODE_UP(...) node_up(&(struct node_spec){ __VA_ARGS__ })

static inline void co_fn node_down(struct node *n)
{
    n->driver->close(n);
    free(n->state);
    free(n);
}

/* Opening fails with this code and sentence. */
static inline void co_fn refused(const struct node_spec *s, int code, const char *sentence)
{
    autoerr err = { 0 };
    struct node *n;
    int r = node_try(s, &n, &err);
    ck_assert_int_eq(r, code);
    ck_assert_int_eq(err.code, code);
    ck_assert_str_eq(err.msg, sentence);
}
#define REFUSED(code, sentence, ...) refused(&(struct node_spec){ __VA_ARGS__ }, code, sentence)

static inline int co_fn n_read(struct node *n, uint64_t offset, void *p, size_t len)
{
    struct span v = { .p = p, .len = len };
    return n->driver->read(n, NULL, offset, &v, 1, 0);
}

static inline int co_fn n_write(struct node *n, uint64_t offset, const void *p, size_t len,
                                unsigned flags)
{
    struct span v = { .p = (uint8_t *)p, .len = len };
    return n->driver->write(n, NULL, offset, &v, 1, flags);
}

/* Is every byte of the range @byte? */
static inline bool co_fn n_holds(struct node *n, uint64_t offset, size_t len, uint8_t byte)
{
    autofree uint8_t *p = aligned_alloc(4096, (len + 4095) & ~(size_t)4095);
    memset(p, ~byte, len);
    ck_assert_int_eq(n_read(n, offset, p, len), 0);
    for (size_t i = 0; i < len; i++)
        if (p[i] != byte)
            return false;
    return true;
}

static inline struct stat stat_of(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return st;
}

static inline bool on_tmpfs(const char *path)
{
    struct statfs fs;
    ck_assert_int_eq(statfs(path, &fs), 0);
    return fs.f_type == TMPFS_MAGIC;
}

static void (*body_now)(void);

static inline void body_run(void *arg)
{
    (void)arg;
    body_now();
    ring_stop();
}

/* Run @body in a coroutine on the control ring, with two data rings. */
static inline void on_rings(void (*body)(void))
{
    autoerr err = { 0 };
    struct rings_config config = { .count = 2, .no_pin = true };
    int r = rings_init(&config, &err);
    ck_assert_msg(r == 0, "%s", err.msg);
    body_now = body;
    ck_assert_int_eq(co_start(body_run, NULL, "test"), 0);
    ring_run();
    rings_exit();
}

#define RING_TEST(name)                                                                            \
    static void co_fn name##_body(void);                                                           \
    START_TEST(name)                                                                               \
    {                                                                                              \
        on_rings(name##_body);                                                                     \
    }                                                                                              \
    END_TEST                                                                                       \
    static void co_fn name##_body(void)

/* The suite's exit status. */
static inline int run_tests(const char *name, const TTest *const *tests, unsigned count)
{
    Suite *s = suite_create(name);
    TCase *t = tcase_create("all");
    for (unsigned i = 0; i < count; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    places_make(); /* removed here, too: a test that fails leaves its files */
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    places_remove();
    return failed != 0;
}

#endif
